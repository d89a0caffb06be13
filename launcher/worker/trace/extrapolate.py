"""From two small copies to the whole model: each place of a step grows by the same bytes with each further period of layers.

A place is told by its distance from the nearer end: the forward pass is largest in the last layers, the backward pass in
the last ones (all activations are there) or the first ones (all gradients are). In between both are straight lines, so
the ends hold the largest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from launcher.worker.trace.layers import Pattern
from launcher.worker.trace.live import Peak

Places = Mapping[str, Peak]
LAYERED = ("forward", "backward")
MOMENT_OF = {"loss": "loss", "clip": "step", "step": "step"}
"""Moment of the places that are in no layer."""


def peaks(small: Places, large: Places, pattern: Pattern) -> dict[str, Peak]:
    """Place → peak of the whole model.

    Args:
        small: what the copy with fewer of `pattern.copies` layers had.
        large: what the other one had.
        pattern: how its layers repeat.
    """
    few, more = pattern.copies
    grown = (pattern.layers - few) / (more - few)
    return {
        name: _line(small[one], large[other], grown)
        for name, one, other in _pairs(small, pattern)
        if one in small and other in large
    }


def flops(small: Mapping[str, int], large: Mapping[str, int], pattern: Pattern) -> dict[str, int]:
    """Phase → floating-point operations of the whole model, for one pass over one batch."""
    few, more = pattern.copies
    grown = (pattern.layers - few) / (more - few)
    one, other = by_phase(small), by_phase(large)
    return {phase: round(one[phase] + grown * (other[phase] - one[phase])) for phase in one}


def by_phase(counted: Mapping[str, int]) -> dict[str, int]:
    """Phase (`forward`, `loss`, `backward`) → operations; the loss counts both of its ways."""
    sums: dict[str, int] = {}
    for place, count in counted.items():
        phase = place.partition(":")[0]
        sums[phase] = sums.get(phase, 0) + count
    return {phase: count for phase, count in sums.items() if count}


def moments(places: Places) -> dict[str, Peak]:
    """Moment of a step → its largest place."""
    found: dict[str, Peak] = {}
    for place, peak in places.items():
        phase = place.partition(":")[0]
        moment = phase if phase in LAYERED else MOMENT_OF.get(place)
        if moment and (moment not in found or peak.total > found[moment].total):
            found[moment] = peak
    return found


def _pairs(small: Iterable[str], pattern: Pattern) -> Iterable[tuple[str, str, str]]:
    """(name in the whole model, name in the small copy, name in the large one) of each place at either end."""
    few, more = pattern.copies
    first, last = pattern.head + pattern.period, pattern.period
    for place in small:
        phase, _, where = place.partition(":")
        if not where.isdigit():
            yield place, place, place
            continue
        number = int(where)
        if number < first:
            yield place, place, place
        if few - number <= last:
            end = few - number
            yield f"{phase}:{pattern.layers - end}", place, f"{phase}:{more - end}"


def _line(small: Peak, large: Peak, grown: float) -> Peak:
    names = {*small.terms, *large.terms}
    terms = {
        name: round(small.terms.get(name, 0) + grown * (large.terms.get(name, 0) - small.terms.get(name, 0)))
        for name in names
    }
    return Peak(sum(terms.values()), terms)
