"""Sources that are not on this machine: files that fsspec opens, and data sets of the hub."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from launcher.errors import DataError, EnvironmentFault, LauncherError
from launcher.plan import hub_cache
from launcher.plan.data_kinds import COLUMNAR, LISTED, kind
from launcher.plan.types import SourcePlan
from launcher.worker.data.raw import Carried, Chunk, Read, carried
from launcher.worker.data.tables import arrow_chunks, parquet_chunks, without_none
from launcher.worker.data.text_files import text_chunks

_STAMPS = ("etag", "ETag", "mtime", "LastModified", "last_modified", "updated", "created")
_HUB_ROWS = 256
_WEB = ("http", "https")


def is_url(path: str | None) -> bool:
    """Whether a source is opened by fsspec."""
    return path is not None and "://" in path


def shown(url: str) -> str:
    """A URL without what gives access: user, password and, on the web, the query (a signature stands there)."""
    if "::" in url:
        return "::".join(map(shown, url.split("::")))
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    if scheme in _WEB:
        path = path.partition("?")[0].partition("#")[0]
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}" if rest else url


def url_chunks(source: SourcePlan) -> Iterator[Chunk]:
    """Rows of the files that a URL stands for: a file, a glob, or a folder where the file system has them.

    Raises:
        EnvironmentFault: the protocol needs a package, nothing is there, or it cannot be reached.
        DataError: a file cannot be read as a whole.
    """
    system, files = _found(source)
    for file in files:
        yield from _file_chunks(system, file, _name(system, file))


def _file_chunks(system: Any, file: str, name: str) -> Iterator[Chunk]:
    found = kind(name)
    if found is None:
        raise DataError(f"{name}: unknown kind of file", hint=f"data files end in {LISTED}")
    with ExitStack() as opened:
        try:
            # Text is read from its start to its end, which a web server without ranges can give too.
            how = {"block_size": 0} if _is_web(name) and found.suffix not in COLUMNAR else {}
            stream = opened.enter_context(system.open(file, "rb", **how))
            if found.suffix == ".parquet":
                yield from parquet_chunks(stream, name)
            elif found.suffix == ".arrow":
                yield from arrow_chunks(stream, name)
            else:
                yield from text_chunks(io.BufferedReader(stream), found, name, None)
        except LauncherError:
            raise
        except FileNotFoundError:
            raise EnvironmentFault(f"{name}: no such data file") from None
        except Exception as fault:
            raise EnvironmentFault(f"{name}: cannot be read: {_line(fault)}") from fault


def _found(source: SourcePlan) -> tuple[Any, list[str]]:
    import fsspec

    url = source.path or ""
    name = f"{shown(url)} (source `{source.label}`)"
    try:
        system, path = fsspec.core.url_to_fs(url)
    except ImportError as fault:
        raise EnvironmentFault(f"{name}: {_line(fault)}", hint=_package(url)) from None
    except ValueError as fault:
        raise EnvironmentFault(f"{name}: {_line(fault)}") from None
    try:
        files = _files(system, path, source.data_files or (), url)
    except Exception as fault:
        raise EnvironmentFault(f"{name}: cannot be reached: {_line(fault)}") from fault
    if not files:
        raise EnvironmentFault(f"{name}: no file there", hint=f"data files end in {LISTED}")
    return system, files


def _files(system: Any, path: str, inside: tuple[str, ...], url: str) -> list[str]:
    web = _is_web(url)
    if any(character in path for character in ("*" if web else "*?[")):
        return sorted(system.glob(path))
    if web and not inside:
        return [path]
    if inside:
        return sorted({file for each in inside for file in system.glob(f"{path.rstrip('/')}/{each}")})
    if system.isdir(path):
        return sorted(file for file in system.ls(path, detail=False) if kind(file) is not None)
    return [path] if system.exists(path) else []


def _is_web(url: str) -> bool:
    return url.partition("://")[0] in _WEB


def _name(system: Any, file: str) -> str:
    return shown(str(system.unstrip_protocol(file)))


def _package(url: str) -> str | None:
    from fsspec.registry import known_implementations

    protocol = url.partition("://")[0]
    package = known_implementations.get(protocol, {}).get("class", "").partition(".")[0]
    own = {"http": "aiohttp requests", "https": "aiohttp requests", "sftp": "paramiko", "ssh": "paramiko"}
    needed = own.get(protocol) if package == "fsspec" else package
    return f"pip install {needed}" if needed else None


def hub_chunks(source: SourcePlan) -> Iterator[Carried]:
    """Rows of a hub dataset, from the files that `launcher fetch` brought, else from the hub; with `max_rows` only what is needed.

    Raises:
        EnvironmentFault: it cannot be loaded.
    """
    import datasets

    file = f"{source.path}[{source.split}] row "
    try:
        yield from carried(file, _hub_rows(_fetched(source) or _asked(source)))
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as fault:
        raise EnvironmentFault(
            f"dataset `{source.path}` (source `{source.label}`) cannot be loaded: {_line(fault)}",
            hint="check the name and split, and that this machine can reach the hub; "
            "`launcher fetch RECIPE` brings it where there is a network",
        ) from fault


def _asked(source: SourcePlan) -> Any:
    from datasets import load_dataset

    return load_dataset(
        source.path,
        source.name,
        split=source.split,
        data_files=list(source.data_files) if source.data_files else None,
        revision=source.revision,
        streaming=source.max_rows is not None,
    )


def _fetched(source: SourcePlan) -> Any | None:
    """The same from the hub's cache; None where not all of it is there.

    Without a network `datasets` by itself would look for what it has converted before, of whatever commit. The files are
    named to it because those of other splits are not there; then it leaves the card's types to us.
    """
    from datasets import load_dataset_builder

    folder = hub_cache.snapshot(hub_cache.hub_cache(), "dataset", source.path or "", source.revision or "")
    files = {split: [str(folder / name) for name in names] for split, names in source.hub_files.items()}
    if not files or not all(Path(file).is_file() for names in files.values() for file in names):
        return None
    builder = load_dataset_builder(str(folder), source.name, data_files=files)
    if source.data_files is None:
        builder.info.features = _stated_types(folder, builder.config.name)
    if source.max_rows is not None:
        return builder.as_streaming_dataset(split=source.split)
    builder.download_and_prepare(
        verification_mode="no_checks"
    )  # the hashes are compared, and the card knows more splits
    return builder.as_dataset(split=source.split)


def _stated_types(folder: Path, configuration: str) -> Any:
    """The columns' types by the dataset's card; None where it does not state them."""
    from datasets.info import DatasetInfosDict

    stated = DatasetInfosDict.from_directory(str(folder)).get(configuration)
    return stated.features if stated else None


def _hub_rows(rows: Any) -> Iterator[Read]:
    number = 0
    for batch in rows.iter(_HUB_ROWS):
        names = list(batch)
        for cells in zip(*batch.values(), strict=True):
            number += 1
            values = dict(zip(names, map(without_none, cells), strict=True))
            yield Read(number, values, None, _size(values))


def _size(value: Any) -> int:
    """About how large a row is: characters, and 8 for all else."""
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, Mapping):
        return sum(map(_size, value.values()))
    return sum(map(_size, value)) if isinstance(value, list) else 8


def fingerprint(source: SourcePlan, files: Sequence[Path] | None = None) -> list[list[Any]]:
    """What identifies the contents of a source that is not on this machine, as far as it tells without being read.

    Returns:
        For a URL name, size and version (entity tag, else time of change) of each file; for a hub dataset its name
        and commit. Empty where it cannot be reached now, and for files on this machine, which are hashed.
    """
    if files is not None:
        return []
    if is_url(source.path):
        try:
            system, found = _found(source)
            return [_stamp(system, file) for file in found]
        except Exception:  # noqa: BLE001 - whatever a driver raises, the answer is that nothing is known now
            return []
    commit = _commit(source)
    return [[source.path, commit]] if commit else []


def _stamp(system: Any, file: str) -> list[Any]:
    facts = system.info(file)
    version = next((str(facts[each]) for each in _STAMPS if facts.get(each)), None)
    return [_name(system, file), facts.get("size"), version]


def _commit(source: SourcePlan) -> str | None:
    if source.revision and len(source.revision) == 40 and all(each in "0123456789abcdef" for each in source.revision):
        return source.revision
    from huggingface_hub import HfApi

    try:
        return HfApi().dataset_info(source.path or "", revision=source.revision, timeout=10).sha
    except Exception:  # noqa: BLE001 - offline, renamed or private: nothing is known now
        return None


def _line(fault: Exception) -> str:
    return (str(fault).splitlines() or [type(fault).__name__])[0] or type(fault).__name__
