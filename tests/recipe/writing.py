"""Recipes written for a test, and what loading them says."""

import json
from pathlib import Path
from typing import Any

import pytest

from launcher.errors import RecipeError, RecipeErrors
from launcher.recipe.load import LoadedRecipe, load_recipe

SHORT = """\
model: {model_name_or_path: org/name}
data: {datasets: [{label: train, path: train.jsonl}]}
"""

FULL: dict[str, Any] = {
    "schema": 1,
    "name": "full",
    "task": "sft",
    "model": {"model_name_or_path": "org/name"},
    "quantization": {"load_in_4bit": True},
    "peft": {"r": 8},
    "data": {
        "datasets": [{"label": "train", "path": "train.jsonl", "format": "messages"}],
        "eval_datasets": [
            {"label": "held_out", "from": "train", "fraction": 0.1},
            {"label": "faq", "path": "faq.jsonl"},
        ],
        "mixture": {"seed": 1},
    },
    "training": {"seed": 1},
    "sharding": {"strategy": "auto"},
    "checkpoint": {"save_steps": 10},
    "evaluation": {
        "eval_steps": 10,
        "generate": [{"dataset": "faq"}],
        "harness": {"tasks": ["ifeval"]},
        "early_stopping": {"metric": "eval_faq_loss"},
        "gates": [{"metric": "eval_faq_loss", "max": 1.0}],
    },
    "tracking": {"report_to": ["tensorboard"]},
    "sweep": {"metric": "eval_faq_loss", "space": {"peft.r": [8, 16]}},
    "launch": {"max_requeues": 1},
    "export": {"push_to_hub": {"repo": "org/name"}},
}
"""Every section, so that any key can be put in its place."""


def write(folder: Path, text: str, name: str = "recipe.yaml") -> Path:
    """A recipe file in `folder`."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def load(folder: Path, text: str, *sets: str) -> LoadedRecipe:
    """The recipe, which must be valid."""
    return load_recipe(write(folder, text), sets)


def faults(folder: Path, text: str | dict[str, Any], *sets: str) -> tuple[RecipeError, ...]:
    """The faults of a recipe, which must have some."""
    path = write(folder, text if isinstance(text, str) else json.dumps(text))
    with pytest.raises(RecipeErrors) as caught:
        load_recipe(path, sets)
    return caught.value.errors


def fault(folder: Path, text: str | dict[str, Any], *sets: str) -> RecipeError:
    """The only fault of a recipe."""
    found = faults(folder, text, *sets)
    assert len(found) == 1, [str(each) for each in found]
    return found[0]
