"""Which keys hold paths, and what may stand in them."""

from __future__ import annotations

import re

from launcher.errors import RecipeError
from launcher.recipe.nodes import Scalar, Table, path, walk
from launcher.recipe.schema_walk import dotted
from launcher.text import did_you_mean, quote

NAMES = ("data", "models", "cache", "runs")
"""Folders that a cluster profile names."""
NAME = re.compile(r"\$\{([A-Za-z_]\w*)\}")
_PATH_KEY = re.compile(
    r"model\.((model|adapter|tokenizer)_name_or_path|chat_template_path)"
    r"|data\.(eval_)?datasets\.\d+\.(path|data_files(\.\d+)?)|sharding\.preset"
)
_DATA_PATH = re.compile(r"data\.(eval_)?datasets\.\d+\.path")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_PATH_KEYS = "model.*_path, data.datasets.*.path, data.datasets.*.data_files, sharding.preset"


def check_names(tree: Table) -> list[RecipeError]:
    """A fault for each `${…}` outside a path key, each name that no cluster profile has, and each path that cannot be one."""
    faults = []
    for key, node in walk(tree):
        if isinstance(node, Scalar) and isinstance(node.value, str):
            message = _wrong_path(key, node.value) if _PATH_KEY.fullmatch(key) else _outside(key, node.value)
            if message:
                shown = dotted(tree, path(tree, key))
                faults.append(RecipeError(message[0], key=shown, place=node.place, hint=message[1]))
    return faults


def _outside(key: str, value: str) -> tuple[str, str] | None:
    if key.startswith(("model.from_config", "model.model_init_kwargs", "data.template_kwargs")) or "${" not in value:
        return None
    return f"{quote(value)}: `${{name}}` is read in path keys only", f"path keys: {_PATH_KEYS}"


def _wrong_path(key: str, value: str) -> tuple[str, str] | None:
    if not value.strip():
        return f"{quote(value)} is no path", "write a file, a folder or a hub id"
    if "\0" in value:
        return f"{quote(value)} holds the character U+0000", "remove it"
    if _ADDRESS.match(value) and not _DATA_PATH.fullmatch(key):
        return f"{quote(value)} is an address; files on this machine and hub ids are read", "download it first"
    return _wrong_name(value)


def _wrong_name(value: str) -> tuple[str, str] | None:
    for name in NAME.findall(value):
        if name not in NAMES:
            near = did_you_mean(name, NAMES, cutoff=0.5)
            hint = f"names: {', '.join(NAMES)}; the environment is not read"
            return f"no name `${{{name}}}`", f"did you mean `${{{near}}}`? {hint}" if near else hint
    if "$" in NAME.sub("", value):
        return f"{quote(value)} has a `$` that starts no `${{name}}`", f"write `${{data}}/…`; names: {', '.join(NAMES)}"
    return None
