"""Checkpoints of a run: written aside, described, then renamed to where they count. Old ones leave when new ones are whole."""

from __future__ import annotations

import shutil
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from launcher.plan import codec
from launcher.runs import checkpoints, events
from launcher.runs.files import sha256_file, write_json
from launcher.worker.job import Job, sha256_json

SCHEMA = 1
_PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "bitsandbytes")


class CheckpointStore:
    """Where one attempt writes its checkpoints, and which of them stay. Only rank 0 commits."""

    def __init__(self, job: Job, attempt: int, world_size: int) -> None:
        self.run_dir = job.run_dir
        self.plan = job.plan
        self.data = job.data_facts()
        self.world_size = world_size
        self.staging = job.run_dir.staging / f"attempt-{attempt}"
        self._started = 0.0

    def begin(self, step: int) -> None:
        """Note that a checkpoint is being written."""
        self._started = time.monotonic()
        events.append(self.run_dir.events, "save", step=step)

    def commit(self, step: int) -> Path:
        """Describe the staged checkpoint of `step`, rename it into place, and let old ones go.

        Raises:
            OSError: it could not be written; what was committed before is untouched.
        """
        staged = self.staging / f"checkpoint-{step}"
        write_json(staged / checkpoints.MANIFEST, self._manifest(staged, step))
        target = self.run_dir.checkpoints / staged.name
        if target.exists():  # a broken one that was passed over at the start
            self._remove(target)
        staged.rename(target)
        seconds = round(time.monotonic() - self._started, 3)
        events.append(self.run_dir.events, "commit", step=step, checkpoint=target.name, seconds=seconds)
        self._retire()
        return target

    def abandon(self) -> None:
        """Give back the space of a checkpoint that could not be written."""
        shutil.rmtree(self.staging, ignore_errors=True)

    def _manifest(self, staged: Path, step: int) -> dict[str, Any]:
        files = sorted(path for path in staged.rglob("*") if path.is_file())
        return {
            "schema": SCHEMA,
            "step": step,
            "time": round(time.time(), 3),
            "world_size": self.world_size,
            "strategy": self.plan.strategy,
            "plan": codec.digest(self.plan),
            "identity": sha256_json(self.plan.identity),
            "data": sha256_file(self.run_dir.data_facts),
            "rows": self.data["sets"]["train"]["sha256"],
            "versions": {name: version(name) for name in _PACKAGES},
            "files": {path.relative_to(staged).as_posix(): path.stat().st_size for path in files},
        }

    def _retire(self) -> None:
        whole = checkpoints.complete(self.run_dir)
        best = self._best({each.step for each in whole})
        for old in whole[self.plan.checkpoint.keep :]:
            if old.step != best:
                self._remove(old.path)

    def _best(self, steps: set[int]) -> int | None:
        """Of the given steps, the one with the lowest value of the metric to keep (`eval_LABEL_loss`)."""
        metric = self.plan.checkpoint.keep_best
        if metric is None:
            return None
        seen = (event for event in events.read(self.run_dir.events) if event["event"] == "eval")
        losses = {e["step"]: e["loss"] for e in seen if e["step"] in steps and f"eval_{e['dataset']}_loss" == metric}
        return min(losses, key=lambda step: (losses[step], step), default=None)

    def _remove(self, folder: Path) -> None:
        """Rename before deleting, so that a kill leaves no half of a checkpoint under its name."""
        aside = self.staging / f"old-{folder.name}"
        shutil.rmtree(aside, ignore_errors=True)
        aside.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)
