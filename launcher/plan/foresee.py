"""From a plan without a prediction to the plan: what was left open is searched, and what comes out is predicted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from launcher.catalog.lacking import lacks
from launcher.cluster.schema import Cluster
from launcher.plan import auto, auto_reasons, checks_sharding, compatibility, figures, fit
from launcher.plan.auto import Space
from launcher.plan.compatibility import Cell
from launcher.plan.facts import Facts
from launcher.plan.fixes import fixes, on_device
from launcher.plan.opened import opened
from launcher.plan.options import Picked
from launcher.plan.setups import setup_of
from launcher.plan.types import Decision, Plan
from launcher.plan.world import world
from launcher.predict.architecture import Architecture
from launcher.predict.prediction import Change
from launcher.predict.setup import Setup
from launcher.recipe.load import LoadedRecipe

Draft = Callable[[LoadedRecipe, Cluster, Facts, Picked], Plan]
"""The plan with what was picked, without a prediction."""
Again = Callable[[LoadedRecipe, Cluster, Facts], "Plan | None"]
"""The plan of a changed recipe with its prediction; None where it cannot train."""

_STRATEGIES = ("fsdp2", "zero2", "zero3")
"""What is tried beside ddp, in this order."""


def foresee(loaded: LoadedRecipe, cluster: Cluster, facts: Facts, draft: Draft, *, again: Again | None = None) -> Plan:
    """The plan with its prediction, and with what the recipe left open chosen by it.

    Args:
        loaded: the recipe.
        cluster: the hardware.
        facts: the model.
        draft: makes a plan of them.
        again: plans a changed recipe, for fixes where it does not fit; None: no fixes are looked for.
    """
    plain = draft(loaded, cluster, facts, Picked())
    model, per_node = facts.model.sizes, world(loaded, cluster).per_node
    if model is None:
        return replace(plain, unpredicted=facts.model.unsized)
    usual, free = fit.usual(cluster, per_node), fit.capacity(cluster, per_node)
    if usual is None or free is None:
        return replace(plain, unpredicted=f"how much memory `{cluster.name}` has is not known here")
    plan, tried, least = _chosen(
        _Case(loaded, cluster, facts, draft, model), plain, usual, free, told=again is not None
    )
    setup = setup_of(plan, model, fit.row(cluster))
    found = fit.predicted(setup, plan, cluster, free)
    if again is not None and found.verdict != "fits":
        found = replace(found, fixes=fixes(loaded, cluster, facts, plan, setup, free, again, least))
    elif (
        again is not None and found.time is not None and (faster := opened(loaded, cluster, facts, plan, found, again))
    ):
        tried = (faster, *tried)
    if again is not None and found.verdict == "fits" and plan.offload != plain.offload:
        here = setup_of(plain, model, fit.row(cluster))
        tried = (*on_device(loaded, cluster, facts, plan, here, free, again), *tried)
    return replace(plan, prediction=replace(found, alternatives=tried))


@dataclass(frozen=True)
class _Case:
    loaded: LoadedRecipe
    cluster: Cluster
    facts: Facts
    draft: Draft
    model: Architecture
    made: dict[tuple[str, str], Setup] = field(default_factory=dict)

    def layouts(self, plain: Plan, base: Setup, most: float, *, offload: bool) -> Iterator[Setup]:
        """Setups of other strategies, or of the same with something in host memory, that the table and the checks allow.

        Those that hold more than `most` bytes from step to step are left out before they are planned.
        """
        mine = self.loaded.recipe.sharding.strategy
        for strategy in _STRATEGIES if mine == "auto" else (plain.strategy,):
            for moved in ("optimizer", "params") if offload else ("none",):
                key = (strategy, moved)
                guess = replace(base, strategy=strategy, offload=moved, group=None)  # type: ignore[arg-type]
                if key not in self.made and self._allowed(plain, strategy, moved) and figures.held(guess) <= most:
                    self.made[key] = setup_of(self._plan(strategy, moved), self.model, fit.row(self.cluster))
                if key in self.made and self._has_host_memory(self.made[key], plain):
                    yield self.made[key]

    def _has_host_memory(self, setup: Setup, plain: Plan) -> bool:
        """Whether what would lie in host memory has room there; no where that is not known: a person must say it."""
        there, needed = fit.host(self.cluster), fit.of_host(setup, plain)
        if setup.offload == "none":
            return True
        return there is not None and sum(needed.values()) - needed.get("loading", 0) <= there

    def _allowed(self, plain: Plan, strategy: str, moved: str) -> bool:
        ranks, row = plain.batch.world_size, compatibility.row(Cell(strategy, moved, plain.method))
        if moved == "none" and (strategy == plain.strategy or ranks == 1):
            return False
        if strategy not in self.facts.presets or ranks < compatibility.fewest_ranks(strategy):
            return False
        if row and (row.verdict == "refused" or self.cluster.gpu is None):
            return False
        return not any(checks_sharding.faults(self.loaded, self.cluster, self.with_preset(strategy)))

    def with_preset(self, strategy: str) -> Facts:
        """The facts with the preset of a strategy."""
        return replace(self.facts, preset=self.facts.presets.get(strategy, self.facts.preset))

    def _plan(self, strategy: str, moved: str) -> Plan:
        picked = Picked(Decision("sharding.strategy", strategy, ""), Decision("sharding.offload", moved, ""))
        return self.draft(self.loaded, self.cluster, self.with_preset(strategy), picked)


def _chosen(
    case: _Case, plain: Plan, usual: int, free: int, *, told: bool
) -> tuple[Plan, tuple[Change, ...], Setup | None]:
    """The plan with what was chosen, what else was looked at, and what of it needs least."""
    is_open = _open(case.loaded, case.cluster, plain)
    if not is_open:
        return plain, (), None

    def layouts(offload: bool, most: float) -> Iterator[Setup]:
        return case.layouts(plain, base, most, offload=offload)

    base = setup_of(plain, case.model, fit.row(case.cluster))
    space = Space(base, is_open, plain.batch.per_device * plain.batch.accumulation, layouts, case.cluster.calibration)
    found = auto.search(space, usual, free)
    picked, strategy = auto_reasons.picked(space, found, told=told), found.chosen.setup.strategy
    facts = case.facts if strategy == plain.strategy else case.with_preset(strategy)
    plan = case.draft(case.loaded, case.cluster, facts, picked) if picked != Picked() else plain
    tried = auto_reasons.alternatives(space, found) if told else ()
    return plan, tried, min(found.options, key=lambda each: each.needed).setup


def _open(loaded: LoadedRecipe, cluster: Cluster, plain: Plan) -> frozenset[str]:
    """Keys that the recipe leaves to the plan, and that can move."""
    recipe, on_gpu = loaded.recipe, cluster.gpu is not None
    training, sharding = recipe.training, recipe.sharding
    kwargs = (training.model_extra or {}).get("activation_checkpointing_kwargs")
    cannot = kwargs or lacks(plain.model.architecture, "activation_checkpointing")
    both = (training.per_device_train_batch_size, training.gradient_accumulation_steps)
    keys = {
        auto.STRATEGY: on_gpu and sharding.strategy == "auto" and sharding.preset is None,
        auto.OFFLOAD: on_gpu and sharding.offload == "auto" and sharding.preset is None,
        auto.OPTIM: on_gpu and training.optim == "auto" and plain.method == "full",
        auto.CHECKPOINTING: training.activation_checkpointing == "auto" and not cannot,
        auto.ROWS: on_gpu and both == ("auto", "auto"),
    }
    return frozenset(key for key, open_ in keys.items() if open_)
