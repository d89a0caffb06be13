"""Where a CPU's kernels hold other memory than a GPU's: the GPU's ways, for a plan for GPUs that is traced on CPU tensors.

torch without CUDA makes no fake CUDA tensors, so the trace is one of fake CPU tensors. Most of it does not differ:
autograd keeps the same, the flash kernel of either keeps queries, keys, values, its output and one number per token and
head, in bfloat16 as in float32. What differs is replaced here:

- TRL's fused loss works on its tiles with Triton kernels and adds up gradients in one product, both without the
  temporaries of its CPU version; and it scores trained positions only, which takes a copy of the hidden states.
- dropout keeps a flag for each element, where a CPU keeps a number of the input's type;
- flash-attention kernels, and `sdpa_varlen`, need no mask. They are traced as torch's flash kernel without one.

What still differs: autocast of a GPU keeps some operations in float32 that a CPU's does in 16 bits (softmax and norms of
models that do not cast themselves); attention with a mask is a flash kernel here and a memory-efficient one on a GPU,
which keeps the same; workspaces of cuBLAS, 8 to 32 MiB, are not in a trace.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from trl.kernels import chunked_logprob
from trl.trainer import utils as trl_utils

WITHOUT_MASK = "launcher_without_mask"
_MASKED = ("eager", "sdpa", "sdpa_documents")


def attention(name: str) -> str:
    """The attention to trace for the plan's: the same, or the flash kernel without a mask."""
    if name.removeprefix("paged|") in _MASKED:
        return name
    AttentionInterface.register(WITHOUT_MASK, _flash)
    AttentionMaskInterface.register(WITHOUT_MASK, lambda **_: None)
    return WITHOUT_MASK


def _flash(
    _module: torch.nn.Module, query_BHTD: Tensor, key_BHTD: Tensor, value_BHTD: Tensor, _mask: None, **arguments: Any
) -> tuple[Tensor, None]:
    made_BHTD, _ = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(  # noqa: SLF001 - the kernel itself
        query_BHTD, key_BHTD, value_BHTD, 0.0, is_causal=True, scale=arguments.get("scaling")
    )
    return made_BHTD.transpose(1, 2), None


@contextmanager
def kernels(live: Any) -> Iterator[None]:
    """In the block, TRL's fused loss holds what it holds on a GPU."""

    def add_product(_into: Tensor, one: Tensor, other: Tensor) -> None:
        live.flops[live.at] += 2 * one.shape[0] * one.shape[1] * other.shape[1]

    with (
        mock.patch.object(trl_utils, "_use_triton", lambda _: True),
        mock.patch.object(torch.nn.functional, "dropout", _dropout),
        mock.patch.multiple(
            chunked_logprob, _forward_tile=_in_place, _backward_tile=_in_place, _addmm_fp32=add_product
        ),
    ):
        yield


def _dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:  # noqa: A002, ARG001 - torch's signature
    """One kernel, which keeps flags."""
    return torch.native_dropout(input, p, training)[0] if training and p else input


def _in_place(*_: Any, **__: Any) -> None:
    """A Triton kernel: it works on what is there already."""
