"""Memory of one device at the peak of a training step, by term. Arithmetic alone: no torch, nothing measured, milliseconds.

The peak is a maximum over moments (forward, loss, backward, step). A pass through the model is played on a tape
(`launcher.predict.tape`); what lies in memory from step to step is counted beside it, and the strategy says who holds
which part of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from launcher.predict import memory_sharding
from launcher.predict.memory_extend import peaks
from launcher.predict.memory_pass import by_label
from launcher.predict.prediction import TERMS, Memory, Moment
from launcher.predict.setup import Setup

MIB = 2**20
CONTEXT_BYTES = 550 * MIB
"""CUDA's own memory of one process: kernels of torch and cuBLAS, and the workspace that cuBLAS takes. Not measured here.

NVIDIA's documentation gives no figure; 450 to 600 MiB are reported for Ampere and Hopper with lazily loaded modules
(the default since CUDA 12.2). `launcher calibrate` replaces it by what a run has seen.
"""
NCCL_BYTES = 300 * MIB
"""Buffers of NCCL's channels for one communicator of a few peers. Not measured: an estimate from its defaults, 4 MiB
(`NCCL_BUFFSIZE`) for each of 16 to 32 channels and direction."""
FRAGMENTATION = 0.02
"""Share that lies unused between blocks with `PYTORCH_ALLOC_CONF=expandable_segments:True`. Not measured here."""


def memory(setup: Setup) -> Memory:
    """Bytes of one device by term at the largest moment of a step.

    Args:
        setup: one training; sizes are those of one rank.
    """
    held = memory_sharding.held(setup)
    moments: dict[str, int] = {}
    best: tuple[int, str, Mapping[str, int]] = (-1, "step", {})
    for name, (_, labels) in peaks(memory_sharding.computed(setup)).items():
        moment = name.partition(" ")[0]
        terms = _add(held, by_label(labels), memory_sharding.besides(setup, name))
        total = sum(terms.values())
        moments[moment] = max(moments.get(moment, 0), total)
        if total > best[0]:
            best = (total, moment, terms)
    return _memory(setup, best, moments)


def _memory(setup: Setup, best: tuple[int, str, Mapping[str, int]], moments: dict[str, int]) -> Memory:
    allocated, moment, terms = best
    found = dict(terms)
    if setup.device == "cuda":
        found["context"] = CONTEXT_BYTES + (NCCL_BYTES if setup.ranks > 1 else 0)
        found["fragmentation"] = round(allocated * FRAGMENTATION)
    shown = {name: found[name] for name in TERMS if found.get(name)}
    return Memory(shown, _MOMENTS[moment], moments)


_MOMENTS: Mapping[str, Moment] = {each: each for each in get_args(Moment)}


def _add(*parts: Mapping[str, int]) -> dict[str, int]:
    names = {name for part in parts for name in part}
    return {name: sum(part.get(name, 0) for part in parts) for name in names}
