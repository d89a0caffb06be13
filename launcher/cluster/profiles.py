"""Cluster profiles by name: where they are looked for, and how one is read."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from launcher.cluster.checks import contradictions
from launcher.cluster.profile import Profile
from launcher.errors import LauncherError, Place, RecipeError, RecipeErrors, UsageError
from launcher.recipe import secrets, yaml
from launcher.recipe.nodes import Scalar, Table, at, walk
from launcher.recipe.patterns import LABEL
from launcher.recipe.schema_walk import values
from launcher.recipe.shipped import shipped
from launcher.recipe.validate import repaired
from launcher.text import nearest_of, quote

LOCAL = "local"
_START = "start with `cpus_per_node:`, `memory_gib_per_node:` and `queues:` (docs/clusters.md)"
_STAND_INS = {"cpus_per_node": 1, "memory_gib_per_node": 1, "queues": {"x": {}}}
"""For a required key that is missing, so that the rest can still be looked at."""


@dataclass(frozen=True)
class LoadedProfile:
    """A valid profile with the place of every value."""

    profile: Profile
    source: str
    places: dict[str, Place]
    """Dotted key → where its value was written."""


def own_folder() -> Path:
    """The folder for profiles of one's own: `~/.config/launcher/clusters`, below XDG_CONFIG_HOME where that is set."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    config = Path(base) if Path(base).is_absolute() else Path.home() / ".config"
    return config / "launcher" / "clusters"


def folders() -> tuple[Path, ...]:
    """Where profiles are looked for, in this order: LAUNCHER_CLUSTERS, one's own, the shipped ones."""
    named = os.environ.get("LAUNCHER_CLUSTERS", "")
    return (*([Path(named).expanduser()] if named else []), own_folder(), shipped("slurm") / "clusters")


def names() -> list[str]:
    """Every profile that can be named, `local` first."""
    return [LOCAL, *sorted({each.stem for folder in folders() for each in _files(folder)} - {LOCAL})]


def find(name: str) -> Path:
    """The file of the profile called `name`.

    Raises:
        UsageError: there is none; the hint lists those that are there.
    """
    if _is_name(name):
        for folder in folders():
            if (path := folder / f"{name}.yaml").is_file():
                return path
    own = str(own_folder() / "NAME.yaml").replace(str(Path.home()), "~", 1)
    hint = nearest_of(name, names(), f"clusters: {', '.join(names())}; your own go into {own}")
    raise UsageError(f"unknown cluster {quote(name)}", hint=hint)


def check_name(name: str) -> None:
    """A profile may be called so.

    Raises:
        UsageError: it is no word, or `local`, which is this machine.
    """
    if not _is_name(name) or name == LOCAL:
        hint = "write 1 to 64 letters, digits, `_` or `-`; `local` is this machine"
        raise UsageError(f"{quote(name)} cannot be a profile's name", hint=hint)


def _is_name(name: str) -> bool:
    return re.fullmatch(LABEL, name) is not None


def read_profile(path: Path) -> LoadedProfile:
    """The profile in `path`.

    Raises:
        RecipeErrors: every fault, in the order of their places.
    """
    shown = str(path)
    try:
        text, tree = _read(path, shown)
    except RecipeError as error:
        raise RecipeErrors([error]) from None
    profile, errors = _validate(tree)
    errors += secrets.in_files([(shown, text)], hint="remove it, revoke it, and write it into the file of `secrets`")
    if errors or profile is None:
        raise RecipeErrors(sorted(errors, key=_order))
    return LoadedProfile(profile, shown, {key: node.place for key, node in walk(tree)})


def _files(folder: Path) -> Iterator[Path]:
    try:
        yield from sorted(each for each in folder.glob("*.yaml") if _is_name(each.stem))
    except OSError:
        return


def _read(path: Path, shown: str) -> tuple[str, Table]:
    try:
        with path.open("rb") as file:
            data = file.read(yaml.MAX_BYTES + 1)
    except OSError as error:
        raise RecipeError(f"cannot be read: {error.strerror}", place=Place(shown)) from None
    text = yaml.decode(data, shown)
    tree = yaml.read_text(text, shown, start=_START)
    if not isinstance(tree, Table):
        raise RecipeError("a profile is a mapping", place=tree.place, hint=_START)
    return text, tree


def _validate(tree: Table) -> tuple[Profile | None, list[RecipeError]]:
    written = values(tree, Profile)
    found: dict[tuple[str | int, ...], RecipeError] = {}
    try:
        Profile.model_validate_json(json.dumps(written))
    except ValidationError as error:
        from launcher.recipe import faults

        found = dict(faults.from_pydantic(error, tree, Profile))
        for loc, fault in found.items():
            node = at(tree, loc)
            if "env" in loc[:-1] and isinstance(node, Scalar) and re.search(r"[$`]", node.text):
                fault.hint = f"a line of `setup` is expanded: `export {loc[-1]}=…`"
    sound, replaced = repaired(written, list(found), Profile, _STAND_INS)
    bad_keys = [*(".".join(map(str, loc)) for loc in found), *replaced]
    more = [fault.error(tree) for fault in contradictions(sound) if not fault.touches(bad_keys)]
    errors = [*found.values(), *more]
    return (None if errors else sound), errors


def _order(error: LauncherError) -> tuple[int, int]:
    place = error.place or Place("")
    return place.line or 0, place.column or 0
