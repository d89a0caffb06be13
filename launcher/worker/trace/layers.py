"""Small copies of a model: which layers are alike, and how few of them tell what all of them need.

A decoder is a few layers of their own kind (`head`), then a pattern that repeats (`period`): all alike in most models,
five with a window and one without in Gemma 3. Two copies that differ by one period give what one period adds.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM

from launcher.errors import EnvironmentFault

Kind = tuple[Any, ...]


@dataclass(frozen=True)
class Pattern:
    """How the layers of a model repeat."""

    layers: int
    head: int
    """Layers before the pattern begins."""
    period: int

    @property
    def copies(self) -> tuple[int, int]:
        """Layers of the two small copies: both end within a period as the model does.

        Two layers at least, so that the first and the last one each have a neighbour.
        """
        small = self.head + (self.layers - self.head) % self.period + self.period
        while small - self.head < 2:
            small += self.period
        return small, small + self.period

    @property
    def whole(self) -> bool:
        """The model is not larger than its copies: it is traced as it is."""
        return self.layers <= self.copies[1]


def pattern(kinds: Sequence[Kind], *, every: int = 1) -> Pattern:
    """The shortest head and period that give `kinds`; `every` layers are treated alike beside their kind."""
    layers = len(kinds)
    best: tuple[int, Pattern] | None = None
    for period in range(1, layers + 1):
        head = layers
        while head > 0 and (head - 1 + period >= layers or kinds[head - 1] == kinds[head - 1 + period]):
            head -= 1
        # what is treated alike counts from the first layer on, so a head must be whole in it
        wide = math.lcm(period, every)
        size = head + wide
        if best is None or size < best[0]:
            best = size, Pattern(layers, head, wide)
    assert best is not None  # noqa: S101 - a model has layers
    return best[1]


def kinds_of(model: nn.Module) -> list[Kind]:
    """What tells the layers of a model apart: classes, shapes, and the settings that a layer or its attention holds."""
    return [_kind(layer) for layer in decoder_layers(model)]


def decoder_layers(model: Any) -> nn.ModuleList:
    """The blocks of a decoder, in order.

    Raises:
        EnvironmentFault: there is no list of as many blocks as the configuration says.
    """
    layers = model.config.get_text_config().num_hidden_layers
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == layers and "expert" not in name:
            return module
    raise EnvironmentFault(
        f"the {layers} layers of a `{model.config.model_type}` were not found in its modules: it cannot be traced"
    )


def meta_model(config: Any, dtype: torch.dtype) -> Any:
    """The model as transformers builds it, without memory."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, dtype=dtype)


def shortened(config: Any, layers: int) -> Any:
    """The configuration with fewer layers; lists with an entry per layer are cut."""
    short = copy.deepcopy(config)
    text = short.get_text_config()
    before = text.num_hidden_layers
    for name, value in list(vars(text).items()):
        if isinstance(value, (list, tuple)) and len(value) == before:
            setattr(text, name, type(value)(value[:layers]))
    text.num_hidden_layers = layers
    return short


def _kind(layer: nn.Module) -> Kind:
    shapes = tuple((name, tuple(each.shape)) for name, each in layer.named_parameters())
    classes = tuple(type(each).__name__ for each in layer.modules())
    settings = tuple(_settings(each) for each in layer.modules())
    return classes, shapes, settings


def _settings(module: nn.Module) -> Kind:
    """Names and flags that a module holds; numbers such as its place in the stack are no kind."""
    plain = {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, (str, bool, type(None))) and not name.startswith("_")
    }
    return tuple(sorted(plain.items(), key=lambda item: item[0]))
