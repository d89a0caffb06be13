"""A plan as a folder of files to read, edit and start by hand."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from launcher.errors import EnvironmentFault
from launcher.plan import codec, pins
from launcher.plan.jobs import RUN_DIR
from launcher.plan.make import Planned
from launcher.plan.types import Plan
from launcher.render import plan_page
from launcher.render.command import shell_lines
from launcher.render.plan_text import plan_text
from launcher.render.recipe_yaml import recipe_yaml
from launcher.render.sharding import accelerate_yaml, deepspeed_json
from launcher.runs.paths import RunDir


def texts(planned: Planned, folder: Path, *, next_line: str | None = None) -> dict[Path, str]:
    """Path → text of every rendered file, for a run in `folder`."""
    run = RunDir(folder)
    deepspeed = deepspeed_json(planned.plan)
    return {
        run.plan: codec.dumps(planned.plan),
        run.plan_text: markdown(planned.plan, run_dir=folder.name, next_line=next_line),
        run.plan_page: plan_page.html(planned.plan, next_line=next_line),
        run.recipe: recipe_yaml(planned.plan),
        run.placement: json.dumps(planned.placement, indent=2, ensure_ascii=False) + "\n",
        run.commands: commands(planned.plan),
        run.accelerate: accelerate_yaml(planned.plan),
        **({run.deepspeed: deepspeed} if deepspeed else {}),
        **({run.hub: pins.dumps(planned.pins)} if planned.pins else {}),
    }


def write(planned: Planned, folder: Path, *, next_line: str | None = None) -> tuple[Path, ...]:
    """Write the rendered files; existing ones are replaced.

    Raises:
        EnvironmentFault: the folder cannot be written.
    """
    files = texts(planned, folder, next_line=next_line)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in files.items():
            path.write_text(text, encoding="utf-8")
    except OSError as fault:
        raise EnvironmentFault(f"{folder} cannot be written: {fault.strerror}") from None
    return tuple(files)


def markdown(plan: Plan, *, run_dir: str, next_line: str | None = None) -> str:
    """`plan.md`: the plan's text, kept in its columns."""
    return f"# Plan of {plan.name}\n\n```\n{plan_text(plan, run_dir=run_dir, next_line=next_line)}```\n"


def commands(plan: Plan) -> str:
    """`commands.sh`: the stages in order, each line as it would be typed; the folder it lies in may move."""
    lines = [
        "#!/bin/sh",
        f"# The stages of {plan.name}, in order. `python` is the one with the training packages.",
        "set -e",
        'run=$(cd "$(dirname "$0")" && pwd)',
    ]
    for job in plan.jobs:
        where = "" if job.nodes == 1 else f" (one line on each of {job.nodes} nodes; HOST is the name of the first)"
        here = [line.replace(shlex.quote(RUN_DIR), '"$run"') for line in shell_lines(job, RUN_DIR, "python")]
        lines += ["", f"# {job.stage}{where}", *here]
    return "\n".join(lines) + "\n"
