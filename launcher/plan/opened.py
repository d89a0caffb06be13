"""What a step would take if the recipe left to the plan what it writes of rows and recomputing."""

from __future__ import annotations

from collections.abc import Callable

from launcher.cluster.schema import Cluster
from launcher.errors import RecipeErrors
from launcher.plan.facts import Facts
from launcher.plan.types import Plan
from launcher.predict.prediction import Change, Prediction
from launcher.recipe.load import LoadedRecipe, changed

_KEYS = ("per_device_train_batch_size", "gradient_accumulation_steps", "activation_checkpointing")
_WORTH = 0.10
"""Part of a step's time that must be gained to be said: the error of a predicted time."""


def opened(
    loaded: LoadedRecipe,
    cluster: Cluster,
    facts: Facts,
    plan: Plan,
    found: Prediction,
    again: Callable[[LoadedRecipe, Cluster, Facts], Plan | None],
) -> Change | None:
    """The plan with these keys open, if it fits, trains the same batch and is faster by more than a tenth; one search."""
    training = loaded.recipe.training
    sets = tuple(f"training.{key}=auto" for key in _KEYS if getattr(training, key) != "auto")
    if not sets or (training.model_extra or {}).get("activation_checkpointing_kwargs"):
        return None
    try:
        other = again(changed(loaded, sets), cluster, facts)
    except RecipeErrors:
        return None
    there = other.prediction if other else None
    if other is None or there is None or there.time is None or found.time is None or there.verdict != "fits":
        return None
    if other.batch.global_size != plan.batch.global_size or there.time.step_s >= found.time.step_s * (1 - _WORTH):
        return None
    return Change(
        sets,
        "left to the plan: rows at a time, and what is computed again",
        there.memory.total,
        there.time.step_s,
        "fits",
    )
