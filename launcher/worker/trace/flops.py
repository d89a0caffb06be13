"""Floating-point operations of what torch's own table (`torch.utils.flop_counter`) leaves out: attention on a CPU, experts, integers, sums in place.

An operation is a multiplication or an addition, so a product of [M, K] by [K, N] takes 2 · M · K · N, as in torch's table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import sdpa_backward_flop_count, sdpa_flop_count


def _attention(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> int:
    """Of all pairs of tokens, as torch counts for its other kernels: what a causal mask spares is not taken off."""
    shapes = (query.shape, _full(key, query), _full(value, query))
    return int(sdpa_flop_count(*shapes))  # type: ignore[no-untyped-call]


def _attention_backward(gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> int:
    shapes = (gradient.shape, query.shape, _full(key, query), _full(value, query))
    return int(sdpa_backward_flop_count(*shapes))  # type: ignore[no-untyped-call]


def _full(tensor: Tensor, query: Tensor) -> tuple[int, ...]:
    """Shape with as many heads as the queries have: a kernel that shares keys among heads computes as much."""
    return (tensor.shape[0], query.shape[1], *tensor.shape[2:])


def _grouped(one: Tensor, other: Tensor, *_: Any, **__: Any) -> int:
    """Each row meets one matrix, or each column of one meets one row of the other: no product has more than one group."""
    return 2 * one.numel() * other.shape[-1]


def _product(one: Tensor, other: Tensor, *_: Any, **__: Any) -> int:
    return 2 * one.numel() * other.shape[-1]


def _added(_into: Tensor, one: Tensor, other: Tensor, *_: Any, **__: Any) -> int:
    """How TRL's loss adds up its gradients, tile by tile."""
    return 2 * one.numel() * other.shape[-1]


_ATEN = torch.ops.aten
FLOPS: Mapping[Any, Callable[..., int]] = {
    _ATEN._scaled_dot_product_flash_attention_for_cpu: _attention,  # noqa: SLF001 - operations bear such names
    _ATEN._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,  # noqa: SLF001
    _ATEN._grouped_mm: _grouped,  # noqa: SLF001
    _ATEN.addmm_: _added,
    _ATEN._int_mm: _product,  # noqa: SLF001
}
"""Operation → formula, of its arguments."""
