"""What finished runs teach about one kind of device: how far its memory and its speed are from the formulas. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

from launcher.predict.prediction import Memory, Time

DYNAMIC = ("activations", "loss", "gather", "workspace")
"""Terms that a formula approximates; the others are counted to the byte."""
_LEAST_SHARE = 0.1
"""Of what is allocated, that these terms must make up before a run says anything about them."""
_LEAST_FOR_OUTLIERS = 4
_SIGMAS = 3.5
"""Iglewicz and Hoaglin, 1993, How to Detect and Handle Outliers: a modified z-score above 3.5 is one."""
_SIGMA_OF_MAD = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""
_LEAST_DEVIATION = 0.1
"""As a share of the median: runs that agree to a percent must not make one that is off by five an outlier."""


@dataclass(frozen=True)
class Fit:
    """A figure learned from runs: the median of those that count, how many they are, the least and the largest of them."""

    value: float
    n: int
    low: float
    high: float


@dataclass(frozen=True)
class Point:
    """What one run measured, beside what the formulas alone had predicted for it. Bytes of one rank, seconds of one step."""

    run: str
    """Id of the run; it counts once."""
    name: str
    precision: str
    """Type of its matrix products, by torch's name."""
    step_s: float | None = None
    predicted_s: float | None = None
    flops: float | None = None
    """Floating-point operations of one step, with what is computed again; of all ranks."""
    allocated: int | None = None
    """Most that torch's allocator had given out in a step; None on a CPU."""
    reserved: int | None = None
    """Most that it had taken from the device."""
    outside: int | None = None
    """In use beside that: the context of CUDA and NCCL. On a CPU, what the process holds beside the predicted tensors."""
    counted: int | None = None
    """Predicted terms that are counted to the byte."""
    dynamic: int | None = None
    """Predicted terms that are approximated (`DYNAMIC`)."""


@dataclass(frozen=True)
class Calibration:
    """One kind of device as its runs showed it. What no run told is None, or missing in a mapping."""

    device: str
    """A GPU by its name in the catalogue, or a processor (`runs.machine.processor`)."""
    context: Fit | None = None
    """Bytes in use beside what the allocator holds."""
    dynamic: Fit | None = None
    """Measured over predicted bytes of the terms `DYNAMIC`."""
    fragmentation: Fit | None = None
    """Bytes taken from the device and not given out, over those given out."""
    step: Mapping[str, Fit] = field(default_factory=dict)
    """Precision → measured over predicted seconds of a step, at the catalogue's rate."""
    s_per_flop: Mapping[str, Fit] = field(default_factory=dict)
    """Precision → seconds of a step over its floating-point operations. On a CPU this is its speed."""
    outliers: tuple[str, ...] = ()
    """Runs that some figure was made without, each with the figure: `support (step)`."""

    def factors(self, precision: str) -> dict[str, float]:
        """What a prediction was corrected by, to be kept beside it (`Prediction.calibrated`): only so can it be undone."""
        found = {"context": self.context, "dynamic": self.dynamic, "step": self.step.get(precision)}
        return {name: each.value for name, each in found.items() if each}


def learn(device: str, points: Iterable[Point]) -> Calibration:
    """The figures of one device. Each is a median, without runs that are far off; those are named."""
    known = list(points)
    far: list[str] = []

    def figure(name: str, of: Callable[[Point], float | None], among: Sequence[Point] = known) -> Fit | None:
        told = [(point.name, value) for point in among if (value := of(point)) is not None]
        kept, off = _without_outliers(told)
        far.extend(f"{each} ({name})" for each in off)
        return Fit(median(kept), len(kept), min(kept), max(kept)) if kept else None

    def by_precision(name: str, of: Callable[[Point], float | None]) -> dict[str, Fit]:
        kinds = sorted({point.precision for point in known})
        found = {each: figure(name, of, [p for p in known if p.precision == each]) for each in kinds}
        return {each: fit for each, fit in found.items() if fit}

    return Calibration(
        device,
        context=figure("context", lambda point: point.outside),
        dynamic=figure("dynamic", _dynamic),
        fragmentation=figure("fragmentation", _fragmentation),
        step=by_precision("step", lambda point: _ratio(point.step_s, point.predicted_s)),
        s_per_flop=by_precision("s_per_flop", lambda point: _ratio(point.step_s, point.flops)),
        outliers=tuple(far),
    )


def memory(predicted: Memory, learned: Calibration) -> Memory:
    """A prediction of the formulas, corrected. Terms that are counted to the byte stay as they are."""
    factor = learned.dynamic.value if learned.dynamic else 1.0
    terms = {name: round(size * factor) if name in DYNAMIC else size for name, size in predicted.terms.items()}
    allocated = sum(size for name, size in terms.items() if name not in ("context", "fragmentation"))
    if learned.context:
        terms["context"] = round(learned.context.value)
    if learned.fragmentation:
        terms["fragmentation"] = round(allocated * learned.fragmentation.value)
    return Memory(terms, predicted.moment, {**predicted.moments, predicted.moment: allocated})


def time(predicted: Time, learned: Calibration, precision: str) -> Time:
    """A prediction at the catalogue's rate, corrected by what steps really took; as it is where no run of this precision told."""
    fit = learned.step.get(precision)
    if fit is None:
        return predicted
    parts = {name: seconds * fit.value for name, seconds in predicted.parts.items()}
    return replace(predicted, parts=parts, rate="calibrated")


def _dynamic(point: Point) -> float | None:
    """None where these terms are too small a part of the run to be told from noise."""
    if point.allocated is None or point.counted is None or not point.dynamic:
        return None
    if point.dynamic < _LEAST_SHARE * (point.counted + point.dynamic) or point.allocated <= point.counted:
        return None
    return (point.allocated - point.counted) / point.dynamic


def _fragmentation(point: Point) -> float | None:
    share = _ratio(point.reserved, point.allocated)
    return None if share is None else max(0.0, share - 1)


def _ratio(measured: float | None, predicted: float | None) -> float | None:
    return measured / predicted if measured is not None and predicted else None


def _without_outliers(told: Sequence[tuple[str, float]]) -> tuple[list[float], list[str]]:
    """Values that count, and the names of those that do not."""
    values = [value for _, value in told]
    if len(values) < _LEAST_FOR_OUTLIERS:
        return values, []
    middle = median(values)
    deviation = _SIGMA_OF_MAD * median(abs(value - middle) for value in values)
    limit = max(_SIGMAS * deviation, _LEAST_DEVIATION * abs(middle))
    kept = [value for value in values if abs(value - middle) <= limit]
    return kept, [name for name, value in told if abs(value - middle) > limit]
