"""Settings of an adapter that contradict one another, judged on the recipe alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import get_args

from launcher.recipe.contradiction import Contradiction
from launcher.recipe.peft import Peft, Start
from launcher.recipe.schema import Recipe
from launcher.text import nearest_of, quote

STARTS = get_args(Start)
_START = "peft.init_lora_weights"
_NEEDS_MORE = {
    "eva": "needs a pass over the data before training, and without one starts like `true`",
    "lora_ga": "needs gradients of the data before training, and without them starts like `true`",
    "corda": "needs a pass over the data before training, which a recipe cannot order",
    "loftq": "quantizes the base by itself, and the adapter would fit no base that can be loaded",
}


def adapter(recipe: Recipe) -> Iterator[Contradiction]:
    """Every contradiction within `peft`."""
    if recipe.peft is None:
        return
    if not recipe.peft.target_modules:
        yield Contradiction("peft.target_modules", "names no layer", "write `target_modules: all-linear`")
    yield from _start(recipe.peft)
    if recipe.peft.layers_to_transform and isinstance(recipe.peft.target_modules, str):
        yield Contradiction(
            "peft.layers_to_transform",
            "is for named layers, and `target_modules` is no list",
            "name them, for example `target_modules: [q_proj, v_proj]`",
            ("peft.target_modules",),
        )


def _start(peft: Peft) -> Iterator[Contradiction]:
    start = peft.init_lora_weights
    if isinstance(start, bool):
        return
    if start not in STARTS and not re.fullmatch(r"pissa_niter_\d+", start):
        names = [name for name in STARTS if name not in _NEEDS_MORE]
        listed = f"names: true, false, {', '.join(names)}, pissa_niter_4"
        near = nearest_of(start, [*names, "pissa_niter_4"], listed)
        yield Contradiction(_START, f"{quote(start)} is no start that peft has", near)
    if start in _NEEDS_MORE:
        yield Contradiction(_START, f"`{start}` {_NEEDS_MORE[start]}", "write `init_lora_weights: true`, or `gaussian`")
    if start == "orthogonal" and peft.r % 2:
        hint = f"write `r: {peft.r + 1}`"
        yield Contradiction(_START, f"`orthogonal` takes an even rank, `r` is {peft.r}", hint, ("peft.r",))
    if start == "mica" and peft.use_dora:
        hint = "keep one of `init_lora_weights: mica` and `use_dora: true`"
        yield Contradiction(_START, "peft has no `mica` with `use_dora`", hint, ("peft.use_dora",))
