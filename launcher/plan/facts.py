"""Facts a plan rests on, gathered at the edge: the model's configuration, the data files on this machine. Never the network."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from launcher.cluster.schema import Cluster
from launcher.errors import DataError, EnvironmentFault, RecipeError, RecipeErrors
from launcher.plan import data_files, data_rows
from launcher.plan.formats import sniff
from launcher.plan.hub_cache import snapshot
from launcher.plan.lock_file import cache_of, pinned, typed
from launcher.plan.model_facts import ModelFacts, from_folder, from_hub
from launcher.plan.overlap import measured_too, trained_twice
from launcher.plan.pins import Pins
from launcher.plan.presets import STRATEGIES, Preset, load_preset, read_preset
from launcher.plan.template import text_beside, training_copy
from launcher.recipe.data import Data, Source
from launcher.recipe.load import LoadedRecipe
from launcher.recipe.paths import is_local, is_url, resolve
from launcher.recipe.places import NAME
from launcher.text import quote

_MANY_FILES = 10_000


@dataclass(frozen=True)
class SourceFacts:
    """What is known of one data source before it is read.

    `files` are absolute paths, empty for a URL, a hub dataset and an undefined `${name}` (then `undefined` holds it).
    `rows` is None where nobody counted; `tokens_per_row` is a guess from characters. `notes` are warnings.
    """

    files: tuple[str, ...] = ()
    rows: int | None = None
    rows_exact: bool = False
    tokens_per_row: float | None = None
    format: str | None = None
    undefined: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Facts:
    """Everything `make_plan` knows beyond recipe and hardware.

    `paths` holds the local paths of `tokenizer` and `adapter`; `prepared` is the `data.json` of a run that
    has prepared this data already; `preset` is the sharding preset.
    """

    model: ModelFacts
    preset: Preset
    sources: dict[str, SourceFacts] = field(default_factory=dict)
    paths: dict[str, str] = field(default_factory=dict)
    chat_template: str | None = None
    """Text of the template file that the recipe names."""
    training_copy: str | None = None
    """TRL's name of the chat template, where it trains with a copy of it; None also where the template is not here."""
    prepared: dict[str, Any] | None = None
    presets: Mapping[str, Preset] = field(default_factory=dict)
    """The shipped preset of each strategy, for what the plan compares."""
    pins: Pins = field(default_factory=dict)
    """Hub repositories at the commits of the recipe's lock file."""


def gather(loaded: LoadedRecipe, cluster: Cluster, *, data_json: Path | None = None) -> Facts:
    """Look at this machine for all that the plan needs to know.

    Args:
        loaded: the recipe.
        cluster: hardware, with the folders that `${name}` stands for.
        data_json: `data.json` of an existing run; its counts replace the estimates.

    Raises:
        RecipeErrors: data, tokenizer or template paths that lead nowhere, all at once; or an outdated lock file.
        RecipeError: a sharding preset that was edited to something that is not read.
        EnvironmentFault: the model's configuration is not on this machine, or the lock file cannot be read.
    """
    look = _Look(loaded, cluster.paths, cache_of(cluster), [])
    known = look.sources()
    paths = look.paths()
    template = look.chat_template()
    if look.faults:
        raise RecipeErrors(look.faults)
    prepared = _prepared(data_json) if data_json else None
    pins = pinned(loaded, cluster.paths)
    model = look.model(pins)
    beside = look.tokenizer(paths, pins) or model.beside
    copy = training_copy(template or (text_beside(beside) if beside else None))
    return Facts(model, _preset(loaded, cluster), known, paths, template, copy, prepared, _presets(loaded), pins)


def sources(data: Data) -> Iterator[tuple[str, Source]]:
    """Dotted key and source of everything that is read: training sources, then eval sets with rows of their own."""
    yield from ((f"data.datasets.{source.label}", source) for source in data.datasets)
    yield from ((f"data.eval_datasets.{source.label}", source) for source in data.eval_datasets if source.path)


