"""What a prediction says, as lines of the plan: the verdict and what would change it, time and cost, host memory and disk."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence

from launcher.plan.fit import SPARE
from launcher.plan.types import Plan
from launcher.predict.duration import slices
from launcher.predict.prediction import Change, Prediction
from launcher.render.columns import wrapped
from launcher.render.command import advise_line, without
from launcher.render.memory_text import MOMENTS, bars
from launcher.text import count, counted, duration, flops, gib

TRUST = f"±{round(100 * SPARE)} %, docs/PREDICTOR.md"
"""How far a prediction may be off, and where the measured errors stand."""
TITLES = {"fits": "FITS", "tight": "TIGHT", "does not fit": "DOES NOT FIT"}

_PARTS = 0.02
"""Parts of a step below this share are not named."""
_AMPLE = 0.5
"""Up to this part of the device nobody asks for what needs less."""
_ALIKE = 0.005
"""Steps whose lengths differ by less are called equally fast."""


def verdict(plan: Plan, prediction: Prediction | None) -> tuple[str, list[str]]:
    """The first line: whether it fits, by how much."""
    if prediction is None:
        return "FIT", [unpredicted(plan)]
    peak = f"peak {gib(prediction.memory.total)}{per_device(plan)}"
    return TITLES[prediction.verdict], [f"{peak} · {margin(prediction)} ({TRUST})"]


def unpredicted(plan: Plan) -> str:
    """Why there is no prediction."""
    why = plan.unpredicted or "the sizes of this model are not known here"
    return f"memory and time are not predicted: {why}; the first step shows whether it fits"


def per_device(plan: Plan) -> str:
    """Whose memory it is, where there are several."""
    if plan.batch.world_size == 1:
        return ""
    return " per GPU" if plan.device == "cuda" else " per process"


def margin(prediction: Prediction) -> str:
    """What is spare, or missing, on the device; and of the node's memory, where that is what decides."""
    free, needed = gib(prediction.capacity), sum(prediction.host.values())
    if prediction.margin < 0:
        return f"{gib(-prediction.margin)} more than the {free} that are free"
    short = prediction.host_capacity is not None and needed > prediction.host_capacity
    if prediction.verdict != "fits" and short:
        there = gib(prediction.host_capacity or 0)
        return (
            f"{gib(prediction.margin)} of {free} spare, but the node needs {gib(needed)} of host memory and has {there}"
        )
    only = "only " if prediction.verdict == "tight" else ""
    asked = prediction.host_capacity is None and prediction.host.get("offload")
    if_there = f", on a node with {gib(needed)} of host memory" if asked else ""
    return f"{only}{gib(prediction.margin)} of {free} spare{if_there}"


def fixes(prediction: Prediction, line: str | None, width: int | None) -> list[str]:
    """Each change that makes it fit, as a line to type, and below it what it gives and costs.

    Args:
        prediction: with its fixes.
        line: the `launcher plan` line as it would be typed; None where it is not known.
        width: columns of the terminal; a line to type is not broken.
    """
    return [
        part
        for fix in prediction.fixes
        for part in (typed(fix, line), *wrapped([f"    {figures(fix, prediction)}: {fix.reason}"], width))
    ]


def instead(prediction: Prediction, line: str | None) -> tuple[str, str]:
    """What to type next where it does not fit, and what to know about it."""
    if prediction.fixes:
        return typed(prediction.fixes[0], line), "fits, by its own prediction"
    other = advise_line(line) if line else "launcher plan RECIPE --advise"
    return other, "nothing that was tried makes it fit here: which GPUs hold it"


def typed(change: Change, line: str | None) -> str:
    """A change as the line that looks at it; only its `--set` where the line is not known."""
    words = shlex.join(word for each in change.sets for word in ("--set", each))
    return words if line is None else f"{without(line, change.sets)} {words}"


def figures(change: Change, prediction: Prediction) -> str:
    """`26.3 GiB, 41.0 s a step (5 % slower)`."""
    parts = [gib(change.memory)]
    if change.step_s is not None:
        parts.append(f"{seconds(change.step_s)} a step{_slower(change.step_s, prediction)}")
    if change.verdict != "fits":
        parts.append(change.verdict)
    return ", ".join(parts)


def _slower(step_s: float, prediction: Prediction) -> str:
    if prediction.time is None or prediction.verdict == "does not fit":
        return ""  # a step that cannot run is no measure
    ratio = step_s / prediction.time.step_s - 1
    if abs(ratio) < _ALIKE:
        return " (as fast)"
    return f" ({abs(ratio):.0%} {'slower' if ratio > 0 else 'faster'})".replace("%", " %")


def memory(plan: Plan, prediction: Prediction, width: int) -> list[str]:
    """The terms as bars, and what else was looked at: what is faster, what needs less, what needs more."""
    lines = bars(prediction, device=plan.device, width=width)
    return [*lines, f"highest in {MOMENTS[prediction.memory.moment]}", *(_otherwise(prediction))]


