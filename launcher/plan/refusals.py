"""Keys of the language whose behaviour has not landed. Each is refused in one sentence; none is ever ignored.

A later change that gives a key its behaviour deletes its row here.
"""

from __future__ import annotations

from collections.abc import Iterator

from launcher.errors import RecipeError
from launcher.recipe.load import LoadedRecipe
from launcher.recipe.schema import Recipe

Refusal = tuple[str, bool, str]
"""Dotted key, whether the recipe uses it, and what to know."""

_NOT_YET = "not supported yet"


def refusals(loaded: LoadedRecipe) -> list[RecipeError]:
    """One error for each key the recipe uses that nothing acts on yet."""
    return [
        loaded.error(f"{_NOT_YET}: {sentence}", key=key, hint=f"remove `{key.rpartition('.')[2]}`")
        for key, used, sentence in _rows(loaded.recipe)
        if used
    ]


def _rows(recipe: Recipe) -> Iterator[Refusal]:
    yield from _model(recipe)
    yield from _evaluation(recipe)
    yield from _launch(recipe)


def _model(recipe: Recipe) -> Iterator[Refusal]:
    model = recipe.model
    grown = bool(model.add_tokens) and model.adapter_name_or_path is not None
    yield "model.add_tokens", grown, "peft adds no rows to an adapter that exists, and they would stay random"


def _evaluation(recipe: Recipe) -> Iterator[Refusal]:
    evaluation = recipe.evaluation
    yield "evaluation.harness", evaluation.harness is not None, "models are scored by loss and by generation"
    yield "evaluation.early_stopping", evaluation.early_stopping is not None, "a run ends after its last step"
    yield "evaluation.gates", bool(evaluation.gates), "scores are reported and judged by you"


def _launch(recipe: Recipe) -> Iterator[Refusal]:
    yield "sweep", recipe.sweep is not None, "one recipe is one run"
    yield "export.push_to_hub", recipe.export.push_to_hub is not None, "the result stays on this machine"