@dataclass(frozen=True)
class _Look:
    """One look at the machine: collects the faults instead of stopping at the first."""

    loaded: LoadedRecipe
    names: dict[str, str]
    cache: Path
    faults: list[RecipeError]

    def sources(self) -> dict[str, SourceFacts]:
        found = {source.label: self.source(key, source) for key, source in sources(self.loaded.recipe.data)}
        files = {label: known.files for label, known in found.items()}
        self.faults.extend(measured_too(self.loaded, files))
        for label, note in trained_twice(self.loaded, files).items():
            found[label] = replace(found[label], notes=(*found[label].notes, note))
        return found

    def source(self, key: str, source: Source) -> SourceFacts:
        written = source.path or ""
        undefined = next((name for name in NAME.findall(written) if name not in self.names), None)
        if undefined:
            return SourceFacts(format=source.format, undefined=undefined)
        path = self.resolved(f"{key}.path", written)
        if path is not None and is_url(path):
            self.refuse_hub_keys(key, source, "a URL has")
            self.refuse_placed_url(key, written, path)
            return SourceFacts(format=source.format)
        if path is None or not is_local(path):
            self.refuse_misspelt(key, written)
            return SourceFacts(format=source.format)
        inside = (source.data_files,) if isinstance(source.data_files, str) else source.data_files or ()
        self.refuse_hub_keys(key, source, "files on this machine have")
        try:
            return self.local(source, data_files.expand(path, inside))
        except data_files.DataPathError as fault:
            self.faults.append(self.loaded.error(fault.message, key=f"{key}.path", hint=fault.hint))
        except OSError as fault:
            self.faults.append(self.loaded.error(f"{path} cannot be read: {fault.strerror}", key=f"{key}.path"))
        return SourceFacts()

    def refuse_misspelt(self, key: str, written: str) -> None:
        """What could be a hub id, but has a suffix and a file beside it that is named nearly the same."""
        beside = self.loaded.folder(f"{key}.path") / written
        near = data_files.nearest(beside) if beside.suffix and beside.parent.is_dir() else None
        if near:
            self.faults.append(self.loaded.error(f"no file {beside}", key=f"{key}.path", hint=near))

    def refuse_placed_url(self, key: str, written: str, path: str) -> None:
        """A folder of the cluster profile is a path; the plan names a URL as the recipe does."""
        if written != path:
            hint = "write the URL in the recipe"
            self.faults.append(
                self.loaded.error(f"{quote(written)} stands for the URL {quote(path)}", key=f"{key}.path", hint=hint)
            )

    def refuse_hub_keys(self, key: str, source: Source, what: str) -> None:
        hub_only = {"name": source.name, "revision": source.revision, "split": source.split}
        for name, value in hub_only.items():
            if value not in (None, "train"):
                fault = self.loaded.error(f"`{value}`: {what} no {name}", key=f"{key}.{name}", hint=f"remove `{name}`")
                self.faults.append(fault)

    def local(self, source: Source, files: tuple[Path, ...]) -> SourceFacts:
        sample = data_rows.sample_rows(files[0])
        try:
            layout = sniff(source, sample)
        except data_files.DataPathError as fault:
            raise data_files.DataPathError(f"{files[0].name}: {fault.message}", fault.hint) from None
        counted = data_rows.count_all(files)
        if counted.rows == 0 and counted.exact:
            raise data_files.DataPathError(
                f"{_listed(files)}: no rows", "copy the file again, or take it out of the recipe"
            )
        max_length = self.loaded.recipe.data.max_length
        columns = layout.columns if layout else ()
        return SourceFacts(
            files=tuple(map(str, files)),
            rows=counted.rows,
            rows_exact=counted.exact,
            tokens_per_row=data_rows.tokens_per_row(sample, columns, max_length=max_length),
            format=layout.format if layout else source.format,
            notes=(_many(source, files),) if len(files) > _MANY_FILES else (),
        )

    def paths(self) -> dict[str, str]:
        model = self.loaded.recipe.model
        wanted = {"tokenizer": model.tokenizer_name_or_path, "adapter": model.adapter_name_or_path}
        found = {}
        for name, written in wanted.items():
            path = self.resolved(f"model.{name}_name_or_path", written) if written else None
            if path and is_local(path):
                self.require_folder(f"model.{name}_name_or_path", path)
                found[name] = path
        return found

    def chat_template(self) -> str | None:
        key, written = "model.chat_template_path", self.loaded.recipe.model.chat_template_path
        path = self.resolved(key, written) if written else None
        if path is None:
            return None
        try:
            if Path(path).exists() and not Path(path).is_file():
                self.faults.append(self.loaded.error(f"{path} is not a file", key=key))
                return None
            return Path(path).read_text(encoding="utf-8")
        except UnicodeDecodeError as fault:
            self.faults.append(self.loaded.error(f"{path} is not UTF-8 (byte {fault.start})", key=key))
        except OSError as fault:
            hint = data_files.nearest(Path(path)) if isinstance(fault, FileNotFoundError) else None
            message = f"{path} cannot be read: {(fault.strerror or '').lower()}"
            self.faults.append(self.loaded.error(message, key=key, hint=hint))
        return None

    def model(self, pins: Pins) -> ModelFacts:
        model = self.loaded.recipe.model
        if model.from_config is not None:
            return ModelFacts(model.from_config, "from_config")
        name = model.model_name_or_path or ""
        key = "model.model_name_or_path"
        path = resolve(self.loaded, key, name, self.names)
        try:
            if is_local(path):
                return from_folder(Path(path))
            return from_hub(path, pins["model"].commit if "model" in pins else model.revision, self.cache)
        except EnvironmentFault as fault:
            hint = (fault.hint or "").replace("RECIPE", typed(self.loaded)) or None
            raise EnvironmentFault(f"{key}: {fault.message}", hint=hint, place=self.loaded.place(key)) from None

    def tokenizer(self, paths: dict[str, str], pins: Pins) -> Path | None:
        """The folder of a tokenizer that is not the model's, where it is on this machine."""
        named = self.loaded.recipe.model.tokenizer_name_or_path
        if named is None or "tokenizer" in paths:
            return Path(paths["tokenizer"]) if named else None
        return snapshot(self.cache, "model", named, pins["tokenizer"].commit if "tokenizer" in pins else "main")

    def resolved(self, key: str, written: str) -> str | None:
        try:
            return resolve(self.loaded, key, written, self.names)
        except RecipeError as fault:
            self.faults.append(fault)
        except OSError as fault:
            self.faults.append(self.loaded.error(f"{fault.strerror}: {written}", key=key))
        return None

    def require_folder(self, key: str, path: str) -> None:
        if not Path(path).is_dir():
            self.faults.append(self.loaded.error(f"no folder {path}", key=key))


