"""Secrets never stand in a recipe: what is written there ends up in run directories, reports and repositories."""

from __future__ import annotations

from collections.abc import Iterable

from launcher.errors import Place, RecipeError
from launcher.recipe.yaml import place_of
from launcher.text import SECRET

HINT = "remove it, revoke it if the file was shared, and set it in the environment (HF_TOKEN, WANDB_API_KEY, …)"


def in_files(texts: Iterable[tuple[str, str]], hint: str = HINT) -> list[RecipeError]:
    """A fault for each literal credential in the (source, text) pairs, comments included."""
    return [
        RecipeError(
            f"a literal credential (`{found.group()[:3]}…`)", place=place_of(text, found.start(), source), hint=hint
        )
        for source, text in texts
        for found in SECRET.finditer(text)
    ]


def in_sets(sets: Iterable[tuple[str, str]]) -> list[RecipeError]:
    """The same for the (shown, text) pairs of `--set`."""
    return [
        RecipeError(f"a literal credential (`{found.group()[:3]}…`)", place=Place(shown), hint=HINT)
        for shown, text in sets
        for found in SECRET.finditer(text)
    ]
