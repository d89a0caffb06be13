"""What faults are tried on: small prepared runs, and beside each what the same run does when nobody disturbs it."""

from __future__ import annotations

import functools
import json
import shutil
import statistics
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from launcher.plan import codec
from launcher.plan.types import Plan
from launcher.runs import events
from launcher.runs.files import read_json
from launcher.runs.paths import RunDir
from tests.support import tiny, trained, warm

Case = Literal["full", "lora", "full x2", "lora x2"]
ONE_RANK: tuple[Case, ...] = ("full", "lora")
TWO_RANKS: tuple[Case, ...] = ("full x2", "lora x2")
STEPS = 16
"""Steps of a whole run: two epochs of 30 rows, 4 at a time."""
KEEP = 2
_ROWS = tiny.messages(30)
_LORA = {**tiny.LORA, "lora_dropout": 0.1}
"""With dropout, so that a random state that was not restored shows in the weights."""

Step = tuple[float, float]
"""Loss and gradient norm: two runs that agree in both have seen the same rows with the same weights."""


@dataclass(frozen=True)
class Bed:
    """One case: how it starts, and how it goes undisturbed."""

    case: Case
    ranks: int
    plan: Plan
    prepared: RunDir
    """Data prepared, nothing trained; keeps two checkpoints."""
    whole: RunDir
    """Trained to the end without a fault, with a checkpoint of each step."""
    steps: dict[int, Step]
    weights: str
    """sha256 of the result."""
    save_s: float
    """Seconds from the beginning of a save until it is committed: the median."""

    def fresh(self, root: Path) -> RunDir:
        """A run before its first start."""
        shutil.copytree(self.prepared.root, root)
        return RunDir(root)

    def stopped_at(self, root: Path, saved: Iterable[int]) -> RunDir:
        """A run that was killed after the last of the steps `saved`; its checkpoints are the whole run's."""
        run, last = self.fresh(root), max(saved)
        run.checkpoints.mkdir()
        for step in saved:
            shutil.copytree(self.whole.checkpoints / f"checkpoint-{step}", run.checkpoints / f"checkpoint-{step}")
        shutil.copytree(self.whole.attempt(1), run.attempt(1), dirs_exist_ok=True)
        past = [event for event in events.read(self.whole.events) if event.get("step", 0) <= last]
        run.events.write_text("".join(json.dumps(event) + "\n" for event in past if event["event"] != "end"))
        return run

    def unlike(self, happened: Iterable[dict[str, Any]]) -> str | None:
        """The first step among these events that went otherwise than in the whole run."""
        for event in happened:
            if event["event"] == "step" and self.steps.get(event["step"]) != of_event(event):
                return f"step {event['step']}: {of_event(event)}, undisturbed {self.steps.get(event['step'])}"
        return None


@functools.cache
def bed(case: Case, *, steps: int = STEPS, save_steps: int = 1, evaluated: bool = False) -> Bed:
    """Prepare and train a case once per process; `evaluated`: with an eval loss every `save_steps` steps."""
    root = Path(tempfile.mkdtemp(prefix="faults-bed-"))
    ranks = 2 if case.endswith("x2") else 1
    peft = _LORA if case.startswith("lora") else None
    common: dict[str, Any] = {
        "peft": peft, "world_size": ranks, "save_steps": save_steps, "max_steps": steps, "epochs": steps / 8
    }  # fmt: skip
    if evaluated:
        common |= {"eval_sources": tiny.held_out("held", 0.2), "eval_steps": save_steps}
    whole = trained.run_dir(root / "whole", tiny.plan(keep=steps, **common), _ROWS)
    plan = tiny.plan(keep=KEEP, **common)
    shutil.copytree(whole.root, root / "prepared")
    prepared = RunDir(root / "prepared")
    prepared.plan.write_text(codec.dumps(plan), encoding="utf-8")
    trained.train(whole, ranks=ranks)
    happened = events.read(whole.events)
    seen = {e["step"]: of_event(e) for e in happened if e["event"] == "step"}
    save_s = statistics.median(e["seconds"] for e in happened if e["event"] == "commit")
    assert sorted(seen) == list(range(1, steps + 1)), "the undisturbed run did not report each of its steps"
    return Bed(case, ranks, plan, prepared, whole, seen, trained.weights(whole.model), save_s)


def start(run: RunDir, attempt: int, ranks: int, **faults: Any) -> warm.Job:
    """Start an attempt in forked ranks; `faults` go to `tests.faults.ranks:rank`."""
    run.logs(attempt).mkdir(parents=True, exist_ok=True)
    env = {"LAUNCHER_ATTEMPT": str(attempt), MARK: str(run.root)}
    args = {"run_dir": str(run.root), **faults}
    return warm.start("tests.faults.ranks:rank", args, ranks=ranks, torchrun=True, env=env)


MARK = "LAUNCHER_FAULT_TRIAL"
"""Environment variable by which processes of a trial are found again."""


def of_event(event: dict[str, Any]) -> Step:
    """Loss and gradient norm of a `step` event."""
    return (float(event["loss"]), float(event["grad_norm"]))


def said(run: RunDir, attempt: int, ranks: int) -> str:
    """The last words of each rank of an attempt: its note, or the end of its log."""
    return "; ".join(f"rank {rank}: {_words(run, attempt, rank)}" for rank in range(ranks))


def _words(run: RunDir, attempt: int, rank: int) -> str:
    note = read_json(run.rank_exit(attempt, rank))
    if note:
        return f"{note.get('code')} {note.get('error')}"
    log = run.rank_log(attempt, rank)
    return log.read_text(errors="replace")[-300:].replace("\n", " ") if log.is_file() else "no log"
