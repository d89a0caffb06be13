"""What a job beside the training does. submitit pickles the name of this function, the run's path and the stage."""

from __future__ import annotations

import os
from pathlib import Path

from launcher.errors import RunFailed


def run_stage(run_dir: str, stage: str) -> int:
    """Run one stage of a run in the SLURM job around this process.

    Raises:
        RunFailed: it did not end well; the job fails, and those behind it do not start.
    """
    from launcher.executors.slurm import slice as turn

    code = turn.main([str(Path(run_dir)), "--stages", stage])
    if code:
        raise RunFailed(f"{stage} of {run_dir} ended with exit code {code} (job {os.environ.get('SLURM_JOB_ID')})")
    return code