def _otherwise(prediction: Prediction) -> Iterator[str]:
    now_s, now = prediction.time.step_s if prediction.time else None, prediction.memory.total
    others = [each for each in prediction.alternatives if each.sets]
    faster = [each for each in others if now_s is not None and each.step_s is not None and each.step_s < now_s]
    others = [each for each in others if each not in faster]
    smaller = [each for each in others if each.memory < now and now > _AMPLE * prediction.capacity]
    larger = [each for each in others if each.memory > now and each.verdict != prediction.verdict]
    kinds = (
        ("faster if", sorted(faster, key=lambda each: (each.verdict == "does not fit", each.step_s or 0.0))),
        ("smaller if", sorted(smaller, key=lambda each: each.memory)),
        ("tighter if", sorted(larger, key=lambda each: each.memory)),
    )
    for title, found in kinds:
        if found:
            yield f"{title} {' '.join(found[0].sets)}: {figures(found[0], prediction)}"


def time(plan: Plan, prediction: Prediction, lead_s: float | None = None) -> list[str]:
    """Run time and what it is made of; what it takes of GPUs, energy and money; turns under a time limit.

    Args:
        plan: what was decided.
        prediction: its prediction.
        lead_s: seconds before a job's limit at which the site asks it to leave; None: those of this machine.
    """
    known = prediction.time
    if known is None:
        where = "the CPU" if plan.device == "cpu" else "this GPU"
        return [f"unknown: how fast {where} is, a run tells and `launcher calibrate` keeps"]
    return [_whole(plan, prediction), *_turns(plan, prediction, lead_s), *_spent(prediction), *_step(plan, prediction)]


def _whole(plan: Plan, prediction: Prediction) -> str:
    assert prediction.time is not None  # noqa: S101 - its caller has looked
    about = "" if plan.estimate.exact or plan.trainer["max_steps"] > 0 else "~"
    most = "" if plan.data.packing or plan.estimate.lengths else "at most "  # not counted yet: as if all had max_length
    rate = "by the catalogue's rates; `launcher calibrate` learns yours from a run"
    said = rate if prediction.time.rate == "catalogue" else "by rates measured on this kind of device"
    step, speed = seconds(prediction.time.step_s), f"{count(prediction.time.tokens_per_s)} tok/s"
    if prediction.run_s is None or plan.estimate.steps is None:
        return f"{most}{step} a step · {speed}; `prepare` counts the steps ({said})"
    return f"{most}{about}{duration(prediction.run_s)} · {about}{counted(plan.estimate.steps, 'step')} × {step} · {speed} ({said})"


def _turns(plan: Plan, prediction: Prediction, lead_s: float | None) -> Iterator[str]:
    limit_s = next((job.time_limit_s for job in plan.jobs if job.stage == "train"), None)
    if limit_s is None or prediction.run_s is None:
        return
    number = slices(prediction.run_s, limit_s) if lead_s is None else slices(prediction.run_s, limit_s, lead_s)
    limit = f"a time limit of {duration(limit_s)}"
    if not number:
        yield f"{limit} leaves no time to train in"
        return
    allowed = plan.restart.max_requeues + 1
    short = f", and {allowed} are allowed: raise `launch.max_requeues`, or the limit" if number > allowed else ""
    yield f"{limit}: {counted(number, 'turn')}{short}"


def _spent(prediction: Prediction) -> Iterator[str]:
    parts = [
        None if prediction.gpu_hours is None else f"{short(prediction.gpu_hours)} GPU-hours",
        None if prediction.energy_kwh is None else f"{short(prediction.energy_kwh)} kWh",
        prediction.cost,
    ]
    if any(parts):
        yield " · ".join(part for part in parts if part)


def _step(plan: Plan, prediction: Prediction) -> Iterator[str]:
    assert prediction.time is not None  # noqa: S101 - its caller has looked
    whole = prediction.time.step_s
    named = sorted(prediction.time.parts.items(), key=lambda pair: -pair[1])
    parts = [f"{part / whole:.0%} {name}".replace("%", " %") for name, part in named if part >= _PARTS * whole]
    rate = prediction.time.model_flops / whole / plan.batch.world_size
    each = "" if plan.batch.world_size == 1 else " on each device"
    yield f"a step: {', '.join(parts)}; {flops(rate)}/s{each}"


def amounts(terms: Mapping[str, int]) -> str:
    """`checkpoints 1.5 GiB · data 0.2 GiB`, the largest first."""
    named: Sequence[tuple[str, int]] = sorted(terms.items(), key=lambda pair: -pair[1])
    return " · ".join(f"{name} {gib(size)}" for name, size in named if size > 0)


def host(prediction: Prediction) -> list[str]:
    """Memory of a node outside of its devices."""
    if not prediction.host:
        return []
    there = prediction.host_capacity
    has = "how much the node has is not known here" if there is None else f"the node has {gib(there)}"
    return [f"{amounts(prediction.host)} · {has}"]


def disk(prediction: Prediction) -> list[str]:
    """What the run writes and reads."""
    return [amounts(prediction.disk)] if prediction.disk else []


def seconds(span: float) -> str:
    """A step's time: `0.12 s`, `1.0 s`, `28.0 s`, `12 min 30 s`."""
    if span >= 600:
        return duration(span)
    return f"{span:.1f} s" if span >= 1 else f"{span:.2g} s"


def short(number: float) -> str:
    """A number in three digits."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"
