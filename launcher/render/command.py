"""Jobs as commands: argument lists for executors, quoted lines for people. No value reaches a shell unquoted."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from launcher.plan.jobs import HEAD, MEETING, NODE_RANK, PORT, PYTHON, RENDEZVOUS_PORT, RUN_DIR
from launcher.plan.types import Job

_HOST = "HOST"


def command(job: Job, run_dir: Path | str, python: str) -> list[str]:
    """The argument list of a job on one node.

    Args:
        job: a job of one node.
        run_dir: the run directory.
        python: the interpreter that has the training packages.
    """
    return _filled(job, {PYTHON: python, RUN_DIR: str(run_dir)})


def node_commands(job: Job, run_dir: Path | str, python: str, *, host: str = _HOST) -> list[list[str]]:
    """One argument list for each node of a job; all meet at `host`, the name of the first node."""
    words = {PYTHON: python, RUN_DIR: str(run_dir), HEAD: host, PORT: str(RENDEZVOUS_PORT), MEETING: Path(run_dir).name}
    return [_filled(job, {**words, NODE_RANK: str(rank)}) for rank in range(job.nodes)]


def shell_lines(job: Job, run_dir: Path | str, python: str) -> list[str]:
    """The job as lines a person can paste into a shell, its environment in front; one for each node."""
    commands = [command(job, run_dir, python)] if job.nodes == 1 else node_commands(job, run_dir, python)
    return [f"{environment(job.env)}{shlex.join(argv)}" for argv in commands]


def environment(variables: Mapping[str, str]) -> str:
    """Variables as they stand in front of a command: `A=1 B='x y' `."""
    return "".join(f"{name}={shlex.quote(value)} " for name, value in variables.items())


def _filled(job: Job, words: Mapping[str, str]) -> list[str]:
    return [words.get(argument, argument) for argument in job.argv]


def run_line(
    recipe: str,
    *,
    sets: Sequence[str],
    cluster: str,
    gpus: str | None,
    runs: str | None = None,
    account: str | None = None,
) -> str:
    """The `launcher run` line that starts what was planned, quoted for a shell.

    Args:
        recipe: path of the recipe as it was typed.
        sets: `--set` values as they were typed.
        cluster: name of the cluster, with its queue.
        gpus: `--gpus` as it was typed.
        runs: `--runs` as it was typed; None where it is the default.
        account: `--account` as it was typed.
    """
    words = ["launcher", "run", recipe]
    words += [] if cluster == "local" else ["--cluster", cluster]
    words += [] if account is None else ["--account", account]
    words += [] if gpus is None else ["--gpus", gpus]
    words += [word for each in sets for word in ("--set", each)]
    words += [] if runs is None else ["--runs", runs]
    return shlex.join(words)


def render_line(run: str) -> str:
    """The `launcher render` line that writes the files of a `launcher run` line, for a folder to be named."""
    words = shlex.split(run)
    at = words.index("--runs") if "--runs" in words else len(words)
    return shlex.join(["launcher", "render", *words[2:at], *words[at + 2 :]]) + " --out DIR"


def plan_line(run: str, *, on: str | None = None) -> str:
    """The `launcher plan` line of a `launcher run` line; for hardware that is not here, with its `--on`."""
    words = shlex.split(run)
    return shlex.join(["launcher", "plan", *words[2:], *([] if on is None else ["--on", on])])


def without(line: str, sets: Sequence[str]) -> str:
    """A line without the `--set` of keys that `sets` give anew."""
    words, keys = shlex.split(line), {each.partition("=")[0] for each in sets}
    old = {at for at, word in enumerate(words) if words[at - 1] == "--set" and word.partition("=")[0] in keys}
    return shlex.join(word for at, word in enumerate(words) if at not in old and at + 1 not in old)


def advise_line(plan: str) -> str:
    """The line that looks for other GPUs than a `launcher plan` line does: its recipe and its `--set` alone."""
    words = shlex.split(plan)
    sets = [word for at, word in enumerate(words) if word == "--set" or words[at - 1] == "--set"]
    return shlex.join([*words[:3], *sets, "--advise"])
