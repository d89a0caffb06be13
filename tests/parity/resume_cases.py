"""Functions that the resume tests run in forked ranks (see `tests.support.warm`)."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from collections import deque
from pathlib import Path
from typing import Any

from launcher.runs import checkpoints
from launcher.runs.paths import RunDir
from tests.support.until import until


def rank(run_dir: str, kill_at: int | None = None, behind: int | None = None) -> None:
    """One training rank that writes which rows it trains at which step.

    SIGKILL ends it where `kill_at` steps are done and the checkpoint of step `behind` counts.
    """
    import datasets

    from launcher.worker import main
    from launcher.worker.trainer import Trainer

    run, fetched = RunDir(Path(run_dir)), deque[list[int]]()
    get_rows, train_step = datasets.Dataset.__getitems__, Trainer.training_step
    ledger = run.root / f"ledger-{os.environ['LAUNCHER_ATTEMPT']}-{os.environ['RANK']}.jsonl"

    def noted(self: Any, keys: list[int]) -> Any:
        fetched.append(keys)  # batches are fetched a step ahead, and trained in the order in which they were fetched
        return get_rows(self, keys)

    def training_step(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step == kill_at:
            until(lambda: not behind or behind in dict(checkpoints.folders(run)))
            os.kill(os.getpid(), signal.SIGKILL)
        with ledger.open("a") as file:
            file.write(json.dumps([self.state.global_step + 1, fetched.popleft()]) + "\n")
        return train_step(self, *args, **kwargs)

    datasets.Dataset.__getitems__ = noted
    Trainer.training_step = training_step
    raise SystemExit(main.main(run_dir, os.getppid()))


def contents(checkpoint: str) -> dict[str, str]:
    """File → sha256 of every value in it, for the files of a checkpoint that hold more than weights."""
    import torch

    found = {}
    for path in sorted(Path(checkpoint).iterdir()):
        if path.name in ("optimizer.pt", "scheduler.pt") or path.name.startswith("rng_state"):
            digest = hashlib.sha256()
            _feed(digest, torch.load(path, weights_only=False))
            found[path.name] = digest.hexdigest()
    return found


def _feed(digest: Any, value: Any) -> None:
    import numpy as np
    import torch

    if isinstance(value, dict):
        value = [part for pair in value.items() for part in pair]
    if isinstance(value, torch.Tensor):
        digest.update(f"{value.dtype}{tuple(value.shape)}".encode())
        value = value.contiguous().flatten().view(torch.uint8).numpy()
    if isinstance(value, np.ndarray):
        digest.update(value.tobytes())
    elif isinstance(value, list | tuple):
        for part in value:
            _feed(digest, part)
    else:
        digest.update(repr(value).encode())