def _many(source: Source, files: Sequence[Path]) -> str:
    return f"data `{source.label}`: {len(files):,} files, each opened and hashed before training; joined into fewer they are read faster"


def _preset(loaded: LoadedRecipe, cluster: Cluster) -> Preset:
    """The preset that the recipe names, by file or by strategy; `auto` is ddp."""
    sharding = loaded.recipe.sharding
    named = None if sharding.strategy == "auto" else sharding.strategy
    if sharding.preset is None:
        return load_preset(named or "ddp")
    file = Path(resolve(loaded, "sharding.preset", sharding.preset, cluster.paths))
    if not file.is_file():
        hint = "name an accelerate configuration or a DeepSpeed one; a relative path starts beside the recipe"
        raise loaded.error(f"no file {file}", key="sharding.preset", hint=hint)
    return read_preset(file, named)


def _presets(loaded: LoadedRecipe) -> dict[str, Preset]:
    """Presets that could take the place of the recipe's; one that was edited to something else is no candidate."""
    found = {}
    for name in () if loaded.recipe.sharding.preset else STRATEGIES:
        with contextlib.suppress(RecipeError):
            found[name] = load_preset(name)
    return found


def _listed(files: Sequence[Path]) -> str:
    return ", ".join(map(str, files[:5])) + (f" and {len(files) - 5:,} more" if len(files) > 5 else "")


def _prepared(file: Path) -> dict[str, Any]:
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
    except OSError as fault:
        raise EnvironmentFault(f"{file} cannot be read: {fault.strerror}") from None
    except ValueError as fault:
        raise DataError(f"{file} is not JSON ({fault})", hint="delete it: `prepare` writes it again") from None
    if not isinstance(facts, dict):
        raise DataError(f"{file} holds no facts, but a {type(facts).__name__}")
    return facts
