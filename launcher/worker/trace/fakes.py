"""What a training step asks of numbers, answered for tensors that hold none."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class Answers(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Answers in place of fake tensors.

    A choice by a mask takes all: every token of the batch is trained. A whole number that is read is the length of a
    document: all are of one length. Other numbers are not known, and reading one is an error. Products of experts in
    float32, which a CPU computes, have no fake form in torch 2.13; theirs is here.
    """

    def __init__(self, document: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._document = document

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default and not args[0].dtype.is_floating_point:  # noqa: SLF001
            if args[0].dtype != torch.bool and getattr(args[0], "constant", None) is None:
                return self._document
        elif func in (torch.ops.aten.index.Tensor, torch.ops.aten._index_put_impl_.default):
            args = (args[0], _places(args[1]), *args[2:])
        elif func is torch.ops.aten._grouped_mm.default and args[0].dtype != torch.bfloat16:  # noqa: SLF001
            return args[0].new_empty(grouped_shape(*args, **(kwargs or {})))
        return func(*args, **(kwargs or {}))


def _places(indices: Any) -> list[Any]:
    places: list[Any] = []
    for each in indices:
        if isinstance(each, Tensor) and each.dtype == torch.bool:
            places += [torch.empty(each.numel(), dtype=torch.long) for _ in range(each.ndim)]
        else:
            places.append(each)
    return places


def grouped_shape(one: Tensor, other: Tensor, offs: Tensor | None = None, *_: Any, **__: Any) -> tuple[int, ...]:
    """Shape of a product by groups: of rows with one matrix each, or of rows with rows, which makes a matrix for each group."""
    if one.ndim == other.ndim == 2 and offs is not None:
        return (offs.numel(), one.shape[0], other.shape[1])
    return (*one.shape[:-1], other.shape[-1]) if one.ndim >= other.ndim else (one.shape[0], other.shape[-1])
