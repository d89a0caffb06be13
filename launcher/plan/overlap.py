"""Sources with the same contents: trained and measured is an error, trained twice worth a word."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from launcher.errors import RecipeError
from launcher.recipe.data import Source
from launcher.recipe.load import LoadedRecipe


class _Contents(NamedTuple):
    """What tells contents apart, and the name they have for people."""

    identity: tuple[object, ...]
    name: str


def measured_too(loaded: LoadedRecipe, files: Mapping[str, Sequence[str]]) -> Iterator[RecipeError]:
    """One fault for each evaluation set that reads what is trained.

    Args:
        loaded: the recipe.
        files: label of a source → its files on this machine.
    """
    trained = {
        each.identity: source.label
        for source in reversed(loaded.recipe.data.datasets)
        for each in _contents(source, files.get(source.label, ()))
    }
    for source in loaded.recipe.data.eval_datasets:
        both = next((each for each in _contents(source, files.get(source.label, ())) if each.identity in trained), None)
        if both:
            label = trained[both.identity]
            yield loaded.error(
                f"is trained and measured: {both.name} is also read by data.datasets.{label}",
                key=f"data.eval_datasets.{source.label}.path",
                hint=f"replace `path` by `from: {label}` and `fraction: 0.1`: those rows are held out of training",
            )


def trained_twice(loaded: LoadedRecipe, files: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Label of a training source → a note, where an earlier one reads a file of it too."""
    first: dict[tuple[object, ...], str] = {}
    notes = {}
    for source in loaded.recipe.data.datasets:
        for each in _contents(source, files.get(source.label, ())):
            label = first.setdefault(each.identity, source.label)
            if label != source.label and source.label not in notes:
                notes[source.label] = f"data `{source.label}`: {each.name} is also read by `{label}`"
    return notes


def _contents(source: Source, files: Sequence[str]) -> Iterator[_Contents]:
    """Device and number of each file, so that links are seen through; of a URL or a hub dataset what it is named by."""
    if files:
        for file in files:
            status = os.stat(file)  # noqa: PTH116 - the facts hold strings, of perhaps 100,000 files
            yield _Contents((status.st_dev, status.st_ino), file)
    elif source.path:
        yield _Contents((source.path, source.name, source.split, source.data_files, source.revision), source.path)
