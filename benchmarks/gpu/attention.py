"""Attention kernels that keep packed documents apart, and why one of them cannot be used here."""

from __future__ import annotations

import inspect
from importlib.util import find_spec

import torch
from torch.nn.attention.varlen import varlen_attn

from benchmarks.gpu.record import Skipped
from launcher.worker import attention as ours

PACKED = ("sdpa", ours.SDPA_DOCUMENTS, ours.SDPA_VARLEN, "flex_attention", "flash_attention_2", "flash_attention_3")
"""By transformers' names, and launcher's own two."""


def require(name: str, device: str) -> str:
    """Make the kernel known to transformers; returns its name.

    Raises:
        Skipped: it cannot run here.
    """
    why = why_not(name, device)
    if why:
        raise Skipped(why)
    if name in (ours.SDPA_DOCUMENTS, ours.SDPA_VARLEN):
        ours.register()
    return name


def fastest(device: str) -> str:
    """The first that runs here of those with no work between documents."""
    every = ("flash_attention_3", "flash_attention_2", ours.SDPA_VARLEN, "flex_attention", ours.SDPA_DOCUMENTS)
    return next(name for name in every if why_not(name, device) is None)


def why_not(name: str, device: str) -> str | None:
    """Why a kernel cannot train here; None where it can."""
    if name in ("sdpa", "eager", ours.SDPA_DOCUMENTS):
        return None
    if device == "cpu":
        return f"{name} has no backward pass on a CPU"
    package = {"flash_attention_2": "flash_attn", "flash_attention_3": "flash_attn_interface"}.get(name)
    if package and find_spec(package) is None:
        return f"the package {package} is not installed"
    if name == ours.SDPA_VARLEN and "enable_gqa" not in inspect.signature(varlen_attn).parameters:
        return f"the varlen kernel of torch {torch.__version__} takes no grouped keys"
    return None
