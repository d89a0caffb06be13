"""Which of two setups of the same training is faster: by predicted seconds, else by a rule of thumb for the order alone."""

from __future__ import annotations

from launcher.plan import figures
from launcher.predict.setup import Setup

_AGAIN = 1 / 3
"""A forward pass is a third of forward and backward: what checkpointing every layer computes again."""
_PER_PASS = 512
"""Tokens whose time one forward pass costs beside its arithmetic: launching kernels, expanding 4-bit weights."""
_STRATEGY = {"ddp": 1.0, "zero1": 1.02, "fsdp2": 1.05, "zero2": 1.05, "zero3": 1.10}
"""Ranks that share more speak more; ZeRO-3 gathers like FSDP2, module by module from Python."""
_OFFLOAD = {"none": 1.0, "optimizer": 1.5, "params": 3.0}
"""Optimizer state crosses to the host once a step, weights in each pass."""
_EIGHT_BIT = 1.047
"""torchtune's README: 8-bit AdamW costs 4.7 % of the speed of full fine-tuning."""


def order(setup: Setup) -> float:
    """Seconds of one optimizer step, else the rule's figure, which has no unit: only setups of one training compare."""
    known = figures.step_s(setup)
    return rule(setup) if known is None else known


def in_seconds(setup: Setup) -> bool:
    """Whether the order is one of seconds."""
    return setup.gpu is not None and setup.device == "cuda"


def rule(setup: Setup) -> float:
    """Tokens of a step on one rank, each counted as often as its arithmetic is made, with what is paid beside it."""
    again = 0.0 if setup.checkpointing is None else _AGAIN / setup.checkpointing.every_n_layers
    moved = setup.checkpointing is not None and setup.checkpointing.offload
    passes = setup.accumulation * (setup.tokens * (1 + again + 0.1 * moved) + _PER_PASS)
    eight = _EIGHT_BIT if setup.method == "full" and "8bit" in setup.optim else 1.0
    return passes * _STRATEGY[setup.strategy] * _OFFLOAD[setup.offload] * eight
