"""Batch arithmetic: global = per device × accumulation × world, always exactly."""

from __future__ import annotations

from launcher.errors import RecipeError
from launcher.plan.types import Batch, Decision
from launcher.recipe.load import LoadedRecipe

_GLOBAL = "training.global_batch_size"
_PER_DEVICE = "training.per_device_train_batch_size"
_ACCUMULATION = "training.gradient_accumulation_steps"
_SMALLEST = Decision(_PER_DEVICE, 1, "the smallest: one row always needs least")


def batch(loaded: LoadedRecipe, world_size: int, picked: Decision | None = None) -> tuple[Batch, tuple[Decision, ...]]:
    """The batch, and what was decided about it.

    Args:
        loaded: the recipe.
        world_size: ranks.
        picked: rows at a time, where they were chosen by prediction.

    Raises:
        RecipeError: the sizes do not divide; the hint names the nearest that do.
    """
    training = loaded.recipe.training
    per_device, accumulation = training.per_device_train_batch_size, training.gradient_accumulation_steps
    size = training.global_batch_size
    if per_device != "auto" and accumulation != "auto" and loaded.place(_GLOBAL) is None:
        size = per_device * accumulation * world_size
        decided = Decision(_GLOBAL, size, "follows from the two sizes the recipe names")
        return Batch(size, per_device, accumulation, world_size), (decided,)
    unit = world_size * (1 if per_device == "auto" else per_device) * (1 if accumulation == "auto" else accumulation)
    if size % unit or (per_device != "auto" and accumulation != "auto" and size != unit):
        raise _uneven(loaded, size, unit, world_size)
    if accumulation != "auto":
        return _with_accumulation(size, per_device, accumulation, world_size)
    if per_device == "auto":
        return _with_rows(size, picked or _SMALLEST, world_size)
    return Batch(size, per_device, size // unit, world_size), (_accumulation(size, per_device, world_size),)


def nearest_multiples(size: int, unit: int) -> tuple[int, ...]:
    """The three multiples of `unit` nearest to `size`, from the smallest."""
    around = {max(1, size // unit + step) * unit for step in range(-2, 4)}
    return tuple(sorted(sorted(around, key=lambda each: (abs(each - size), each))[:3]))


def _with_accumulation(
    size: int, per_device: int | str, accumulation: int, world_size: int
) -> tuple[Batch, tuple[Decision, ...]]:
    rows = size // (accumulation * world_size)
    if per_device != "auto":
        return Batch(size, rows, accumulation, world_size), ()
    reason = f"global batch {size} / ({accumulation} accumulation × {_ranks(world_size)})"
    return Batch(size, rows, accumulation, world_size), (Decision(_PER_DEVICE, rows, reason),)


def _with_rows(size: int, chosen: Decision, world_size: int) -> tuple[Batch, tuple[Decision, ...]]:
    rest = _accumulation(size, chosen.value, world_size)
    return Batch(size, chosen.value, rest.value, world_size), (chosen, rest)


def _accumulation(size: int, rows: int, world_size: int) -> Decision:
    reason = f"global batch {size} / ({rows} per device × {_ranks(world_size)})"
    return Decision(_ACCUMULATION, size // (rows * world_size), reason)


def _uneven(loaded: LoadedRecipe, size: int, unit: int, world_size: int) -> RecipeError:
    training = loaded.recipe.training
    parts = [
        (training.per_device_train_batch_size, "per device"),
        (training.gradient_accumulation_steps, "accumulation"),
        (world_size, "rank" if world_size == 1 else "ranks"),
    ]
    product = " × ".join(f"{value} {name}" for value, name in parts if value != "auto")
    if "auto" not in (parts[0][0], parts[1][0]):
        message = f"{size} rows are not {product} = {unit}"
        hint = f"write `global_batch_size: {unit}`, or leave {_name(_PER_DEVICE)} or {_name(_ACCUMULATION)} out"
        return loaded.error(message, key=_GLOBAL, hint=hint)
    written = [_name(key) for key in (_PER_DEVICE, _ACCUMULATION) if loaded.place(key)]
    change = " or ".join([*written, *(["the number of ranks"] if world_size > 1 else [])])
    return loaded.error(
        f"{size} rows do not divide by {product}" + (f" = {unit}" if "×" in product else ""),
        key=_GLOBAL,
        hint=f"nearest valid sizes: {_listed(size, unit)}; or change {change}",
    )


def _ranks(world_size: int) -> str:
    return f"{world_size} rank" if world_size == 1 else f"{world_size} ranks"


def _listed(size: int, unit: int) -> str:
    return ", ".join(map(str, nearest_multiples(size, unit)))


def _name(key: str) -> str:
    return f"`{key.rpartition('.')[2]}`"
