"""Optimizers by transformers' names: what each keeps for a trained parameter, reads from `optim_args`, or needs beside."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from launcher.recipe.contradiction import Contradiction
from launcher.recipe.schema import Recipe
from launcher.text import nearest_of, quote

_OPTIM, _ARGS = "training.optim", "training.optim_args"
_SWITCHES = frozenset({"nesterov", "centered"})
_WHOLE = frozenset({"t_alpha", "t_beta3"})
_OWN_KEYS = {"beta1": "adam_beta1", "beta2": "adam_beta2", "eps": "adam_epsilon", "weight_decay": "weight_decay"}
"""What other tools write into `optim_args`, and the key of `training:` that says it."""


@dataclass(frozen=True)
class Optimizer:
    """One optimizer. 8-bit ones keep tensors below 4,096 elements, and embeddings, in 32 bits."""

    state_bytes: int
    """Bytes of state for each trained parameter."""
    arguments: tuple[str, ...] = ()
    """What it reads from `optim_args`; transformers ignores the rest without a word."""
    paged: bool = False
    """Whether its state moves to host memory when the GPU is full."""


_MIX = ("beta1", "beta2", "beta3", "alpha", "eps", "t_alpha", "t_beta3")
OPTIMIZERS: dict[str, Optimizer] = {
    "adamw_torch": Optimizer(8),
    "adamw_torch_fused": Optimizer(8),
    "adafactor": Optimizer(0),
    "sgd": Optimizer(0, ("momentum", "dampening", "weight_decay", "nesterov")),
    "adagrad": Optimizer(4, ("lr_decay", "weight_decay", "eps")),
    "rmsprop": Optimizer(4, ("momentum", "alpha", "eps", "weight_decay", "centered")),
    "adamw_8bit": Optimizer(2),
    "adamw_bnb_8bit": Optimizer(2),
    "paged_adamw_8bit": Optimizer(2, paged=True),
    "paged_adamw_32bit": Optimizer(8, paged=True),
    "lion_8bit": Optimizer(1),
    "lion_32bit": Optimizer(4),
    "paged_lion_8bit": Optimizer(1, paged=True),
    "paged_lion_32bit": Optimizer(4, paged=True),
    "ademamix": Optimizer(12, _MIX),
    "ademamix_8bit": Optimizer(3, _MIX),
    "paged_ademamix_32bit": Optimizer(12, _MIX, paged=True),
    "paged_ademamix_8bit": Optimizer(3, _MIX, paged=True),
    # The three below are handed `optim_args` as text and fail on any.
    "rmsprop_bnb": Optimizer(4),
    "rmsprop_bnb_32bit": Optimizer(4),
    "rmsprop_bnb_8bit": Optimizer(1),
}
"""Those that are offered: torch's, transformers' and bitsandbytes'. A test trains with each."""

_SMALL = "write `optim: paged_adamw_8bit`, whose state takes 2 bytes per parameter"
_PLAIN = "write `optim: adamw_torch_fused`"
_PACKAGES = {
    "torchao": (("adamw_torch_4bit", "adamw_torch_8bit"), _SMALL),
    "galore_torch": (
        tuple(f"galore_{kind}{each}" for kind in ("adamw", "adamw_8bit", "adafactor") for each in ("", "_layerwise")),
        _SMALL,
    ),
    "apollo_torch": (("apollo_adamw", "apollo_adamw_layerwise"), _SMALL),
    "lomo_optim": (("lomo", "adalomo"), _SMALL),
    "torchdistx": (("adamw_anyprecision",), _PLAIN),
    "grokadamw": (("grokadamw",), _PLAIN),
    "schedulefree": (("schedule_free_radam", "schedule_free_adamw", "schedule_free_sgd"), _PLAIN),
    "torch-optimi": (("stable_adamw",), _PLAIN),
}
REFUSED: dict[str, tuple[str, str]] = {
    "adamw_torch_xla": ("is for TPUs (torch_xla)", _PLAIN),
    "adamw_torch_npu_fused": ("is for Ascend NPUs (torch_npu)", _PLAIN),
    **{
        name: (f"needs the package `{package}`, with which runs have not been tried", hint)
        for package, (names, hint) in _PACKAGES.items()
        for name in names
    },
}
"""Name → why it is not offered, and what to write instead."""


def faults(recipe: Recipe) -> Iterator[Contradiction]:
    """What the trainer would refuse when it builds the optimizer, or ignore."""
    name, extra = recipe.training.optim, recipe.training.model_extra or {}
    if name in REFUSED:
        reason, hint = REFUSED[name]
        yield Contradiction(_OPTIM, f"{quote(name)} {reason}", hint)
    if extra.get("optim_target_modules") is not None:
        message = "chooses layers for GaLore and APOLLO, which are not offered"
        yield Contradiction("training.optim_target_modules", message, "remove it: all trained weights are optimized")
    written = extra.get("optim_args")
    if written and (name == "auto" or name in OPTIMIZERS):
        yield from _arguments(name, written)


def _arguments(name: str, written: str) -> Iterator[Contradiction]:
    values = {}
    for part in written.replace(" ", "").split(","):
        key, sign, value = part.partition("=")
        values[key] = value
        if not sign or "=" in value:
            yield Contradiction(_ARGS, f"{quote(part)} is not NAME=VALUE", "write `optim_args: momentum=0.9,…`")
            return
    known = OPTIMIZERS[name].arguments if name in OPTIMIZERS else ()
    for key, value in values.items():
        if key not in known:
            yield Contradiction(_ARGS, f"`{name}` reads no {quote(key)} from it", _instead(key, name, known), (_OPTIM,))
        elif wanted := _unfit(key, value):
            yield Contradiction(_ARGS, f"`{key}` needs {wanted}, got {quote(value)}", f"write `{key}={_example(key)}`")
    if _truth(values.get("nesterov", "")) and (
        _number(values.get("momentum")) <= 0 or _number(values.get("dampening"))
    ):
        hint = "write `momentum=0.9,nesterov=true`"
        yield Contradiction(_ARGS, "`nesterov` needs a momentum and no dampening", hint, (_OPTIM,))


def _instead(key: str, name: str, known: tuple[str, ...]) -> str:
    if known:
        return nearest_of(key, known, f"it reads {', '.join(known)}")
    if key in _OWN_KEYS:
        return f"write `training.{_OWN_KEYS[key]}`"
    return "name the optimizer that is meant in `training.optim`" if name == "auto" else "remove `optim_args`"


def _unfit(key: str, value: str) -> str | None:
    if key in _SWITCHES:
        return None if value.lower() in ("true", "false") else "true or false"
    if key in _WHOLE:
        return None if value.isdigit() else "a whole number"
    try:
        float(value)
    except ValueError:
        return "a number"
    return None


def _example(key: str) -> str:
    return "true" if key in _SWITCHES else "1000" if key in _WHOLE else "0.9"


def _truth(text: str) -> bool:
    return text.lower() == "true"


def _number(text: str | None) -> float:
    return 0.0 if text is None or _unfit("momentum", text) else float(text)
