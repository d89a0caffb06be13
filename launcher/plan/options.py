"""One setup among those that a plan may choose, and the ways in which it is changed."""

from __future__ import annotations

from dataclasses import dataclass, replace

from launcher.plan import figures, speed
from launcher.plan.types import Decision
from launcher.predict.calibration import Calibration
from launcher.predict.setup import Checkpointing, Setup


@dataclass(frozen=True)
class Picked:
    """Decisions on keys that the recipe left open; None: nothing was looked for."""

    strategy: Decision | None = None
    offload: Decision | None = None
    optim: Decision | None = None
    checkpointing: Decision | None = None
    every_n_layers: int | None = None
    rows: Decision | None = None


@dataclass(frozen=True)
class Option:
    """One setup, what it needs on a device, and its place in the order of speed (`launcher.plan.speed`)."""

    setup: Setup
    needed: int
    order: float

    @property
    def every(self) -> int | None:
        """Layers from one checkpoint to the next; None: no checkpointing."""
        return every_of(self.setup)


def divisors(number: int) -> tuple[int, ...]:
    """All divisors, from 1."""
    return tuple(each for each in range(1, number + 1) if number % each == 0)


def predicted(setup: Setup, learned: Calibration | None) -> Option:
    """A setup with its prediction."""
    return Option(setup, figures.needed(setup, learned), speed.order(setup))


def with_every(setup: Setup, every: int | None) -> Setup:
    """The setup with a checkpoint at every so many layers; None: nothing is computed again."""
    return setup if every == every_of(setup) else replace(setup, checkpointing=Checkpointing(every) if every else None)


def every_of(setup: Setup) -> int | None:
    """Layers from one checkpoint to the next; None: no checkpointing."""
    return setup.checkpointing.every_n_layers if setup.checkpointing else None


def with_rows(setup: Setup, rows: int) -> Setup:
    """The same step in passes of so many rows."""
    return replace(setup, rows=rows, accumulation=setup.rows * setup.accumulation // rows)
