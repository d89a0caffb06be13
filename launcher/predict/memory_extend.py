"""The passes of a deep model from those of two shallow ones: with equal layers, every stretch grows by the same for each layer."""

from __future__ import annotations

from dataclasses import replace

from launcher.predict.memory_pass import Peaks, play
from launcher.predict.setup import Setup


def peaks(setup: Setup) -> Peaks:
    """Most bytes held in each stretch of the step (see `launcher.predict.memory_pass.play`)."""
    period = setup.checkpointing.every_n_layers if setup.checkpointing else 1
    layers = setup.model.layers
    first = 2 * period + 1 + (layers - 1) % period
    second = first + period
    if layers <= second or setup.model.decoder_layers or not _equal(setup):
        return play(setup, period)
    small, large = (play(_shallow(setup, count), period) for count in (first, second))
    times = (layers - second) // period
    grown: Peaks = {}
    for name, (most, held) in large.items():
        before, held_before = small[name]
        labels = [now + times * (now - then) for now, then in zip(held, held_before, strict=True)]
        grown[name] = (most + times * (most - before), labels)
    # Between the ends a stretch grows or shrinks evenly, so its most is at one of them.
    grown.pop("backward between", None)
    return grown


def _shallow(setup: Setup, layers: int) -> Setup:
    return replace(setup, model=setup.model.with_layers(layers))


def _equal(setup: Setup) -> bool:
    """All layers hold, and are adapted, the same."""
    blocks = setup.model.per_layer
    if any(block != blocks[0] for block in blocks[1:]):
        return False
    ranks = setup.adapter.ranks if setup.adapter else {}
    adapted: dict[str, set[tuple[str, int]]] = {}
    for name, rank in ranks.items():
        parts = name.split(".")
        index = next((part for part in parts if part.isdigit()), "")
        adapted.setdefault(index, set()).add((name.rpartition(f".{index}.")[2], rank))
    inside = [each for index, each in adapted.items() if index]
    return not inside or (len(inside) == setup.model.layers and all(each == inside[0] for each in inside[1:]))
