"""What is predicted of a setup, computed once: a search and the fixes meet the same ones again and again."""

from __future__ import annotations

from dataclasses import fields

from launcher.predict import calibration, memory_sharding
from launcher.predict import memory as formula
from launcher.predict.architecture import Architecture
from launcher.predict.calibration import Calibration
from launcher.predict.prediction import Memory, Time
from launcher.predict.setup import Adapter, Setup
from launcher.predict.time import time

_MOST = 1000
_memories: dict[tuple[object, ...], tuple[Architecture, Memory]] = {}
_times: dict[tuple[object, ...], tuple[Architecture, Time | None]] = {}
_NAMES = tuple(field.name for field in fields(Setup) if field.name not in ("model", "adapter", "gpu", "settings"))


def memory(setup: Setup) -> Memory:
    """Memory of one device by term."""
    key = _key(setup)
    if key not in _memories:
        if len(_memories) >= _MOST:
            _memories.clear()
        _memories[key] = (setup.model, formula.memory(setup))  # the model is kept, so that its id stays its own
    return _memories[key][1]


def made() -> int:
    """Memories that were predicted since it was begun anew."""
    return len(_memories)


def forget() -> None:
    """Begin anew."""
    _memories.clear()
    _times.clear()


def needed(setup: Setup, learned: Calibration | None = None) -> int:
    """Bytes that a device must have free, corrected by what runs on it have taught."""
    found = memory(setup)
    return (calibration.memory(found, learned) if learned else found).total


def step_s(setup: Setup, learned: Calibration | None = None) -> float | None:
    """Seconds of one step, corrected likewise; None where the device's rate is not known."""
    key = (setup.gpu.name if setup.gpu else None, *_key(setup))
    if key not in _times:
        if len(_times) >= _MOST:
            _times.clear()
        _times[key] = (setup.model, time(setup) if setup.device == "cuda" else None)
    found, fit = _times[key][1], learned.step.get(setup.precision) if learned else None
    return found.step_s * (fit.value if fit else 1.0) if found else None


def held(setup: Setup) -> int:
    """Bytes that lie there from step to step, less than is needed; fast to say."""
    return sum(memory_sharding.held(setup).values())


def _key(setup: Setup) -> tuple[object, ...]:
    """All of a setup but its kind of GPU, which has no part in memory."""
    rest = (id(setup.model), tuple(sorted(setup.settings.items())), _adapter(setup.adapter))
    return (*(getattr(setup, name) for name in _NAMES), *rest)


def _adapter(adapter: Adapter | None) -> tuple[object, ...]:
    if adapter is None:
        return ()
    ranks = adapter.ranks
    rest = tuple(getattr(adapter, field.name) for field in fields(Adapter) if field.name != "ranks")
    return len(ranks), sum(ranks.values()), next(iter(ranks), None), *rest
