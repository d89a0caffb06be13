"""Arithmetic in float32 on weights that are stored in 16 bits, with one layer of them expanded at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

Kept = list[tuple[nn.Parameter, torch.Tensor]]


@torch.no_grad()
def logits(model: Any, rows: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    """What a model says to some rows of token ids, computed in float32: two models then differ by their weights alone.

    Needs the weights, one layer of them in float32, and all outside the layers (embedding, head) in float32.

    Returns:
        [T, V] for each row of T tokens; V is the vocabulary.
    """
    model.eval()
    with _expanded(model):
        return [model(input_ids=torch.tensor([row]), use_cache=False).logits[0] for row in rows]


def largest_difference(one: Sequence[torch.Tensor], other: Sequence[torch.Tensor]) -> float:
    """The largest |Δlogit|; not a number where one of them is none."""
    return float(torch.stack([(a - b).abs().max() for a, b in zip(one, other, strict=True)]).max())


@contextmanager
def _expanded(model: Any) -> Iterator[None]:
    """Layers (transformers knows their classes) are expanded while they run, everything else for the whole block."""
    names = set(getattr(model, "_no_split_modules", None) or ())
    layers = [each for each in model.modules() if type(each).__name__ in names]
    inside = {id(parameter) for layer in layers for parameter in layer.parameters()}
    kept: dict[int, Kept] = {}

    def before(layer: nn.Module, _: Any) -> None:
        kept[id(layer)] = _expand(layer.parameters())

    def after(layer: nn.Module, *_: Any) -> None:
        _put_back(kept.pop(id(layer), []))

    hooks = [layer.register_forward_pre_hook(before) for layer in layers]
    hooks += [layer.register_forward_hook(after, always_call=True) for layer in layers]
    outside = _expand(each for each in model.parameters() if id(each) not in inside)
    try:
        yield
    finally:
        _put_back(outside)
        for hook in hooks:
            hook.remove()


def _expand(parameters: Iterable[nn.Parameter]) -> Kept:
    kept = [(each, each.data) for each in parameters if each.is_floating_point()]
    for parameter, data in kept:
        parameter.data = data.float()
    return kept


def _put_back(kept: Kept) -> None:
    for parameter, data in kept:
        parameter.data = data
