"""The layer names in `peft` against the model's own: what peft would refuse, skip in silence, or take for more than was meant."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from launcher.errors import RecipeError
from launcher.plan.layers import Layers
from launcher.recipe.load import LoadedRecipe
from launcher.recipe.peft import Peft
from launcher.text import nearest_of, quote


def faults(loaded: LoadedRecipe, peft: Peft, layers: Layers) -> Iterator[RecipeError]:
    """Names and numbers that the model has not, and settings that leave nothing to adapt."""
    wrong = [*_targets(loaded, peft, layers), *_patterns(loaded, peft, layers), *_blocks(loaded, peft, layers)]
    yield from wrong
    if not wrong and layers.plain and not adapted(peft, layers):
        hint = "let a layer of `target_modules` stand neither in `exclude_modules` nor in `modules_to_save`"
        key = "peft.exclude_modules" if peft.exclude_modules else "peft.modules_to_save"
        yield loaded.error("no layer is left for an adapter", key=key, hint=hint)


def warnings(peft: Peft, layers: Layers) -> Iterator[str]:
    """Names that peft matches by their last letters, and not by whole parts."""
    for name in peft.modules_to_save:
        more = sorted({each.rpartition(".")[2] for each in layers.modules if each.endswith(name)} - {_last(name)})
        if more and layers.plain:
            whole = next(each for each in sorted(layers.modules, key=len) if each.endswith(f".{name}") or each == name)
            yield (
                f"peft.modules_to_save {quote(name)} trains {_and(more)} too, whose names end alike: "
                f"{quote(whole)} is that one alone"
            )


def adapted(peft: Peft, layers: Layers) -> list[str]:
    """The layers that get an adapter, by peft's rules. `layers.plain` says whether the names can be compared."""
    inside = [name for name in layers.weights if re.search(r"\.\d+\.", name)]
    if peft.target_modules == "all-linear":
        chosen = inside
    elif isinstance(peft.target_modules, str):
        chosen = layers.matched(peft.target_modules)
    else:
        chosen = [name for name in layers.weights if _ends(name, peft.target_modules)]
    whole = [re.compile(rf"(.*\.)?{re.escape(name)}(\..*)?") for name in peft.modules_to_save]
    return [
        name
        for name in chosen
        if not _ends(name, peft.exclude_modules)
        and not any(pattern.fullmatch(name) for pattern in whole)
        and (not peft.layers_to_transform or _block(name) in peft.layers_to_transform)
    ]


def _ends(name: str, endings: Sequence[str]) -> bool:
    return any(name == ending or name.endswith(f".{ending}") for ending in endings)


def _block(name: str) -> int | None:
    found = re.search(r"\.(\d+)\.", name)
    return int(found.group(1)) if found else None


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _and(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _patterns(loaded: LoadedRecipe, peft: Peft, layers: Layers) -> Iterator[RecipeError]:
    """Layers with a rank or scale of their own; peft leaves out in silence what names none."""
    listed = f"layers: {', '.join(layers.linear)}"
    for key in ("rank_pattern", "alpha_pattern"):
        for name in getattr(peft, key):
            try:
                re.compile(name)
            except re.error as fault:
                message = f"{quote(name)} is no regular expression: {fault}"
                yield loaded.error(message, key=f"peft.{key}.{name}", hint=listed)
                continue
            pattern = re.compile(rf"(.*\.)?({name})")
            if layers.plain and not any(pattern.fullmatch(each) for each in layers.weights):
                hint = nearest_of(name, layers.linear, listed)
                yield loaded.error(f"{quote(name)} names no layer of this model", key=f"peft.{key}.{name}", hint=hint)


def _blocks(loaded: LoadedRecipe, peft: Peft, layers: Layers) -> Iterator[RecipeError]:
    numbers = [number for name in layers.weights if (number := _block(name)) is not None]
    for place, number in enumerate(peft.layers_to_transform):
        if numbers and number > max(numbers):
            key, hint = f"peft.layers_to_transform.{place}", f"write numbers from 0 to {max(numbers)}"
            yield loaded.error(f"{number}, the model has {max(numbers) + 1} blocks", key=key, hint=hint)


def _targets(loaded: LoadedRecipe, peft: Peft, layers: Layers) -> Iterator[RecipeError]:
    """Layer names of `peft` that are not the model's. peft stops where none matches, and is silent where one does."""
    listed = f"layers: {', '.join(layers.linear)}"
    targets = peft.target_modules
    if isinstance(targets, str) and targets not in ("all-linear", "lm_head"):
        yield from _pattern(loaded, layers, targets, listed)
    for number, name in enumerate(() if isinstance(targets, str) else targets):
        wrong = layers.unfit(name)
        if wrong and name != "lm_head":
            hint = nearest_of(name, layers.linear, listed)
            yield loaded.error(f"{quote(name)} {wrong}", key=f"peft.target_modules.{number}", hint=hint)
    for key in ("exclude_modules", "modules_to_save"):
        for number, name in enumerate(getattr(peft, key)):
            if not layers.has(name):
                hint = nearest_of(name, layers.names, listed)
                yield loaded.error(f"{quote(name)} is no module of this model", key=f"peft.{key}.{number}", hint=hint)


def _pattern(loaded: LoadedRecipe, layers: Layers, pattern: str, listed: str) -> Iterator[RecipeError]:
    key = "peft.target_modules"
    try:
        matched = layers.matched(pattern)
    except re.error as fault:
        yield loaded.error(f"{quote(pattern)} is no regular expression: {fault}", key=key, hint=listed)
        return
    if not layers.plain:
        return
    if not matched:
        hint = f"it is compared with whole names such as `{layers.example}`; {listed}"
        if pattern in layers.linear:
            hint = f"write a list: `target_modules: [{pattern}]`"
        yield loaded.error(f"{quote(pattern)} matches no layer", key=key, hint=hint)
    wrong = [name for name in matched if name not in layers.weights]
    if wrong:
        hint = f"let it end in layers ({', '.join(layers.linear)})"
        yield loaded.error(f"{quote(pattern)} matches `{wrong[0]}`, which is no linear layer", key=key, hint=hint)
