"""What an adapter is merged into: the choice of the base, and where no merge gives the model that was trained."""

from __future__ import annotations

from collections.abc import Iterator

from launcher.errors import RecipeError
from launcher.plan.types import Decision, ExportPlan, MergeBase, Method, Plan
from launcher.recipe.load import LoadedRecipe
from launcher.recipe.schema import Recipe

KEY = "export.merge_base"

Fault = tuple[str, str]
"""What is wrong, and which choice of the base is right; empty where none is."""


def export(recipe: Recipe, method: Method) -> ExportPlan:
    """What becomes of the result; the base is chosen even where no merge was asked for, as one may be later."""
    return ExportPlan(recipe.export.merge, base_for(recipe.export.merge_base, method))


def decided(recipe: Recipe, method: Method) -> tuple[Decision, ...]:
    """The choice of the base, where the recipe left it open."""
    if not recipe.export.merge or recipe.export.merge_base != "auto":
        return ()
    if method in ("qlora", "int8"):
        return (Decision(KEY, "quantized", "the weights it was trained and measured on, expanded: the same model"),)
    return (Decision(KEY, "original", "the base was not quantized: the same model"),)


def faults(loaded: LoadedRecipe, method: Method) -> Iterator[RecipeError]:
    """A merge that the recipe asks for, now or by naming its base, and that cannot be."""
    recipe = loaded.recipe
    asked, written = recipe.export.merge, recipe.export.merge_base
    if not asked and written == "auto":
        return
    found = _fault(base_for(written, method), method, as_stored=recipe.quantization is None)
    if found and found[1]:
        yield loaded.error(found[0], key=KEY, hint=f"write `{found[1]}`, or remove `merge_base`")
    elif found:
        name = "merge" if asked else "merge_base"
        yield loaded.error(found[0], key=f"export.{name}", hint=f"remove `{name}`")


def fault(plan: Plan, base: MergeBase | None) -> Fault | None:
    """Why the result of a run cannot be merged into `base`; None when it can."""
    return _fault(base, plan.method, as_stored=plan.quantization is None)


def base_for(written: str, method: Method) -> MergeBase | None:
    """The base that a word means (`auto`, `quantized`, `original`); None where there is no adapter."""
    if method == "full":
        return None
    if written == "auto":
        return "quantized" if method in ("qlora", "int8") else "original"
    return "quantized" if written == "quantized" else "original"


def _fault(base: MergeBase | None, method: Method, *, as_stored: bool) -> Fault | None:
    if base is None:
        return "there is no adapter: all weights are trained, and RUN/model is the whole model", ""
    if method == "lora":
        return ("the base is not quantized", "original") if base == "quantized" else None
    if base == "original" and as_stored:
        return "the base is stored quantized, and its original weights are not known", "quantized"
    return None
