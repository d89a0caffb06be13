"""What the recipe leaves open, by prediction: the fastest setup among those that fit with a margin.

The order of what is tried says what may change: first what leaves the mathematics alone (strategy, rows at a time,
activations computed again), then the optimizer's state in 8 bits, and host memory last. Strategy and optimizer follow
what the hardware has when nothing else runs on it, because a run cannot change them when it goes on; rows and
checkpointing follow what is free now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import inf

from launcher.plan import figures, fit, speed
from launcher.plan.compatibility import optimizer_row
from launcher.plan.options import Option, divisors, every_of, predicted, with_every, with_rows
from launcher.plan.sharding import ZERO
from launcher.predict.calibration import Calibration
from launcher.predict.setup import Setup

STRATEGY, OFFLOAD, OPTIM, CHECKPOINTING, ROWS = "strategy", "offload", "optim", "checkpointing", "rows"
WORTH = 0.01
"""Part of a step's time that is no reason for more memory: far below the error of a predicted time."""
_WORTH_ANOTHER = 0.1
"""Part of a step's time that another strategy must save to be chosen: the error of a predicted time."""
_DOUBT = 1.03
"""How much too large memory between two known sizes may be guessed before a setup is left out unseen."""
_SMALL_STATE = "paged_adamw_8bit"
_ON_DEVICE = False
"""For `Space.layouts`: nothing lies in host memory."""
_EVERY = (None, 2, 1)
"""Checkpointing modes from fast to small: off, every second layer, every layer."""


