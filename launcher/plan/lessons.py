"""What one run teaches: its measurements beside what its plan had predicted, and predictions corrected by what runs have taught. Pure."""

from __future__ import annotations

from dataclasses import replace

from launcher.plan.setups import longest
from launcher.plan.types import Plan
from launcher.predict import calibration
from launcher.predict.calibration import DYNAMIC, Calibration, Point
from launcher.predict.prediction import Prediction, Time
from launcher.predict.rates import cpu_rates
from launcher.predict.setup import Setup
from launcher.predict.time import time
from launcher.runs.measures import Measures

_NODE = 1e11
"""Floating-point operations a second of a node without GPUs that there is none of; its ranks share them. Only ratios to it are used."""
_LEAST_STEPS = 5
"""Fewer say little about the usual step."""
_LEAST_FILLED = 0.9
"""Of the largest batch that a plan counts on, what a run must have seen to say something about its activations."""


def precision(plan: Plan) -> str:
    """Type of the plan's matrix products, by torch's name."""
    return "bfloat16" if plan.trainer.get("bf16") else "float16" if plan.trainer.get("fp16") else "float32"


def point(run: str, name: str, plan: Plan, measured: Measures | None) -> Point | str:
    """What a run teaches; a sentence where it teaches nothing.

    Args:
        run: its id.
        name: what people call it.
        plan: that of the attempt that was measured.
        measured: what its steps took.
    """
    if measured is None or not measured.over:
        return "nothing was measured in it"
    if plan.prediction is None:
        return f"nothing was predicted for it{f': {plan.unpredicted}' if plan.unpredicted else ''}"
    if measured.steps < _LEAST_STEPS:
        return f"{measured.steps} steps were measured, {_LEAST_STEPS} are needed"
    predicted, type_ = plan.prediction, precision(plan)
    counted, dynamic = _tensors(predicted)
    length, batch = longest(plan), plan.batch
    filled = _share(measured.computed_tokens, predicted.formula_tokens or batch.global_size * length)
    largest = min(1.0, _share(measured.most("largest_tokens"), batch.per_device * length))
    told = Point(
        run,
        name,
        type_,
        step_s=measured.step_s,
        predicted_s=predicted.formula_s * filled if predicted.formula_s else None,
        flops=predicted.flops * filled if predicted.flops else None,
        counted=counted,
        dynamic=round(dynamic * largest),
    )
    process = measured.most("anonymous_bytes")
    if process is not None:
        return replace(told, outside=max(0, process - counted - round(dynamic * largest)))
    return replace(
        told,
        dynamic=told.dynamic if largest >= _LEAST_FILLED else None,
        allocated=measured.most("allocated_bytes"),
        reserved=measured.most("reserved_bytes"),
        outside=_outside(measured, predicted),
    )


def taught(predicted: Prediction, setup: Setup, learned: Calibration | None) -> Prediction:
    """A prediction of memory, with its time, and both with what runs on this device have taught; the verdict is not judged anew.

    How fast a processor is stands in no catalogue: without a run there is no time on a CPU.
    """
    formula = _time(setup)
    held_to = replace(
        predicted,
        time=formula if setup.device == "cuda" else None,
        formula_s=formula.step_s if formula else None,
        formula_tokens=formula.tokens if formula else None,
        flops=formula.hardware_flops if formula else None,
    )
    if learned is None:
        return held_to
    known = formula and (setup.device == "cuda" or setup.precision in learned.step)
    return replace(
        held_to,
        memory=calibration.memory(predicted.memory, learned),
        time=calibration.time(formula, learned, setup.precision) if formula and known else None,
        calibrated=learned.factors(setup.precision),
    )


def step_s(setup: Setup, learned: Calibration | None) -> float | None:
    """Seconds of one step, corrected where runs have taught; None where nothing tells how fast the device is."""
    formula = _time(setup)
    fit = learned.step.get(setup.precision) if learned else None
    if formula is None or (fit is None and setup.device == "cpu"):
        return None
    return formula.step_s * (fit.value if fit else 1.0)


def _time(setup: Setup) -> Time | None:
    """By the formulas alone; on a CPU, of a node that reaches `_NODE`."""
    return time(setup, cpu_rates(_NODE / setup.ranks_per_node) if setup.device == "cpu" else None)


def _tensors(predicted: Prediction) -> tuple[int, int]:
    """What the formulas alone had predicted to be given out: counted to the byte, and approximated."""
    terms, factor = predicted.memory.terms, predicted.calibrated.get("dynamic", 1.0)
    dynamic = sum(size for name, size in terms.items() if name in DYNAMIC)
    return predicted.memory.allocated - dynamic, round(dynamic / factor)


def _share(tokens: int | None, planned: int) -> float:
    """Tokens that were computed over those that a plan predicts for."""
    return tokens / planned if tokens else 1.0


def _outside(measured: Measures, predicted: Prediction) -> int | None:
    """What a rank's contexts take, without what others held when it was planned: that is not free, and counts as such."""
    outside, total = measured.most("outside_bytes"), measured.most("total_bytes")
    if outside is None or total is None:
        return outside
    return max(0, outside - max(0, total - predicted.capacity))
