"""Read a recipe: strict YAML, its bases, `--set`, then every check, with all errors at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from launcher.errors import Place, RecipeError, RecipeErrors
from launcher.recipe import nodes, secrets
from launcher.recipe.extends import merged, read_with_bases
from launcher.recipe.schema import Recipe
from launcher.recipe.sets import apply_sets, shown
from launcher.recipe.validate import validate


@dataclass(frozen=True)
class LoadedRecipe:
    """A valid recipe with the place of every value."""

    recipe: Recipe
    source: Path
    bases: tuple[tuple[str, str], ...]
    """(`extends` as written, sha256 of that file), from the nearest base to the farthest."""
    tree: nodes.Table
    """The merged values as written, with their places."""
    folders: dict[str, Path]
    """Folder of each source that a place can name."""

    def place(self, key: str) -> Place | None:
        """Where the value of a dotted key was written; list items by label or number."""
        found = nodes.find(self.tree, key)
        return found.place if found else None

    def error(self, message: str, *, key: str, hint: str | None = None) -> RecipeError:
        """A fault of this key, at the nearest place that was written: the key, the section around it, or the file."""
        return RecipeError(message, key=key, hint=hint, place=self._nearest(key))

    def folder(self, key: str) -> Path:
        """Folder of the file in which a key's value was written; the current one for `--set`."""
        return self.folders.get(self._nearest(key).source, Path.cwd())

    def _nearest(self, key: str) -> Place:
        return nodes.place_of(self.tree, key)


def load_recipe(path: Path, sets: Sequence[str] = ()) -> LoadedRecipe:
    """The recipe at `path` (or the shipped `launcher:NAME`) with its bases and `--set KEY=VALUE` changes.

    Raises:
        RecipeErrors: every fault, in the order of their places.
    """
    path = Path(path)
    try:
        sources = read_with_bases(path)
    except RecipeError as error:
        raise RecipeErrors([error]) from None
    tree, errors = apply_sets(merged(sources), sets)
    recipe, more = validate(tree, default_name=sources[0].path.stem)
    errors += more
    errors += secrets.in_files((each.shown, each.text) for each in sources)
    errors += secrets.in_sets((shown(text), text) for text in sets)
    if errors or recipe is None:
        files = [each.shown for each in sources]
        raise RecipeErrors(sorted(errors, key=lambda error: _order(error, files)))
    bases = tuple((each.written, each.sha256) for each in sources[1:])
    return LoadedRecipe(recipe, sources[0].path, bases, tree, {each.shown: each.path.parent for each in sources})


def changed(loaded: LoadedRecipe, sets: Sequence[str]) -> LoadedRecipe:
    """The same recipe with further `--set KEY=VALUE`; no file is read again.

    Raises:
        RecipeErrors: every fault of the changed recipe.
    """
    tree, errors = apply_sets(loaded.tree, sets)
    recipe, more = validate(tree, default_name=loaded.recipe.name)
    if recipe is None or errors or more:
        raise RecipeErrors([*errors, *more])
    return replace(loaded, recipe=recipe, tree=tree)


def problems(path: Path, sets: Sequence[str] = ()) -> tuple[RecipeError, ...]:
    """Every fault of the recipe at `path`; none when it is valid."""
    try:
        load_recipe(path, sets)
    except RecipeErrors as errors:
        return errors.errors
    return ()


def _order(error: RecipeError, files: Sequence[str]) -> tuple[int, int, int]:
    """Files in order, the recipe first, `--set` last; then line and column."""
    place = error.place or Place("")
    number = files.index(place.source) if place.source in files else len(files)
    return number, place.line or 0, place.column or 0