@dataclass(frozen=True)
class Space:
    """What may be tried."""

    base: Setup
    """As the plan is without a search."""
    open: frozenset[str]
    """Keys that may move: `STRATEGY`, `OFFLOAD`, `OPTIM`, `CHECKPOINTING`, `ROWS`."""
    batch: int
    """Rows of one rank in one optimizer step."""
    layouts: Callable[[bool, float], Iterable[Setup]]
    """(in host memory in part?, bytes) → setups of the other strategies that hold no more from step to step."""
    learned: Calibration | None = None
    """What runs on this device have taught."""

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Rows at a time, from fewest."""
        return divisors(self.batch) if ROWS in self.open else (self.base.rows,)

    @cached_property
    def wanted(self) -> tuple[int, ...]:
        """The same from the fastest; of equally fast ones the fewest first. What is faster on one layout is on others."""
        left, found = {rows: speed.order(with_rows(self.base, rows)) for rows in self.sizes}, []
        while left:
            limit = min(left.values()) * (1 + WORTH)
            found.append(next(rows for rows in left if left[rows] <= limit))
            del left[found[-1]]
        return tuple(found)


@dataclass(frozen=True)
class Found:
    """What was chosen, and everything that was looked at."""

    chosen: Option
    options: tuple[Option, ...]
    capacity: int
    learned: Calibration | None = None
    beside: dict[tuple[object, ...], Option] = field(default_factory=dict)
    """What was looked at afterwards, to say what the alternatives would cost."""

    def like(self, *, every: int | None, rows: int) -> Option:
        """The option that differs from the chosen one in rows and checkpointing alone."""
        wanted = with_rows(with_every(self.chosen.setup, every), rows)
        known = next((each for each in self.options if _key(each.setup) == _key(wanted)), None)
        return known or self.beside.setdefault(
            _key(wanted), self.beside.get(_key(wanted)) or predicted(wanted, self.learned)
        )


def search(space: Space, usual: int, free: int) -> Found:
    """The setup to train with.

    Args:
        space: what may be tried.
        usual: bytes that a device has when nothing else runs.
        free: bytes that it has now.
    """
    if space.base.device == "cpu":
        return _on_cpu(space, free)
    chosen, seen = _layout(space, usual)
    if fit.verdict(chosen.needed, usual) == "does not fit":
        seen = [*seen, *_beyond(space)]
        chosen = _least([each for each in seen if _keeps(each, chosen)])
    now = min(usual, free)
    if now < usual and fit.verdict(chosen.needed, now) != "fits":
        seen = [each for each in seen if _key(each.setup)[:3] == _key(chosen.setup)[:3]]
        again = _explore(space, chosen.setup, now, seen)
        chosen = _best(again, now) or _least(again)
        seen = again
    return Found(chosen, tuple(seen), now, space.learned)


def _key(setup: Setup) -> tuple[object, ...]:
    """What a search changes."""
    return setup.strategy, setup.offload, setup.optim, setup.checkpointing, setup.rows


def _on_cpu(space: Space, free: int) -> Found:
    """Where nothing is known of speed, a choice moves for memory alone: activations are computed again where they must."""
    plain = predicted(space.base, space.learned)
    if fit.verdict(plain.needed, free) == "fits" or CHECKPOINTING not in space.open:
        return Found(plain, (plain,), free, space.learned)
    others = (with_every(space.base, every) for every in _modes(space.base)[1:])
    options = (plain, *(predicted(each, space.learned) for each in others))
    return Found(_best(options, free) or _least(options), options, free, space.learned)


def _layout(space: Space, usual: int) -> tuple[Option, Sequence[Option]]:
    """The best for a device that nothing else uses, and what was looked at."""
    seen: list[Option] = []
    first: list[Option] = []
    for layouts, optim in _tiers(space, usual):
        tier: list[Option] = []
        for layout in layouts:
            if layout.strategy in ZERO and _best(tier, usual):
                break  # it takes one more package, and gathers like FSDP2
            tier += _explore(space, replace(layout, optim=optim), usual, ())
            if _unhindered(space, tier, usual):
                break
        seen += tier
        first = first or tier
        if found := _best(tier, usual):
            return found, seen
    # Nothing fits with a margin: what is tight will do, else nothing moves that would change the mathematics for nothing.
    tight = next((each for each in seen if fit.verdict(each.needed, usual) == "tight"), None)
    return tight or _least(first), seen


def _tiers(space: Space, usual: int) -> Iterator[tuple[Iterable[Setup], str]]:
    """Setups to compare with one another, from what changes least; later ones count only where no earlier one fits."""
    optims = [space.base.optim, *([_SMALL_STATE] if OPTIM in space.open else [])]
    for offload in (False, True) if OFFLOAD in space.open else (False,):
        for optim in optims:
            layouts = _layouts(space, usual, offload=offload)
            yield (each for each in layouts if not optimizer_row(each.strategy, optim)), optim


def _layouts(space: Space, most: float, *, offload: bool) -> Iterator[Setup]:
    if not offload:
        yield space.base
    if STRATEGY in space.open or offload:
        yield from space.layouts(offload, most)


def _beyond(space: Space) -> Iterator[Option]:
    """Where nothing fits, and the ranks may share: the strategy that holds least, in its smallest form."""
    shared = space.layouts(_ON_DEVICE, inf) if STRATEGY in space.open else ()
    layout = min(shared, key=figures.held, default=None)
    if layout is not None:
        yield predicted(_smallest(space, layout), space.learned)


def _keeps(option: Option, other: Option) -> bool:
    """Whether both have the same optimizer, and the same part in host memory."""
    one, two = option.setup, other.setup
    return (one.optim, one.offload) == (two.optim, two.offload)


def _smallest(space: Space, layout: Setup) -> Setup:
    """A layout with the fewest rows, and all that may be computed again."""
    mode = _modes(layout)[-1] if CHECKPOINTING in space.open else every_of(layout)
    return with_rows(with_every(layout, mode), space.sizes[0])


def _explore(space: Space, layout: Setup, capacity: int, seen: Sequence[Option]) -> list[Option]:
    """One layout in its modes of checkpointing, each with the fastest number of rows that fits."""
    known = list(seen)
    modes = _modes(layout) if CHECKPOINTING in space.open else (every_of(layout),)
    smallest = _smallest(space, layout)
    if layout != space.base and figures.held(smallest) > capacity:
        return known  # what lies there from step to step is too much already
    if layout != space.base and not _fits(space, smallest, capacity, known):
        return known
    for every in modes:
        fastest = _rows(space, with_every(layout, every), capacity, known)
        if fastest and _free_of_memory(fastest, space):
            break  # nothing is gained by computing again
        if fastest is None and every == modes[0] and not _fits(space, smallest, capacity, known):
            break  # nor does anything else of this layout
    return known


def _fits(space: Space, setup: Setup, capacity: int, known: list[Option]) -> bool:
    return fit.verdict(_look(space, setup, known).needed, capacity) == "fits"


def _rows(space: Space, setup: Setup, capacity: int, known: list[Option]) -> Option | None:
    """The fastest number of rows that fits, found with few predictions: more rows need more memory. None: none fits."""
    points: dict[int, int] = {}
    if figures.held(setup) > capacity:
        _look(space, with_rows(setup, space.sizes[0]), known)
        return None
    for rows in space.wanted:
        if points and _guess(points, rows) > capacity * _DOUBT:
            continue
        option = _look(space, with_rows(setup, rows), known)
        points[rows] = option.needed
        if fit.verdict(option.needed, capacity) == "fits":
            return option
        fewest = space.sizes[0]
        if fewest not in points:
            points[fewest] = _look(space, with_rows(setup, fewest), known).needed
        if fit.verdict(points[fewest], capacity) != "fits":
            return None
    return None


def _guess(points: Mapping[int, int], rows: int) -> float:
    """Memory at so many rows: on the line between the nearest known sizes, else what fewer rows need at least."""
    below = max((each for each in points if each <= rows), default=0)
    above = min((each for each in points if each > rows), default=0)
    if not above or not below:
        return points.get(below, 0)
    return points[below] + (points[above] - points[below]) * (rows - below) / (above - below)


def _look(space: Space, setup: Setup, known: list[Option]) -> Option:
    """The prediction of a setup, made once."""
    found = next((each for each in known if _key(each.setup) == _key(setup)), None)
    if found is None:
        found = predicted(setup, space.learned)
        known.append(found)
    return found


def _modes(setup: Setup) -> tuple[int | None, ...]:
    """FSDP2 checkpoints each layer, or none."""
    return tuple(every for every in _EVERY if every != 2 or setup.strategy != "fsdp2")


def _free_of_memory(option: Option, space: Space) -> bool:
    """Whether an option is as fast as it would be with all memory there is: nothing is computed again, the best rows taken."""
    return option.setup.rows == space.wanted[0] and (option.every is None or CHECKPOINTING not in space.open)


def _unhindered(space: Space, options: Sequence[Option], capacity: int) -> bool:
    """Whether memory kept nothing faster from being chosen: then no other strategy is worth a look."""
    best = _best(options, capacity)
    return best is not None and _free_of_memory(best, space)


def _best(options: Sequence[Option], capacity: int) -> Option | None:
    """The fastest of those that fit with a margin, by strategy: a later one must be worth the change."""
    fitting = [each for each in options if fit.verdict(each.needed, capacity) == "fits"]
    chosen: Option | None = None
    for layout in dict.fromkeys((each.setup.strategy, each.setup.offload) for each in fitting):
        fastest = _fastest([each for each in fitting if (each.setup.strategy, each.setup.offload) == layout])
        if chosen is None or fastest.order < chosen.order * (1 - _WORTH_ANOTHER):
            chosen = fastest
    return chosen


def _fastest(options: Sequence[Option]) -> Option:
    """Of equally fast ones the smallest."""
    limit = min(each.order for each in options) * (1 + WORTH)
    return min((each for each in options if each.order <= limit), key=lambda each: each.needed)


def _least(options: Sequence[Option]) -> Option:
    return min(options, key=lambda each: each.needed)
