"""Run directories whose stages are small scripts: the executor's own behaviour, without the cost of training."""

import dataclasses
import json
import sys
from pathlib import Path

from launcher.plan import codec
from launcher.plan.types import Decision, Job, RestartPlan
from launcher.runs.paths import RunDir
from tests.support import tiny

NOTE = """
import json, os, sys, time
def note(who, code, cause, error=None, hint=None):
    folder = f"{run}/attempts/{os.environ['LAUNCHER_ATTEMPT']}"
    facts = {"code": code, "cause": cause, "error": error, "hint": hint, "time": time.time(), "log": None}
    open(f"{folder}/exit-{who}.json", "w").write(json.dumps(facts))
run = sys.argv[1]
"""


def job(stage, script, processes=1):
    return Job(stage, ("{python}", "-c", NOTE + script, "{run_dir}"), {}, nodes=1, processes=processes)


def made(*jobs: Job, **identity):
    decisions = (Decision("device", "cpu", "there is no GPU"),)
    once = RestartPlan(max_requeues=0)
    return dataclasses.replace(
        tiny.plan(), jobs=jobs, identity=identity or {"training.seed": 42}, decisions=decisions, restart=once
    )


def run_dir(root: Path, *jobs: Job, **restart) -> RunDir:
    """One attempt only, unless `restart` says otherwise."""
    plan = made(*jobs)
    return tiny.run_dir(root, dataclasses.replace(plan, restart=dataclasses.replace(plan.restart, **restart)), {})


def replan(run_dir: RunDir, **fields) -> None:
    """Change top-level fields of the run's plan."""
    plan = codec.loads(run_dir.plan.read_text())
    run_dir.plan.write_text(codec.dumps(dataclasses.replace(plan, **fields)))


def launch(run_dir: RunDir) -> list[str]:
    return [sys.executable, "-m", "launcher", "run", str(run_dir.root)]


def facts(run_dir: RunDir, attempt: int = 1) -> dict:
    return json.loads((run_dir.attempt(attempt) / "attempt.json").read_text())
