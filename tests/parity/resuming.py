"""Trainings that are killed and go on, perhaps on another number of ranks; and what they have trained in the end."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher.plan import codec
from launcher.plan.types import Plan
from launcher.runs import events
from launcher.runs.paths import RunDir
from tests.support import trained, warm

KILLED, DONE = -9, 0
Ledger = dict[int, list[int]]
"""Step → the rows of its global batch, in the order of micro-batches and, within each, of ranks."""


@dataclass(frozen=True)
class Part:
    """One start of a run: its plan, and after how many steps all its ranks are killed (None: it ends by itself).

    They are killed when the checkpoint before that step counts: it is written beside training, however fast that is.
    """

    plan: Plan
    kill_at: int | None = None

    @property
    def goes_on_at(self) -> int | None:
        """Step of the checkpoint that is on the disk when the ranks are killed."""
        return None if self.kill_at is None else self.kill_at - self.kill_at % self.plan.checkpoint.save_steps


def copied(prepared: RunDir, name: str) -> RunDir:
    """A run directory of its own, with the same prepared data."""
    return RunDir(shutil.copytree(prepared.root, prepared.root.parent / name))


def run(run_dir: RunDir, parts: Sequence[Part]) -> RunDir:
    """Train one part after the other."""
    for attempt, part in enumerate(parts, start=1):
        run_dir.plan.write_text(codec.dumps(part.plan), encoding="utf-8")
        ranks = part.plan.batch.world_size
        args = {"run_dir": str(run_dir.root), "kill_at": part.kill_at, "behind": part.goes_on_at}
        result = warm.run(
            "tests.parity.resume_cases:rank", args, ranks=ranks, torchrun=True, env={"LAUNCHER_ATTEMPT": str(attempt)}
        )  # fmt: skip
        log = "\n".join(run_dir.rank_log(attempt, rank).read_text()[-2000:] for rank in range(ranks))
        assert set(result.codes) == {DONE if part.kill_at is None else KILLED}, f"{result.codes} {result.logs} {log}"
    return run_dir


def resumed_at(run_dir: RunDir) -> list[int]:
    """Step from which each start but the first went on; 0 where it began anew."""
    return [event["step"] for event in events.read(run_dir.events) if event["event"] == "start"][1:]


def ledger(run_dir: RunDir, parts: Sequence[Part]) -> Ledger:
    """The rows of each step that counts: of steps that were trained twice, those of the last time."""
    found: Ledger = {}
    for attempt, part in enumerate(parts, start=1):
        ranks = [_lines(run_dir.root / f"ledger-{attempt}-{rank}.jsonl") for rank in range(part.plan.batch.world_size)]
        trained_now: Ledger = {}
        for micro in zip(*ranks, strict=part.kill_at is None):  # killed ranks stand at slightly different places
            assert len({step for step, _ in micro}) == 1, micro
            trained_now.setdefault(micro[0][0], []).extend(row for _, rows in micro for row in rows)
        found |= trained_now
    return found


def _lines(path: Path) -> list[tuple[int, list[int]]]:
    return [tuple(json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []


def state(run_dir: RunDir) -> dict[str, str]:
    """What stands in the newest checkpoint beside the weights, and the weights of the result, as hashes."""
    newest = max(run_dir.checkpoints.glob("checkpoint-*"), key=lambda path: int(path.name.removeprefix("checkpoint-")))
    found = warm.run("tests.parity.resume_cases:contents", {"checkpoint": str(newest)}).value
    return {**found, "model": trained.weights(run_dir.model), "checkpoint": newest.name}
