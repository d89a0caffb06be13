"""The smallest changes with which a plan fits, each planned and predicted anew.

Those that train the same come first, then those that train something else; of either the cheapest in speed first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from math import log

from launcher.cluster.schema import Cluster
from launcher.errors import RecipeErrors
from launcher.plan import figures, fit, levers, speed
from launcher.plan.facts import Facts
from launcher.plan.levers import Lever
from launcher.plan.options import with_every, with_rows
from launcher.plan.setups import setup_of
from launcher.plan.types import Plan
from launcher.predict.architecture import Architecture
from launcher.predict.prediction import Change
from launcher.predict.setup import Setup
from launcher.recipe.load import LoadedRecipe, changed
from launcher.text import gib

Again = Callable[[LoadedRecipe, Cluster, Facts], "Plan | None"]
_MOST = 4
"""Fixes to show."""
_PREDICTIONS = 30
"""Memories to predict in all, at most some: each takes some milliseconds, and `launcher plan` should answer at once."""
_DOUBT = 1.05
"""A guess of a setup may be so much too large before it is left out without being planned."""


@dataclass(frozen=True)
class _Fix:
    lever: Lever
    setup: Setup
    change: Change


@dataclass(frozen=True)
class _Try:
    """Plans the recipe with changes, until enough was predicted."""

    loaded: LoadedRecipe
    cluster: Cluster
    facts: Facts
    again: Again
    free: int
    before: Plan
    model: Architecture

    def plan(self, lever: Lever) -> tuple[LoadedRecipe, Plan] | None:
        """The changed recipe and its plan with a prediction; None where it cannot train, and when enough was tried."""
        if figures.made() >= _PREDICTIONS:
            return None
        try:
            other = changed(self.loaded, lever.sets)
        except RecipeErrors:
            return None
        sharding, facts = other.recipe.sharding, self.facts
        if sharding.preset is None and sharding.strategy in facts.presets:
            facts = replace(facts, preset=facts.presets[sharding.strategy])
        plan = self.again(other, self.cluster, facts)
        return None if plan is None or plan.prediction is None else (other, plan)

    def setup(self, plan: Plan) -> Setup:
        """The setup of a plan."""
        return setup_of(plan, self.model, fit.row(self.cluster))

    def fix(self, lever: Lever) -> _Fix | None:
        """The change as a fix, if its own prediction fits."""
        made = self.plan(lever)
        return self.proven(lever, made[1]) if made else None

    def proven(self, lever: Lever, plan: Plan) -> _Fix | None:
        """The same of a plan that is made."""
        found = plan.prediction
        if found is None or found.verdict != "fits":
            return None
        setup = self.setup(plan)
        reason = "; ".join([lever.reason, *self.beside(lever, plan)])
        change = Change(
            lever.sets, reason, found.memory.total, found.time.step_s if found.time else None, found.verdict
        )
        return _Fix(lever, setup, change)

    def beside(self, lever: Lever, plan: Plan) -> Iterator[str]:
        """What the new plan chooses otherwise, of what changes the mathematics or the time most."""
        optim = plan.trainer["optim"]
        if optim != self.before.trainer["optim"] and f"training.optim={optim}" not in lever.sets:
            yield f"`auto` takes {optim} then"
        if plan.offload != self.before.offload and f"sharding.offload={plan.offload}" not in lever.sets:
            yield f"`auto` moves {plan.offload} to host memory then"
        if plan.offload != "none" and plan.prediction:
            yield f"{gib(sum(plan.prediction.host.values()))} of host memory in each node"

    def could(self, guess: Setup | None) -> bool:
        """Whether a setup has a chance to fit with fewest rows and all activations computed again."""
        if guess is None:
            return True
        least = with_every(with_rows(guess, 1), 1)
        most = self.free * _DOUBT
        return figures.held(least) <= most and figures.needed(least, self.cluster.calibration) <= most

    def suffices(self, lever: Lever) -> bool:
        """Whether the guess of a change fits."""
        if lever.guess is None:
            return False
        return fit.verdict(figures.needed(lever.guess, self.cluster.calibration), self.free) == "fits"


def fixes(
    loaded: LoadedRecipe,
    cluster: Cluster,
    facts: Facts,
    plan: Plan,
    setup: Setup,
    free: int,
    again: Again,
    least: Setup | None = None,
) -> tuple[Change, ...]:
    """Changes with which the plan fits by their own prediction; empty where none was found.

    Args:
        loaded: the recipe.
        cluster: the hardware.
        facts: the model.
        plan: what does not fit.
        setup: the same as the predictor sees it.
        free: bytes free on a device.
        again: plans a changed recipe, with all checks.
        least: what needs least of all that the plan may choose.
    """
    trial = _Try(loaded, cluster, facts, again, free, plan, setup.model)
    found = _alone(trial, setup)
    alone = tuple(found)
    bigger = [each for each in levers.large(loaded, plan, setup) if trial.could(each.guess)]
    found += islice(_with_small(trial, bigger), max(1, _MOST - len(found)))
    if not found:
        found += islice(_with_small(trial, _pairs(bigger)), _MOST)
    if len(found) < _MOST:
        found += islice(_shorter(trial, least or setup, [] if found else bigger), 1)
    # A plan that is nearly there needs no host memory: smaller pieces of the same step stand first, also where they are slower.
    tight = fit.verdict(figures.needed(setup, cluster.calibration), free) == "tight"
    ordered = sorted(found, key=lambda each: (not (tight and each in alone), _rank(each)))
    return tuple(each.change for each in ordered[:_MOST])


def _rank(each: _Fix) -> tuple[int, int, int]:
    """What leaves the training alone first, then by speed, where a tenth is the error of a predicted time; then the shorter."""
    return each.lever.changes, int(log(speed.order(each.setup), 1.1)), len(each.lever.sets)


def on_device(
    loaded: LoadedRecipe, cluster: Cluster, facts: Facts, plan: Plan, setup: Setup, free: int, again: Again
) -> tuple[Change, ...]:
    """Small changes with which nothing need lie in host memory, where `auto` has moved something there.

    Args: as of `fixes`; `setup` is what would be without host memory.
    """
    trial = _Try(loaded, cluster, facts, again, free, plan, setup.model)
    return tuple(each.change for each in _alone(trial, setup) if each.setup.offload == "none")


def _alone(trial: _Try, setup: Setup) -> list[_Fix]:
    """What the small changes do by themselves: the most rows that fit, recomputing, or else both."""
    found: list[_Fix] = []
    for lever in levers.small(trial.loaded, setup):
        parts = set(lever.sets)
        if any(set(each.lever.sets) < parts or _same_keys(each.lever, lever) for each in found):
            continue  # larger than what suffices, or the same with fewer rows
        if trial.suffices(lever) and (fix := trial.fix(lever)):
            found.append(fix)
    return found


def _same_keys(one: Lever, other: Lever) -> bool:
    keys = [{each.partition("=")[0] for each in lever.sets} for lever in (one, other)]
    return keys[0] <= keys[1]


def _with_small(trial: _Try, bigger: Sequence[Lever] | Iterator[Lever]) -> Iterator[_Fix]:
    """Each larger change, with as little beside it as it takes."""
    for lever in bigger:
        made = trial.plan(lever)
        if made is None:
            continue
        other, plan = made
        if fix := trial.proven(lever, plan):
            yield fix
            continue
        enough = (each for each in levers.small(other, trial.setup(plan)) if trial.suffices(each))
        for small in islice(enough, 1):
            if fix := trial.fix(levers.both(lever, small)):
                yield fix


def _pairs(bigger: Sequence[Lever]) -> Iterator[Lever]:
    """Two larger changes together: what ranks share or where things lie, and what is smaller."""
    spread = [each for each in bigger if each.sets[0].startswith("sharding.")]
    for rest in (each for each in bigger if not each.sets[0].startswith("sharding.")):
        yield from (levers.both(each, rest) for each in spread)


def _shorter(trial: _Try, setup: Setup, bigger: Sequence[Lever]) -> Iterator[_Fix]:
    """Shorter rows, alone or, where nothing else was found, beside each other change."""
    for lever in levers.shorter(setup):
        if trial.could(lever.guess):
            yield from _with_small(trial, [lever])
        for each in bigger:
            guess = replace(each.guess, length=lever.guess.length) if each.guess and lever.guess else None
            if trial.could(guess):
                yield from _with_small(trial, [levers.both(each, lever)])
