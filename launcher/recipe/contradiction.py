"""Two values of a recipe that are each fine and contradict one another."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from launcher.errors import RecipeError
from launcher.recipe.nodes import Table, path, place_of
from launcher.recipe.schema_walk import dotted


@dataclass(frozen=True)
class Contradiction:
    """What is wrong at `key`, what to do, and the other keys it depends on."""

    key: str
    message: str
    hint: str
    also: tuple[str, ...] = ()

    def touches(self, keys: Iterable[str]) -> bool:
        """Whether one of `keys` is, holds or lies in a key that this depends on."""
        return any(_overlap(mine, other) for mine in (self.key, *self.also) for other in keys)

    def error(self, tree: Table) -> RecipeError:
        """The fault with its place."""
        parts = path(tree, self.key)
        whole = len(parts) == len(self.key.split("."))
        key = dotted(tree, parts) if whole else self.key
        return RecipeError(self.message, key=key, place=place_of(tree, self.key), hint=self.hint)


def _overlap(one: str, two: str) -> bool:
    return one == two or one.startswith(f"{two}.") or two.startswith(f"{one}.")
