"""What the forked ranks of `test_links.py` run."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any


def check(run_dir: str, liar: int | None = None) -> dict[str, Any]:
    """Check the links of real ranks; `liar` is one that gives other numbers than it should, as a damaged link would."""
    import torch
    from transformers import TrainingArguments

    from launcher.runs.paths import RunDir
    from launcher.worker import links
    from launcher.worker.faults import RankFailed
    from launcher.worker.job import Job

    rank = int(os.environ.get("RANK", "0"))
    args = TrainingArguments(output_dir=run_dir, use_cpu=True, report_to="none")
    job: Any = Job(RunDir(Path(run_dir)), None, {})  # type: ignore[arg-type]
    before = torch.get_rng_state()
    began, error = time.monotonic(), None
    try:
        links.check(job, args, rank + 7 if rank == liar else rank)
    except RankFailed as failed:
        error = [failed.cause, failed.message]
    seconds = time.monotonic() - began
    return {"error": error, "seconds": seconds, "same_random": torch.equal(before, torch.get_rng_state())}
