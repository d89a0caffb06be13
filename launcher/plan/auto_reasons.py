"""Why the search chose as it did: one sentence for each key, and what the alternatives would need and take."""

from __future__ import annotations

from collections.abc import Iterator

from launcher.plan import auto, figures, fit, speed
from launcher.plan.auto import Found, Space
from launcher.plan.options import Option, Picked, divisors
from launcher.plan.types import Decision
from launcher.predict.prediction import Change
from launcher.recipe.optimizers import OPTIMIZERS
from launcher.text import counted, gib

_ROWS = "training.per_device_train_batch_size"
_CHECKPOINTING = "training.activation_checkpointing"
_MODES = {None: "off", 1: "every layer", 2: "every second layer"}


def picked(space: Space, found: Found, *, told: bool) -> Picked:
    """The decisions of a search on the keys that were open; without reasons where nobody will read them."""
    setup, every = found.chosen.setup, found.chosen.every
    on_gpu = setup.device == "cuda"
    moves = {
        auto.STRATEGY: auto.STRATEGY in space.open,
        auto.OFFLOAD: setup.offload != "none" and auto.OFFLOAD in space.open,
        auto.OPTIM: setup.optim != space.base.optim,
        auto.CHECKPOINTING: auto.CHECKPOINTING in space.open and (on_gpu or every is not None),
        auto.ROWS: auto.ROWS in space.open and on_gpu,
    }
    values = {
        auto.STRATEGY: ("sharding.strategy", setup.strategy, _strategy),
        auto.OFFLOAD: ("sharding.offload", setup.offload, _offload),
        auto.OPTIM: ("training.optim", setup.optim, _optim),
        auto.CHECKPOINTING: (_CHECKPOINTING, every is not None, _checkpointing),
        auto.ROWS: (_ROWS, setup.rows, _rows),
    }
    decided = {
        name: Decision(key, value, why(space, found) if told else "")
        for name, (key, value, why) in values.items()
        if moves[name]
    }
    return Picked(
        strategy=decided.get(auto.STRATEGY),
        offload=decided.get(auto.OFFLOAD),
        optim=decided.get(auto.OPTIM),
        checkpointing=decided.get(auto.CHECKPOINTING),
        every_n_layers=every if moves[auto.CHECKPOINTING] and every != 1 else None,
        rows=decided.get(auto.ROWS),
    )


def alternatives(space: Space, found: Found) -> tuple[Change, ...]:
    """For each key that was open, the next best other value with all else as chosen (another strategy: at its own best)."""
    return tuple(_alternatives(space, found))


def _alternatives(space: Space, found: Found) -> Iterator[Change]:
    chosen, rows = found.chosen, found.chosen.setup.rows
    if auto.CHECKPOINTING in space.open:
        for every in (None, 2, 1):
            if every != chosen.every and (every != 2 or chosen.setup.strategy != "fsdp2"):
                other = found.like(every=every, rows=rows)
                sets: tuple[str, ...] = (f"{_CHECKPOINTING}={str(every is not None).lower()}",)
                if every == 2:
                    sets += (f"{_CHECKPOINTING}_kwargs={{every_n_layers: 2}}",)
                yield _change(sets, f"activations computed again: {_MODES[every]}", other, found)
    if auto.ROWS in space.open:
        larger = next((each for each in divisors(space.batch) if each > rows), None)
        if larger:
            other = found.like(every=chosen.every, rows=larger)
            yield _change((f"{_ROWS}={larger}",), f"{counted(larger, 'row')} at a time", other, found)
    for strategy in dict.fromkeys(each.setup.strategy for each in found.options if auto.STRATEGY in space.open):
        if strategy != chosen.setup.strategy:
            yield _change((f"sharding.strategy={strategy}",), f"spread by {strategy}", _at_best(found, strategy), found)


def _change(sets: tuple[str, ...], what: str, other: Option, found: Found) -> Change:
    reason = f"{what}: {_compared(other, found.chosen)}"
    seconds = figures.step_s(other.setup, found.learned)
    return Change(sets, reason, other.needed, seconds, fit.verdict(other.needed, found.capacity))


def _compared(other: Option, chosen: Option) -> str:
    difference = other.needed - chosen.needed
    size = f"{gib(abs(difference))} {'more' if difference > 0 else 'less'}"
    return f"{size}, {_pace(other, chosen)}"


