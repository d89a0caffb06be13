"""What is trained: all weights, or an adapter on a base that is whole, 4-bit or 8-bit."""

from __future__ import annotations

from launcher.plan.facts import Facts
from launcher.plan.types import Method
from launcher.recipe.schema import Recipe


def method_of(recipe: Recipe, facts: Facts) -> Method:
    """Full without an adapter; with one by how the base is quantized, by the recipe or as it is stored."""
    if recipe.peft is None and recipe.model.adapter_name_or_path is None:
        return "full"
    if recipe.quantization is not None:
        return "int8" if recipe.quantization.load_in_8bit else "qlora"
    if facts.model.quantized is None:
        return "lora"
    return "int8" if facts.model.in_8bit else "qlora"
