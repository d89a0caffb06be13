"""Several runs that are started together: each recipe in each of its variants, planned before any of them is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher.cluster.schema import Cluster
from launcher.errors import RecipeError, RecipeErrors, UsageError
from launcher.plan.facts import Facts, gather
from launcher.plan.make import Planned, make_plan
from launcher.recipe.load import LoadedRecipe, load_recipe
from launcher.recipe.variants import Variant


@dataclass(frozen=True)
class Element:
    """One of them."""

    loaded: LoadedRecipe
    planned: Planned

    @property
    def name(self) -> str:
        """Of its run."""
        return self.planned.plan.name


def plan(
    recipes: Sequence[Path], sets: Sequence[str], variants: Sequence[Variant], cluster: Cluster
) -> tuple[Element, ...]:
    """Every recipe in every variant.

    Args:
        recipes: recipe files.
        sets: `KEY=VALUE` of all of them.
        variants: what makes them differ; the name of a run tells which it is.
        cluster: where they are to run.

    Raises:
        RecipeErrors: the faults of all of them, each once.
        UsageError: two of them would be the same run.
    """
    known: dict[str, Facts] = {}
    found: list[Element] = []
    faults: dict[str, RecipeError] = {}
    for path in recipes:
        for variant in variants:
            try:
                found.append(_element(path, sets, variant, cluster, known))
            except RecipeErrors as errors:
                faults |= {str(each): each for each in errors.errors}
            except RecipeError as error:
                faults[str(error)] = error
    if faults:
        raise RecipeErrors(list(faults.values()))
    _refuse_twins(found)
    return tuple(found)


def _element(path: Path, sets: Sequence[str], variant: Variant, cluster: Cluster, known: dict[str, Facts]) -> Element:
    """`known`: what was found out about this machine for other elements that name the same files."""
    assigned = [*sets, *variant.sets]
    loaded = load_recipe(path, assigned)
    if variant.slug:
        loaded = load_recipe(path, [*assigned, f"name={variant.name(loaded.recipe.name)}"])
    key = _files(loaded)
    if key not in known:
        known[key] = gather(loaded, cluster)
    planned = make_plan(loaded, cluster, known[key])
    if planned.unresolved:
        raise RecipeErrors(planned.unresolved)
    return Element(loaded, planned)


def _files(loaded: LoadedRecipe) -> str:
    """All in a recipe that facts depend on."""
    recipe = loaded.recipe
    return "\n".join(
        [str(loaded.source), *(each.model_dump_json() for each in (recipe.model, recipe.data, recipe.sharding))]
    )


def _refuse_twins(found: Sequence[Element]) -> None:
    seen: dict[str, Element] = {}
    for each in found:
        if (twin := seen.setdefault(each.name, each)) is not each:
            raise UsageError(
                f"two of these runs are called `{each.name}`: {_written(twin)} and {_written(each)}",
                hint="name each of them once, and recipes of the same name differently (`name: …`)",
            )


def _written(element: Element) -> str:
    return element.loaded.source.name