def _pace(other: Option, chosen: Option) -> str:
    """How much slower or faster a step is; without figures where only the order is known."""
    ratio = other.order / chosen.order
    if abs(ratio - 1) < auto.WORTH:
        return "a step takes as long"
    if not speed.in_seconds(other.setup):
        return f"a step takes {'longer' if ratio > 1 else 'less time'}"
    return f"a step takes {abs(ratio - 1) * 100:.0f} % {'longer' if ratio > 1 else 'less'}"


def _strategy(_: Space, found: Found) -> str:
    setup, needed = found.chosen.setup, gib(found.chosen.needed)
    if setup.ranks == 1 and setup.strategy == "ddp":
        return "one process: nothing is shared out"
    if setup.strategy == "ddp":
        return f"each of the {setup.ranks} ranks holds the whole model: {needed} of {gib(found.capacity)}"
    whole = [each for each in found.options if each.setup.strategy == "ddp" and each.setup.optim == setup.optim]
    if not whole:
        return f"shared out over {counted(setup.ranks, 'rank')} it needs {needed} on each"
    least = min(whole, key=lambda each: each.needed)
    if fit.verdict(least.needed, found.capacity) != "fits":
        return f"a whole copy on each rank needs {gib(least.needed)} at least; shared out over {setup.ranks} it is {needed}"
    return f"needs {needed} on each of {setup.ranks} ranks; ddp fits too: {_pace(_at_best(found, 'ddp'), found.chosen)}"


def _at_best(found: Found, strategy: str) -> Option:
    """The fastest of a strategy that fits, else the smallest."""
    own = [each for each in found.options if each.setup.strategy == strategy]
    fitting = [each for each in own if fit.verdict(each.needed, found.capacity) == "fits"]
    return min(fitting, key=lambda each: each.order) if fitting else min(own, key=lambda each: each.needed)


def _offload(_: Space, found: Found) -> str:
    on_device = [each.needed for each in found.options if each.setup.offload == "none"]
    least = f"without it a device needs {gib(min(on_device))} at least; " if on_device else ""
    return f"{least}{gib(found.capacity)} are free. The slowest way: what lies in host memory crosses to the device in each step"


def _optim(space: Space, found: Found) -> str:
    chosen = found.chosen.setup.optim
    whole = [each.needed for each in found.options if each.setup.optim == space.base.optim]
    bytes_ = OPTIMIZERS[space.base.optim].state_bytes, OPTIMIZERS[chosen].state_bytes
    least = f"with {bytes_[0]} bytes of state per parameter it needs {gib(min(whole))} at least; " if whole else ""
    return f"{least}{bytes_[1]} bytes, paged, move to host memory when they must"


def _checkpointing(space: Space, found: Found) -> str:
    chosen = found.chosen
    if chosen.every is None:
        on = found.like(every=1, rows=chosen.setup.rows)
        return f"it fits without; with every layer computed again {_pace(on, chosen)}"
    off = [each for each in found.options if each.every is None and _same_layout(each, chosen)]
    if not off:
        return "needs least"
    least = min(off, key=lambda each: each.needed)
    short = fit.missing(least.needed, found.capacity)
    rows = "" if len(divisors(space.batch)) == 1 or auto.ROWS not in space.open else " even with one row at a time"
    if short:
        return f"off needs {gib(least.needed)}{rows}, and a tenth to spare; {gib(found.capacity)} are free"
    return f"off fits with {counted(least.setup.rows, 'row')} at a time only: {_pace(least, chosen)}"


def _same_layout(one: Option, other: Option) -> bool:
    a, b = one.setup, other.setup
    return (a.strategy, a.offload, a.optim) == (b.strategy, b.offload, b.optim)


def _rows(space: Space, found: Found) -> str:
    chosen = found.chosen
    if fit.verdict(chosen.needed, found.capacity) == "does not fit":
        return "the smallest: it needs least"
    larger = [rows for rows in divisors(space.batch) if rows > chosen.setup.rows]
    if not larger:
        return "all rows that a step has for one rank"
    other = found.like(every=chosen.every, rows=larger[0])
    if fit.verdict(other.needed, found.capacity) != "fits":
        return f"{larger[0]} at a time need {gib(other.needed)} and a tenth to spare; {gib(found.capacity)} are free"
    return f"{larger[0]} at a time: {_compared(other, chosen)}"
