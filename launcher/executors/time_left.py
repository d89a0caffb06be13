"""Whether the merge may begin in the time that a job has left. Evaluation is timed by the run itself, a merge by nobody before."""

from __future__ import annotations

from launcher.plan.types import Plan
from launcher.runs import events
from launcher.runs.paths import RunDir

_BYTES_PER_S = 50e6
_START_S = 60.0
"""Measured on 2 busy cores, with 134 M parameters: 38 to 65 s in all (benchmarks/results/2026-11-24-merge.md), where these
two say 92 to 103 s. Not measured on large models: more cores and faster disks make it shorter, a slow file system longer."""
_LEAVE_S = 30.0
_BYTES_PER_PARAMETER = 4


def fits(plan: Plan, run_dir: RunDir, seconds_left: float) -> bool:
    """The merge that the plan asks for will be over `seconds_left` from now. False where it cannot be told."""
    seconds = merge_s(plan, run_dir)
    return seconds is not None and seconds + _LEAVE_S <= seconds_left


def merge_s(plan: Plan, run_dir: RunDir) -> float | None:
    """Seconds that it may take: weights of four bytes, read, written and read again. None where their number is not known."""
    counted = [event.get("parameters") for event in events.read(run_dir.events) if event.get("event") == "start"]
    parameters = counted[-1] if counted else plan.model.parameters
    if not parameters:
        return None
    passes = 4 if plan.quantization and plan.export.base == "original" else 3  # the trained model is asked, too
    return _START_S + passes * parameters * _BYTES_PER_PARAMETER / _BYTES_PER_S
