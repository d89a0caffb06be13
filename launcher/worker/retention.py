"""Which checkpoints stay: the newest, the best, and every so many steps one for good."""

from __future__ import annotations

from launcher.plan.types import CheckpointPlan
from launcher.runs import checkpoints, events
from launcher.runs.paths import RunDir


def retire(run_dir: RunDir, plan: CheckpointPlan) -> None:
    """Let old checkpoints go. Called after a commit, so that there are never fewer than those to keep."""
    whole = checkpoints.complete(run_dir)
    best = _best(run_dir, plan.keep_best, {each.step for each in whole})
    for old in whole[plan.keep :]:
        milestone = plan.keep_every is not None and old.step % plan.keep_every == 0
        if old.step != best and not milestone:
            checkpoints.discard(run_dir, old.path)


def _best(run_dir: RunDir, metric: str | None, steps: set[int]) -> int | None:
    """Of the given steps, the one with the lowest value of the metric to keep (`eval_LABEL_loss`)."""
    if metric is None:
        return None
    seen = (event for event in events.read(run_dir.events) if event["event"] == "eval")
    losses = {
        e["step"]: e["loss"]
        for e in seen
        if e["step"] in steps and e["loss"] is not None and f"eval_{e['dataset']}_loss" == metric
    }
    return min(losses, key=lambda step: (losses[step], step), default=None)
