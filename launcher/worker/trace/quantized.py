"""Quantized linear layers for a trace: bitsandbytes' storage, and what its kernels keep and expand, in plain torch.

bitsandbytes' parameter classes and kernels take no fake tensors. These layers hold the same bytes: the codes, one scale
(`absmax`) per block and, with double quantization, 8-bit scales with scales of their own; per row for 8 bits.

Shapes: T = tokens, I = inputs, O = outputs of a layer.
Source: bitsandbytes 0.50.2, `functional.quantize_4bit`, `autograd/_functions.py`, `backends/cuda/ops.py`.
"""

from __future__ import annotations

from typing import Any

import bitsandbytes as bnb
import torch
from torch import Tensor, nn

from launcher.worker.trace.live import LiveBytes

BLOCK = 64
"""Weights that share a scale in 4 bits."""
NESTED_BLOCK = 256
"""Scales that share a scale."""
CODES = 16
"""Values that 4 bits can take, kept in float32 with each layer."""
NESTED_CODES = 256


class Linear4bit(bnb.nn.Linear4bit):  # type: ignore[misc, unused-ignore]
    """A layer in 4 bits; the weight is a plain tensor and its scales are buffers."""

    live: LiveBytes | None = None

    def forward(self, x: Tensor) -> Tensor:
        """What bitsandbytes does in training: nothing but the codes is kept, the weight is expanded both ways."""
        kind = x.dtype
        if self.compute_dtype is not None:
            x = x.to(self.compute_dtype)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        made: Tensor = _Expanded.apply(x, self.weight, bias, (self.out_features, self.in_features), self.live)  # type: ignore[no-untyped-call]
        return made.to(kind)


class Linear8bit(bnb.nn.Linear8bitLt):  # type: ignore[misc, unused-ignore]
    """A layer in 8 bits (LLM.int8)."""

    live: LiveBytes | None = None
    on_gpu = False

    def forward(self, x: Tensor) -> Tensor:
        """On a GPU the product is one of integers, and the input is kept; on a CPU the weight is expanded."""
        product = _Integers if self.on_gpu else _ExpandedKeepingInput
        made: Tensor = product.apply(x, self.weight, self.bias, (self.out_features, self.in_features), self.live)  # type: ignore[no-untyped-call]
        return made


def stand_in(layer: nn.Module, live: LiveBytes, table: Tensor, *, on_gpu: bool) -> None:
    """Make a quantized layer one for a trace; others stay what they are.

    Args:
        layer: any module.
        live: counts what the layer expands.
        table: the values of 8-bit scales, which all layers share.
        on_gpu: which of bitsandbytes' kernels would run.
    """
    if isinstance(layer, bnb.nn.Linear4bit):
        layer.__class__ = Linear4bit
        _hold_4bit(layer, table)
    elif isinstance(layer, bnb.nn.Linear8bitLt):
        layer.__class__ = Linear8bit
        layer.on_gpu = on_gpu
        _hold_8bit(layer)
    else:
        return
    layer.live = live


def _hold_4bit(layer: Any, table: Tensor) -> None:
    weight, storage = layer.weight, layer.quant_storage
    size = layer.in_features * layer.out_features
    codes = torch.empty(-(-size // (2 * storage.itemsize)), 1, dtype=storage)
    scales = -(-size // BLOCK)
    if weight.compress_statistics:
        held = {
            "absmax": torch.empty(scales, dtype=torch.uint8),
            "nested_absmax": torch.empty(-(-scales // NESTED_BLOCK)),
            "nested_code": table,
            "offset": torch.empty(()),
        }
    else:
        held = {"absmax": torch.empty(scales)}
    layer.weight = nn.Parameter(codes, requires_grad=False)
    _hold(layer, {**held, "code": torch.empty(CODES)})


def _hold_8bit(layer: Any) -> None:
    codes = torch.empty(layer.out_features, layer.in_features, dtype=torch.int8)
    layer.weight = nn.Parameter(codes, requires_grad=False)
    _hold(layer, {"scales": torch.empty(layer.out_features)})


def _hold(layer: nn.Module, tensors: dict[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        layer.register_buffer(f"quant_{name}", tensor, persistent=False)


class _Expanded(torch.autograd.Function):
    """x · Wᵀ with W expanded from its codes for the product, again in the backward pass. Keeps the codes alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, codes: Tensor, bias: Tensor | None, shape: tuple[int, int], live: Any) -> Tensor:
        ctx.codes, ctx.shape, ctx.live = codes, shape, live
        with live.called("workspace"):
            scales, weight_OI = torch.empty(shape[0] * shape[1] // BLOCK), torch.empty(shape, dtype=x.dtype)
        made = nn.functional.linear(x, weight_OI, bias)
        del scales
        return made

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        if not ctx.needs_input_grad[0]:
            return (None,) * 5
        with ctx.live.called("workspace"):
            weight_OI = torch.empty(ctx.shape, dtype=gradient.dtype)
        return gradient @ weight_OI, None, None, None, None


class _ExpandedKeepingInput(_Expanded):
    """The same, with the input kept too: bitsandbytes' 8 bits on a CPU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, codes: Tensor, bias: Tensor | None, shape: tuple[int, int], live: Any) -> Tensor:
        ctx.kept = x
        return _Expanded.forward(ctx, x, codes, bias, shape, live)


class _Integers(torch.autograd.Function):
    """x in 8 bits by W in 8 bits, row by row, back in x's type. Keeps x; columns of outliers, which depend on x, are left out."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, codes_OI: Tensor, _bias: Tensor | None, shape: tuple[int, int], live: Any
    ) -> Tensor:
        flat_TI = x.reshape(-1, shape[1])
        with live.called("workspace"):
            whole_TI = torch.empty_like(flat_TI.to(torch.float16), dtype=torch.int8)
            sums_TO = torch._int_mm(whole_TI, codes_OI.t())  # noqa: SLF001 - the product that bitsandbytes' kernel is
        ctx.kept, ctx.codes, ctx.shape, ctx.live = flat_TI, codes_OI, shape, live
        made = torch.empty_like(sums_TO, dtype=x.dtype)
        return made.reshape(*x.shape[:-1], shape[0])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return _Expanded.backward(ctx, gradient)
