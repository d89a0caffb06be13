"""Functions that tests run in forked ranks (see `tests.support.warm`)."""

from __future__ import annotations

import os
from typing import Any


def prepare(run_dir: str) -> int:
    """The stage `prepare`, as its own process would run it."""
    from launcher.worker import stage

    return stage.main(run_dir, "prepare")


def rank(run_dir: str) -> None:
    """One training rank, as torchrun would start it; ends with the worker's exit code."""
    from launcher.worker import main

    raise SystemExit(main.main(run_dir, os.getppid()))


def prepared(run_dir: str, label: str) -> dict[str, Any]:
    """The prepared rows of one set."""
    from datasets import load_from_disk

    from launcher.runs.paths import RunDir

    return dict(load_from_disk(RunDir(_path(run_dir)).prepared(label))[:])


def _path(text: str) -> Any:
    from pathlib import Path

    return Path(text)
