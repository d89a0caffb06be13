"""Where a recipe would fit: every GPU of the catalogue, one to eight of them, each planned as the recipe would be there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from launcher.catalog.gpus import GpuRow, gpus
from launcher.cluster.named import load as named
from launcher.cluster.schema import Cluster
from launcher.errors import UsageError
from launcher.plan.facts import Facts
from launcher.plan.types import Plan
from launcher.predict.prediction import Change, Prediction
from launcher.recipe.load import LoadedRecipe, changed

COUNTS = (1, 2, 4, 8)
"""GPUs of one node that are tried."""
_OPEN = {
    "sharding.strategy": "auto",
    "sharding.offload": "auto",
    "sharding.dp_shard_size": "null",
    "training.per_device_train_batch_size": "auto",
    "training.gradient_accumulation_steps": "auto",
    "training.activation_checkpointing": "auto",
    "training.activation_checkpointing_kwargs": "null",
    "launch.gpus": "null",
    "launch.nodes": "null",
    "launch.gpus_per_node": "null",
}
"""What a recipe may say for one kind of hardware, left open for the others: none of it changes what is trained."""

Planner = Callable[[LoadedRecipe, Cluster, Facts], "Plan | None"]


@dataclass(frozen=True)
class Place:
    """So many GPUs of one kind, and the plan for them; None: the recipe cannot be planned there."""

    gpu: str
    count: int
    plan: Plan | None

    @property
    def prediction(self) -> Prediction | None:
        """What is expected there."""
        return self.plan.prediction if self.plan else None

    @property
    def fits(self) -> bool:
        """Whether it may be started there."""
        return self.prediction is not None and self.prediction.verdict != "does not fit"


@dataclass(frozen=True)
class Advice:
    """All places. `opened` are the keys of the recipe that were left open; `fixes` are for the roomiest, where none fits."""

    places: tuple[Place, ...]
    opened: tuple[str, ...]
    fixes: tuple[Change, ...] = ()

    @property
    def fitting(self) -> tuple[Place, ...]:
        """Where it fits, the fastest first; where no time is known, the fewest GPUs first."""
        return tuple(sorted((each for each in self.places if each.fits), key=_rank))

    @property
    def sets(self) -> tuple[str, ...]:
        """What leaves those keys open, as `--set` takes it."""
        return tuple(f"{key}={_OPEN[key]}" for key in self.opened)

    @property
    def nearest(self) -> Place | None:
        """Where the least is missing."""
        known = [each for each in self.places if each.prediction]
        return min(known, key=lambda each: -each.prediction.margin if each.prediction else 0, default=None)


def advise(
    loaded: LoadedRecipe, facts: Facts, plan: Planner, again: Planner, rows: Sequence[GpuRow] | None = None
) -> Advice:
    """Plan a recipe for every GPU of the catalogue.

    Args:
        loaded: the recipe.
        facts: the model and the data.
        plan: makes a plan, with fixes where it does not fit.
        again: the same without fixes, which is faster.
        rows: the GPUs to look at; None: all.

    Raises:
        UsageError: the sizes of the model are not known.
    """
    if facts.model.sizes is None:
        raise UsageError(f"--advise: {facts.model.unsized}")
    opened = tuple(key for key in _OPEN if loaded.place(key) is not None)
    left = changed(loaded, [f"{key}={_OPEN[key]}" for key in opened])
    facts = replace(facts, preset=facts.presets.get("ddp", facts.preset))
    places = tuple(_places(left, facts, again, gpus() if rows is None else rows))
    advice = Advice(places, opened)
    if advice.fitting or advice.nearest is None:
        return advice
    nearest = advice.nearest
    full = plan(left, named(f"{nearest.gpu}x{nearest.count}"), facts)
    return Advice(places, opened, full.prediction.fixes if full and full.prediction else ())


def _places(loaded: LoadedRecipe, facts: Facts, plan: Planner, rows: Sequence[GpuRow]) -> Iterator[Place]:
    for row in rows:
        for count in COUNTS:
            yield Place(row.name, count, plan(loaded, named(f"{row.name}x{count}"), facts))


def _rank(place: Place) -> tuple[float, int, int]:
    found = place.prediction
    if found is None or found.time is None:
        return float("inf"), place.count, found.capacity if found else 0
    return found.time.step_s, place.count, found.capacity
