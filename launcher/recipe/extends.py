"""`extends`: a recipe and the bases it starts from."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from launcher.errors import Place, RecipeError
from launcher.recipe import yaml
from launcher.recipe.nodes import Scalar, Table, merge_tables, without
from launcher.recipe.shipped import shipped
from launcher.text import did_you_mean, quote

SHIPPED = "launcher:"
OWN_KEYS = ("extends", "name")
"""Keys that belong to one file and are not handed down."""


@dataclass(frozen=True)
class Source:
    """One file of a recipe: as `extends` wrote it, as messages show it, and where it is."""

    written: str
    shown: str
    path: Path
    text: str
    sha256: str
    tree: Table


def read_with_bases(path: Path) -> list[Source]:
    """The recipe and its bases, nearest first.

    Raises:
        RecipeError: a file that cannot be read, is not strict YAML, stands outside the repository, or extends itself.
    """
    sources = [read_source(path)]
    root = _repository(sources[0].path)
    while (node := sources[-1].tree.entries.get("extends")) is not None:
        written = _name(node)
        if written is None:
            break
        shown, base = _locate(written, sources[-1], root, node.place)
        known = [each.path.resolve() for each in sources]
        if base.resolve() in known:
            chain = " → ".join([*(each.shown for each in sources[known.index(base.resolve()) :]), shown])
            raise RecipeError(f"a cycle: {chain}", key="extends", place=node.place, hint="remove one `extends`")
        sources.append(_read(written, shown, base, node.place))
    return sources


def read_source(path: Path) -> Source:
    """One recipe file without its bases; `launcher:NAME` is a shipped one.

    Raises:
        RecipeError: the file cannot be read, or is not strict YAML.
    """
    shown = str(path)
    return _read(shown, shown, _shipped(shown, Place(shown), "") if shown.startswith(SHIPPED) else path, None)


def merged(sources: list[Source]) -> Table:
    """The files laid over one another, the recipe last."""
    tree = without(sources[-1].tree, *OWN_KEYS) if len(sources) > 1 else sources[-1].tree
    for source in reversed(sources[:-1]):
        over = source.tree if source is sources[0] else without(source.tree, *OWN_KEYS)
        tree = merge_tables(tree, over)
    return tree


def _name(node: object) -> str | None:
    if isinstance(node, Scalar) and node.value is None:
        return None
    if isinstance(node, Scalar) and isinstance(node.value, str) and "\0" not in node.value:
        return node.value
    raise RecipeError(
        "needs text, one recipe to start from",
        key="extends",
        place=getattr(node, "place", None),
        hint="write `extends: launcher:base/lora.yaml`; a base may extend another",
    )


def _locate(written: str, source: Source, root: Path | None, place: Place) -> tuple[str, Path]:
    """The name to show and the path of the base that `source` names."""
    if written.startswith(SHIPPED):
        return written, _shipped(written, place, "extends")
    shown = os.path.normpath(Path(source.shown).parent / written)
    base = Path(os.path.normpath(source.path.parent / written))
    if source.shown.startswith(SHIPPED):
        shown = f"{SHIPPED}{base.relative_to(shipped('recipes'))}"
    if root is not None and not base.resolve().is_relative_to(root):
        raise RecipeError(
            f"{quote(written)} stands outside this repository ({root})",
            key="extends",
            place=place,
            hint="copy the base into the repository, so that the recipe works wherever it is cloned",
        )
    return shown, base


def _shipped(written: str, place: Place, key: str) -> Path:
    folder = shipped("recipes")
    names = sorted(str(each.relative_to(folder)) for each in folder.rglob("*.yaml"))
    name = written.removeprefix(SHIPPED)
    if name in names:
        return folder / name
    bases = ", ".join(f"{SHIPPED}{each}" for each in names if each.startswith("base/"))
    near = did_you_mean(name, names)
    hint = f"did you mean `{SHIPPED}{near}`? Shipped bases: {bases}" if near else f"shipped bases: {bases}"
    raise RecipeError(f"no shipped recipe {quote(written)}", key=key, place=place, hint=hint)


def _repository(path: Path) -> Path | None:
    """The nearest folder around `path` that holds `.git`; None outside a repository."""
    return next((folder for folder in path.resolve().parents if (folder / ".git").exists()), None)


def _read(written: str, shown: str, path: Path, place: Place | None) -> Source:
    """Read one file; `place` is where another recipe names it, None for the one on the command line."""
    data = _bytes(shown, path, place)
    text = yaml.decode(data, shown)
    tree = yaml.read_text(text, shown)
    if not isinstance(tree, Table):
        what = "a list" if not isinstance(tree, Scalar) else f"the value {quote(tree.text)}"
        raise RecipeError(
            f"a recipe is a mapping of sections, got {what}", place=tree.place, hint="start with `model:` and `data:`"
        )
    return Source(written, shown, path, text, hashlib.sha256(data).hexdigest(), tree)


def _bytes(shown: str, path: Path, place: Place | None) -> bytes:
    at = place or Place(shown)
    key = "extends" if place else ""
    name = f" {quote(shown)}" if place else ""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise RecipeError(f"not a regular file{name}", key=key, place=at, hint=_other_recipes(path))
        with path.open("rb") as file:
            return file.read(yaml.MAX_BYTES + 1)
    except FileNotFoundError:
        raise RecipeError(f"no such file{name}", key=key, place=at, hint=_other_recipes(path)) from None
    except (OSError, ValueError) as error:
        raise RecipeError(
            f"cannot be read{name}: {getattr(error, 'strerror', None) or error}", key=key, place=at
        ) from None


def _other_recipes(path: Path) -> str | None:
    """A hint naming a recipe that is near the name given."""
    try:
        folder = path if path.is_dir() else path.parent
        names = sorted(each.name for each in folder.glob("*.yaml") if each.name != path.name)
    except OSError:
        return None
    near = did_you_mean(path.name, names)
    if near:
        return f"did you mean `{folder / near}`?"
    return f"recipes in {folder}: {', '.join(names[:8])}" if names else None
