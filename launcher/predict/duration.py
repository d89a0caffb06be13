"""From a step to a run: seconds, GPU-hours, energy, cost, and the slices of a time limit that it takes."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from launcher.predict.prediction import Time
from launcher.predict.setup import Setup

_IDLE, _BUSY = 0.3, 0.9
"""Part of its power limit that a GPU draws while it waits, and while it computes. Training reaches 85 to 95 % of the limit
(NVIDIA's DGX figures are the limit itself; Answer.AI saw 375 to 400 of a 4090's 450 W); waiting, about a third of it."""
_HOST = 1.15
"""Of the GPUs' energy, with what processors, memory and fans of their node draw beside them."""
_START_S = 180.0
"""Of a slice, what starts and loads: imports, the model, the data's index, the checkpoint."""


@dataclass(frozen=True)
class Duration:
    """What all steps of a run take and cost."""

    run_s: float
    """Seconds of all steps, without waiting, loading and measuring."""
    gpu_hours: float | None
    """None on a CPU."""
    energy_kwh: float | None
    """Of GPUs and their part of the nodes; None where the GPU's power is not known."""
    cost: str | None
    """In the site's currency, where its profile has a price."""


def duration(setup: Setup, step: Time, steps: int, price: float | None = None, currency: str = "") -> Duration:
    """What a number of steps takes and costs.

    Args:
        setup: what is trained.
        step: one optimizer step.
        steps: optimizer steps in all.
        price: what an hour of one GPU costs.
        currency: of the price.
    """
    run_s = steps * step.step_s
    if setup.device == "cpu":
        return Duration(run_s, None, None, None)
    hours = run_s / 3600 * setup.ranks
    cost = None if price is None else f"{hours * price:,.2f} {currency}".rstrip()
    energy = None if setup.gpu is None else hours * setup.gpu.power_w / 1000 * load(step) * _HOST
    return Duration(run_s, hours, energy, cost)


def load(step: Time) -> float:
    """Part of its power limit that a GPU draws on average: the seconds it computes at one part, those it waits at another."""
    waits = sum(step.parts.get(name, 0.0) for name in ("communication", "offload", "overhead"))
    share = waits / step.step_s
    return _BUSY * (1 - share) + _IDLE * share


def slices(run_s: float, limit_s: float, lead_s: float = 120.0, start_s: float = _START_S) -> int | None:
    """How many jobs of a time limit a run takes, one after another; None where a job has no time left to train.

    Args:
        run_s: seconds of all steps.
        limit_s: the time limit of a job.
        lead_s: seconds before the limit at which a job saves and leaves (`stop_lead_s` of a profile).
        start_s: seconds that each job needs before its first step.
    """
    left = limit_s - lead_s - start_s
    return max(1, ceil(run_s / left)) if left > 0 else None
