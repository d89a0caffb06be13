"""Settings of the trainer that fail in its first step, or do nothing, whatever the hardware."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from launcher.recipe import optimizers
from launcher.recipe.contradiction import Contradiction
from launcher.recipe.schema import Recipe
from launcher.text import nearest_of, quote

_CHECKPOINTING = "training.activation_checkpointing"
_KWARGS = "training.activation_checkpointing_kwargs"
CHECKPOINTING_KEYS = ("every_n_layers", "offload", "selective", "use_reentrant")
"""The first two are transformers', the third TRL's, the last torch's."""
BACKENDS = ("inductor", "aot_eager", "eager")
"""Of torch's compiler: the one that is fast, and two that find out which part of it fails."""
MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")


def faults(recipe: Recipe) -> Iterator[Contradiction]:
    """Optimizer, activation checkpointing, compilation."""
    yield from optimizers.faults(recipe)
    extra = recipe.training.model_extra or {}
    yield from _checkpointing(recipe, extra.get("activation_checkpointing_kwargs"), extra)
    yield from _compilation(extra)


def _checkpointing(recipe: Recipe, kwargs: Any, extra: Mapping[str, Any]) -> Iterator[Contradiction]:
    if not kwargs:
        return
    if not isinstance(kwargs, dict):
        yield Contradiction(_KWARGS, f"needs a mapping, got {quote(str(kwargs))}", "write `{every_n_layers: 2}`")
        return
    listed = f"keys: {', '.join(CHECKPOINTING_KEYS)}"
    for name, value in kwargs.items():
        key = f"{_KWARGS}.{name}"
        if name not in CHECKPOINTING_KEYS:
            yield Contradiction(key, "unknown key", nearest_of(name, CHECKPOINTING_KEYS, listed))
        elif name == "every_n_layers" and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            yield Contradiction(key, f"needs a whole number from 1, got {quote(str(value))}", "write `2`, or remove it")
        elif name != "every_n_layers" and not isinstance(value, bool):
            yield Contradiction(key, f"needs true or false, got {quote(str(value))}", "write `true`, or remove it")
    if recipe.training.activation_checkpointing is False:
        hint = "write `activation_checkpointing: true`, or remove the kwargs"
        yield Contradiction(_KWARGS, "nothing is checkpointed", hint, (_CHECKPOINTING,))
    if kwargs.get("selective") is True:
        yield from _selective(recipe, kwargs)
    if kwargs.get("offload") is True and extra.get("activation_offloading") is True:
        yield Contradiction(
            f"{_KWARGS}.offload",
            "activations are moved to host memory twice",
            "keep one of `offload` and `activation_offloading`",
            ("training.activation_offloading",),
        )


def _selective(recipe: Recipe, kwargs: Mapping[str, Any]) -> Iterator[Contradiction]:
    key = f"{_KWARGS}.selective"
    if kwargs.get("use_reentrant") is True:
        yield Contradiction(key, "works on checkpoints that are not reentrant", "remove `use_reentrant`", (_KWARGS,))
    if kwargs.get("offload") is True:
        message = "together with `offload` it has not been tried"
        yield Contradiction(key, message, "keep one of `selective` and `offload`", (_KWARGS,))
    if recipe.peft is not None or recipe.model.adapter_name_or_path is not None:
        yield Contradiction(
            key,
            "fails with an adapter: TRL hands it on to torch, which does not know it",
            "write `{every_n_layers: 2}` instead",
            ("peft", "model.adapter_name_or_path"),
        )


def _compilation(extra: Mapping[str, Any]) -> Iterator[Contradiction]:
    backend, mode = extra.get("torch_compile_backend"), extra.get("torch_compile_mode")
    for name, value, words in (("torch_compile_backend", backend, BACKENDS), ("torch_compile_mode", mode, MODES)):
        if value is None:
            continue
        if value not in words:
            hint = nearest_of(str(value), words, f"write one of {', '.join(words)}")
            yield Contradiction(f"training.{name}", f"{quote(str(value))} does not train here", hint)
        if extra.get("torch_compile") is not True:
            hint = "add `torch_compile: true`, or remove it"
            yield Contradiction(f"training.{name}", "nothing is compiled", hint, ("training.torch_compile",))
    if mode is not None and backend not in (None, "inductor"):
        yield Contradiction(
            "training.torch_compile_mode",
            f"`{backend}` has no modes",
            "write `torch_compile_backend: inductor`, or remove the mode",
            ("training.torch_compile_backend",),
        )
