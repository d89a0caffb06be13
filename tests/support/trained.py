"""Run prepare and training of a hand-made plan, in forked ranks, and read what they left."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launcher.plan.types import Plan
from launcher.runs import events
from launcher.runs.paths import RunDir
from tests.support import tiny, warm


def run_dir(root: Path, plan: Plan, rows: list[dict[str, Any]], **placement: str) -> RunDir:
    """A run directory with a tiny model, its tokenizer and `rows` as the training source, prepared."""
    model = tiny.model(root.parent / "model")
    data = tiny.jsonl(root.parent / "train.jsonl", rows)
    run = tiny.run_dir(root, plan, {"model": str(model), "data.train": str(data), **placement})
    prepare(run)
    return run


def prepare(run: RunDir, *, code: int = 0, env: Mapping[str, str | None] | None = None) -> dict[str, Any]:
    """Run the stage `prepare`; returns its note after checking the exit code."""
    variables = {"LAUNCHER_ATTEMPT": "1", **(env or {})}
    result = warm.run("tests.support.cases:prepare", {"run_dir": str(run.root)}, env=variables)
    note = dict(json.loads((run.attempt(1) / "exit-prepare.json").read_text()))
    assert result.value == code == note["code"], result.logs[0]
    return note


def start(run: RunDir, *, ranks: int = 1, attempt: int = 1, env: Mapping[str, str | None] | None = None) -> warm.Job:
    """Start training as torchrun would."""
    variables = {"LAUNCHER_ATTEMPT": str(attempt), **(env or {})}
    return warm.start("tests.support.cases:rank", {"run_dir": str(run.root)}, ranks=ranks, torchrun=True, env=variables)


def train(run: RunDir, *, ranks: int = 1, attempt: int = 1, code: int = 0) -> None:
    """Train to the end and check the exit code of every rank."""
    result = start(run, ranks=ranks, attempt=attempt).wait()
    logs = "\n".join(run.rank_log(attempt, rank).read_text() for rank in range(ranks))
    assert set(result.codes) == {code}, f"{result.codes}\n{result.logs}\n{logs[-4000:]}"


def kill_at(run: RunDir, job: warm.Job, step: int) -> None:
    """SIGKILL every rank as soon as the run has reported `step`."""
    deadline = time.monotonic() + 60
    while not any(event["event"] == "step" and event["step"] >= step for event in events.read(run.events)):
        assert time.monotonic() < deadline, f"step {step} never came"
        time.sleep(0.002)
    job.kill()
    codes = set(job.wait().codes)
    assert codes == {-9}, f"the run was over before it could be killed: {codes}"


def facts(run: RunDir) -> dict[str, Any]:
    """`data.json`."""
    return dict(json.loads(run.data_facts.read_text()))


def texts(run: RunDir, label: str) -> list[str]:
    """The prepared rows of one set as text, without marks."""
    rows = warm.run("tests.support.cases:marked", {"run_dir": str(run.root), "label": label}).value
    return [row.replace("⟦", "").replace("⟧", "") for row in rows]


def losses(run: RunDir) -> list[float]:
    """The training loss of each step; of steps that ran twice, the last one."""
    found = {event["step"]: event["loss"] for event in events.read(run.events) if event["event"] == "step"}
    return [found[step] for step in sorted(found)]


def weights(folder: Path) -> str:
    """sha256 of the one weights file of a folder."""
    files = sorted(folder.glob("*.safetensors"))
    assert len(files) == 1, files
    return hashlib.sha256(files[0].read_bytes()).hexdigest()


def note(run: RunDir, rank: int = 0, attempt: int = 1) -> dict[str, Any]:
    """`exit-R.json` of one rank."""
    return dict(json.loads(run.rank_exit(attempt, rank).read_text()))
