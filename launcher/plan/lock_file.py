"""The lock file: `NAME.lock` beside `NAME.yaml` says which commit of each hub repository the recipe takes.

`launcher fetch` writes it; a plan takes the commits that stand in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from launcher.cluster.schema import Cluster
from launcher.errors import RecipeError, RecipeErrors
from launcher.plan.hub_cache import hub_cache
from launcher.plan.pins import Pin, Pins, Want, is_current, read
from launcher.recipe.data import Source
from launcher.recipe.extends import SHIPPED
from launcher.recipe.load import LoadedRecipe
from launcher.recipe.paths import is_local, is_url, resolve
from launcher.recipe.places import NAME
from launcher.text import quote

LOADED_FROM = ("subfolder", "variant", "gguf_file")
"""Arguments of `from_pretrained` that name other files than the usual ones."""


def wants(loaded: LoadedRecipe, names: Mapping[str, str]) -> dict[str, Want]:
    """The hub repositories of a recipe, by key. Paths, URLs and `from_config` want none.

    Args:
        loaded: the recipe.
        names: folders of the cluster profile by name.

    Raises:
        RecipeError: `${name}` in a path key stands for nothing here.
    """
    return {key: want for key, written, want in _named(loaded) if _of_the_hub(loaded, written, want.repo, names)}


def _named(loaded: LoadedRecipe) -> Iterator[tuple[str, str, Want]]:
    """Key, recipe key, and what would be wanted if the value is a hub id."""
    model = loaded.recipe.model
    code = {"trust_remote_code": True} if model.trust_remote_code else {}
    if model.model_name_or_path:
        asked = code | {name: model.model_init_kwargs[name] for name in LOADED_FROM if name in model.model_init_kwargs}
        yield "model", "model.model_name_or_path", Want("model", model.model_name_or_path, model.revision, asked)
    if model.tokenizer_name_or_path:
        want = Want("model", model.tokenizer_name_or_path, _tokenizer_revision(loaded), code)
        yield "tokenizer", "model.tokenizer_name_or_path", want
    if model.adapter_name_or_path:
        yield "adapter", "model.adapter_name_or_path", Want("model", model.adapter_name_or_path, "main")
    data = loaded.recipe.data
    for section, sources in (("datasets", data.datasets), ("eval_datasets", data.eval_datasets)):
        for source in sources:
            if source.path:
                key = f"data.{section}.{source.label}.path"
                yield (
                    f"data.{source.label}",
                    key,
                    Want("dataset", source.path, source.revision or "main", _read(source)),
                )


def _tokenizer_revision(loaded: LoadedRecipe) -> str:
    """A tokenizer of the model's own repository is taken at the model's revision."""
    model = loaded.recipe.model
    return model.revision if model.tokenizer_name_or_path == model.model_name_or_path else "main"


def _read(source: Source) -> dict[str, Any]:
    inside = source.data_files
    asked = {"name": source.name, "split": source.split, "data_files": [inside] if isinstance(inside, str) else inside}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in asked.items() if value}


def _of_the_hub(loaded: LoadedRecipe, key: str, value: str, names: Mapping[str, str]) -> bool:
    if any(name not in names for name in NAME.findall(value)):
        return False  # the plan says so
    resolved = resolve(loaded, key, value, names)
    return not is_local(resolved) and not is_url(resolved)


def cache_of(cluster: Cluster) -> Path:
    """The hub's cache that runs on this cluster read: of the site's shared folder, where its profile names one."""
    return hub_cache(cluster.paths.get("cache") if cluster.site else None)


def lock_file(loaded: LoadedRecipe) -> Path:
    """`NAME.lock` beside `NAME.yaml`; of a shipped recipe in the current folder."""
    shipped = next(iter(loaded.folders), "").startswith(SHIPPED)
    folder = Path.cwd() if shipped else loaded.source.parent
    return folder / f"{loaded.source.stem}.lock"


def typed(loaded: LoadedRecipe) -> str:
    """The recipe as one types it."""
    return next(iter(loaded.folders), str(loaded.source))


def pinned(loaded: LoadedRecipe, names: Mapping[str, str]) -> Pins:
    """What the recipe's lock file says of the repositories that the recipe names; those it does not know stay open.

    Raises:
        EnvironmentFault: the lock file cannot be read.
        RecipeErrors: the recipe asks for another revision, or other files, than were locked.
    """
    file = lock_file(loaded)
    locked = read(file)
    if not locked:
        return {}
    found, outdated = {}, []
    for key, want in wants(loaded, names).items():
        pin = locked.get(key)
        if pin is None or pin.repo != want.repo or pin.kind != want.kind:
            continue
        if is_current(pin, want):
            found[key] = pin
        else:
            outdated.append(_outdated(loaded, file, key, pin, want))
    if outdated:
        raise RecipeErrors(outdated)
    return found


def _outdated(loaded: LoadedRecipe, file: Path, key: str, pin: Pin, want: Want) -> RecipeError:
    then, now = f"revision {quote(pin.revision)}", quote(want.revision)
    if want.revision in (pin.revision, pin.commit):
        then, now = _asked(pin.asked), _asked(want.asked)
    section, _, label = key.partition(".")
    trained = any(source.label == label for source in loaded.recipe.data.datasets)
    return loaded.error(
        f"{file.name} was made for {then} of `{pin.repo}`, the recipe asks for {now}",
        key=f"data.{'' if trained else 'eval_'}datasets.{label}" if section == "data" else "model",
        hint=f"`launcher fetch {typed(loaded)}` brings it, and the lock file, up to date",
    )


def _asked(asked: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in asked.items()) or "the usual files"
