"""Disk of a run, by term: checkpoints, prepared data, the result and its merged model."""

from __future__ import annotations

from launcher.predict import memory_sharding, memory_states
from launcher.predict.setup import BYTES, Setup

TOKEN_BYTES = 8
"""Prepared data: an id and a label of 32 bits for each token; where a row's labels are its ids they still take their place."""
SMALL_FILES = 2**20
"""Configuration, tokenizer and random state beside weights."""


def disk(
    setup: Setup, *, checkpoints: int, tokens: int | None = None, merged: bool = False, copies: bool = False
) -> dict[str, int]:
    """Bytes on disk by term; terms of nothing are left out.

    Args:
        setup: one training.
        checkpoints: how many there are at most at once, with the one that is being written.
        tokens: tokens of the prepared data, padding not counted; None where it is not known.
        merged: the adapter is merged into its base when training ends.
        copies: the model is copied to the run's storage first.
    """
    stored = setup.model.parameters * BYTES[setup.dtype]
    found = {
        "checkpoints": checkpoint(setup) * checkpoints,
        "data": (tokens or 0) * TOKEN_BYTES,
        "model": result(setup),
        "merged": stored if merged else 0,
        "copy": stored if copies else 0,
    }
    return {term: size for term, size in found.items() if size}


def result(setup: Setup) -> int:
    """Bytes of what training leaves: the model, or the adapter alone."""
    return sum(each.numel * each.width for each in memory_states.trained(setup)) + SMALL_FILES


def checkpoint(setup: Setup) -> int:
    """Bytes of one checkpoint: what is trained, and the optimizer's state of all ranks.

    DeepSpeed writes float32 copies of what is trained as well, and a whole model under ZeRO-1 and 2.
    """
    moved = memory_sharding.parts(setup)
    return result(setup) + moved["optimizer"] * setup.shards
