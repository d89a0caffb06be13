"""Path keys: `${name}` from the cluster profile, relative to the file they stand in, or a hub id."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from launcher.recipe.load import LoadedRecipe
from launcher.recipe.places import NAME, NAMES
from launcher.text import quote

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_FILE = re.compile(r".*\.(jsonl|ndjson|json|csv|tsv|parquet|arrow|jinja|ya?ml|txt|zst|gz)|.*[*?\[].*", re.DOTALL)


def resolve(loaded: LoadedRecipe, key: str, value: str, names: Mapping[str, str]) -> str:
    """The path or hub id that `value` of a path key means.

    Args:
        loaded: the recipe, which knows the folder that a relative path starts from.
        key: dotted key of the value, for its folder and for errors.
        value: the path as written.
        names: folders of the cluster profile by name.

    Returns:
        An absolute path, or a hub id or (of data) a URL unchanged. What looks like both is a path when it exists.

    Raises:
        RecipeError: `${name}` stands for nothing here.
    """
    path = NAME.sub(lambda found: _named(loaded, key, found.group(1), names), value)
    if key.startswith("data.") and is_url(path):
        return path
    try:
        local = Path(path).expanduser()
    except RuntimeError:
        message = f"{quote(path)}: no home folder of that user on this machine"
        raise loaded.error(message, key=key, hint="write the folder") from None
    beside = loaded.folder(key) / local
    if local.is_absolute() or path.startswith(("./", "../")) or path in (".", ".."):
        return _absolute(beside)
    if _HUB_ID.fullmatch(path) and not _FILE.fullmatch(path) and not beside.exists():
        return path
    return _absolute(beside)


def is_local(resolved: str) -> bool:
    """Whether a resolved value is a path on this machine, and not a hub id or a URL."""
    return Path(resolved).is_absolute()


def is_url(path: str) -> bool:
    """Whether a data path is opened by fsspec (`s3://…`, `https://…`)."""
    return "://" in path


def _absolute(path: Path) -> str:
    try:
        return str(path.absolute() if path.is_symlink() else path.absolute().resolve(strict=False))
    except RuntimeError:  # a folder on the way is a link that leads back to itself; who opens the path says so
        return str(path.absolute())


def _named(loaded: LoadedRecipe, key: str, name: str, names: Mapping[str, str]) -> str:
    if name not in names:
        known = ", ".join(sorted(names)) or "none"
        hint = f"set LAUNCHER_{name.upper()} to that folder (set now: {known})" if name in NAMES else None
        raise loaded.error(f"`${{{name}}}` is not set here", key=key, hint=hint)
    if "${" in names[name]:
        raise loaded.error(
            f"`${{{name}}}` stands for {quote(names[name])}, itself a name", key=key, hint="write the folder"
        )
    return names[name]
