"""Leave a model and every random generator as they were found, so that measuring never changes training."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from bitsandbytes.nn import Linear4bit
from torch import nn


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


def _measuring(model: nn.Module) -> None:
    """Switch dropout off: eval mode for all but 4-bit layers.

    Those have nothing to switch off, and on CPUs with AVX512-BF16 their first forward pass in eval mode repacks the
    weights for good into a form that passes no gradient on: the training after it would not be the same.
    """
    model.eval()
    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.training = True
