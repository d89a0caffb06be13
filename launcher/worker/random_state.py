"""The random generators of a rank: left as they were found by what measures, and given a state where none was saved."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from bitsandbytes.nn import Linear4bit
from torch import nn
from transformers import set_seed


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Run the block with `model` in eval mode; afterwards modes and random states of this rank are as before.

    Covers the generators of Python, numpy, torch on the CPU and torch on every GPU that this process may use, and the
    train or eval mode of each module by itself.
    """
    modes = [(module, module.training) for module in model.modules()]
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    _measuring(model)
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)
        if gpus:
            torch.cuda.set_rng_state_all(gpus)


def draw_apart(seed: int, step: int, rank: int) -> None:
    """Set every random generator of this rank to a state that no other rank or step of the run has.

    For a rank that a checkpoint holds no state for. Equal arguments give equal states, on any number of ranks.
    """
    set_seed(int(np.random.SeedSequence((seed, step, rank)).generate_state(1)[0]))


def _measuring(model: nn.Module) -> None:
    """Switch dropout off: eval mode for all but 4-bit layers.

    Those have nothing to switch off, and on CPUs with AVX512-BF16 their first forward pass in eval mode repacks the
    weights for good into a form that passes no gradient on: the training after it would not be the same.
    """
    model.eval()
    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.training = True
