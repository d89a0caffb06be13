"""What runs have taught about one kind of device, as people read it: the figures, and how far predictions are off without and with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from launcher import text
from launcher.predict.calibration import Calibration, Fit, Point, learn

_FEWEST_LEFT_OUT = 3
"""Runs from which on each is predicted by the others alone."""


def screen(device: str, points: Sequence[Point]) -> str:
    """The figures of a device and the errors of its runs."""
    learned = learn(device, points)
    on_cpu = all(point.allocated is None for point in points)
    lines = [
        *_figures(learned, on_cpu=on_cpu),
        *(f"left out  {each}: far from the others" for each in learned.outliers),
    ]
    return "\n".join([f"{device}: {text.counted(len(points), 'run')}", *lines, "", *errors(device, points)])


def errors(device: str, points: Sequence[Point]) -> list[str]:
    """By how much each run's prediction is off: by the formulas, and with what the others have taught."""
    apart = len(points) >= _FEWEST_LEFT_OUT
    rows = [["run", "step: formulas", "calibrated", "memory: formulas", "calibrated"]]
    for point in points:
        others = [each for each in points if each.run != point.run] if apart else points
        rows.append([point.name, *_errors(point, learn(device, others))])
    by = "each run by what the others have taught" if apart else "by what these runs themselves have taught"
    return [*text.table(rows, right=frozenset({1, 2, 3, 4})).splitlines(), f"predicted over measured, {by}"]


def step_error(point: Point, learned: Calibration | None) -> float | None:
    """Predicted over measured seconds of a step, less 1; None where nothing predicts them: on a CPU, before a run has taught."""
    fit = learned.step.get(point.precision) if learned else None
    if point.step_s is None or point.predicted_s is None or (fit is None and point.allocated is None):
        return None
    return point.predicted_s * (fit.value if fit else 1.0) / point.step_s - 1


def memory_error(point: Point, learned: Calibration | None) -> float | None:
    """Predicted over measured bytes, less 1: of what torch gives out, on a CPU of the process."""
    if point.counted is None or point.dynamic is None:
        return None
    factor = learned.dynamic.value if learned and learned.dynamic else 1.0
    predicted = point.counted + point.dynamic * factor
    if point.allocated is not None:
        return predicted / point.allocated - 1 if point.allocated else None
    if point.outside is None:
        return None
    context = learned.context.value if learned and learned.context else 0.0
    return (predicted + context) / (point.counted + point.dynamic + point.outside) - 1


def _errors(point: Point, learned: Calibration) -> list[str]:
    return [
        _percent(step_error(point, None)),
        _percent(step_error(point, learned)),
        _percent(memory_error(point, None)),
        _percent(memory_error(point, learned)),
    ]


def _figures(learned: Calibration, *, on_cpu: bool) -> Iterator[str]:
    def told(name: str, fit: Fit | None, show: Callable[[float], str]) -> Iterator[str]:
        if fit:
            spread = f"{show(fit.low)} to {show(fit.high)}, " if fit.n > 1 else ""
            yield f"{name}{show(fit.value)}  ({spread}{text.counted(fit.n, 'run')})"

    yield from told("process   beside its tensors " if on_cpu else "context   ", learned.context, text.gib)
    yield from told("memory    activations, loss, buffers ×", learned.dynamic, _two)
    yield from told("reserve   of the allocator, over what it gives out ", learned.fragmentation, lambda v: f"{v:.1%}")
    for precision, fit in () if on_cpu else learned.step.items():
        yield from told(f"step      in {precision}, over the catalogue's rate ×", fit, _two)
    for precision, fit in learned.s_per_flop.items():
        rate = Fit(1 / fit.value, fit.n, 1 / fit.high, 1 / fit.low)
        yield from told(f"speed     in {precision} ", rate, lambda value: f"{value / 1e9:.3g} GFLOP/s")


def _two(value: float) -> str:
    return f"{value:.2f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{round(100 * value):+d} %"
