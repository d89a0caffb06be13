"""The weights of a model folder by their headers alone: which tensors there are, and whether the files are whole.

Nothing here reads a pickle, follows a name out of the folder, or waits for a pipe.
"""

from __future__ import annotations

import hashlib
import json
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launcher.predict.sizes import Shape

_HEADER_LIMIT = 100_000_000
"""Longest header in bytes; the safetensors library has the same bound."""
_WHOLE_LIMIT, _PIECE = 1 << 20, 1 << 16
_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
COPY_AGAIN = "copy it again"


class ModelFileError(Exception):
    """A file of a model or an adapter that cannot be used, and what to do."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@dataclass(frozen=True)
class Weights:
    """Name → shape of the tensors of a folder, and what is wrong with its files."""

    tensors: dict[str, Shape] = field(default_factory=dict)
    faults: tuple[ModelFileError, ...] = ()


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter in a folder: its `adapter_config.json` and the shapes of its weights."""

    config: dict[str, Any]
    weights: Weights


def read_weights(folder: Path) -> Weights:
    """The tensors that transformers would load from a model folder; every fault of its files."""
    try:
        return _read_all(_weight_files(folder))
    except ModelFileError as fault:
        return Weights(faults=(fault,))


def read_adapter(folder: Path) -> Adapter:
    """The adapter in a folder; every fault of its files."""
    config: dict[str, Any] = {}
    faults: list[ModelFileError] = []
    try:
        config = read_object(folder / "adapter_config.json")
    except FileNotFoundError:
        hint = "an adapter folder is what peft's `save_pretrained` wrote"
        faults.append(ModelFileError(f"{folder} holds no adapter_config.json", hint))
    except ModelFileError as fault:
        faults.append(fault)
    file = folder / "adapter_model.safetensors"
    if not file.exists() and (folder / "adapter_model.bin").exists():
        faults.append(_pickles(folder / "adapter_model.bin", "AutoPeftModelForCausalLM"))
        return Adapter(config, Weights(faults=tuple(faults)))
    weights = _read_all((file,))
    return Adapter(config, Weights(weights.tensors, (*faults, *weights.faults)))


def read_header(file: Path) -> dict[str, Shape]:
    """Name → shape of every tensor of a safetensors file.

    Raises:
        ModelFileError: it is missing, cut off, or not safetensors.

    Source: the format's description in the safetensors README: 8 bytes of header length, little-endian, the header as
    JSON, then the tensors without a gap.
    """
    size = _size(file)
    try:
        with file.open("rb") as stream:
            start = stream.read(8)
            length = int.from_bytes(start, "little")
            if start == b"version ":
                raise ModelFileError(
                    f"{file} is a Git LFS pointer, not the weights", "`git lfs pull` in its folder fetches them"
                )
            if size >= 8 and length > _HEADER_LIMIT:
                raise ModelFileError(f"{file} is not safetensors: its header would be {length:,} bytes", COPY_AGAIN)
            if size < 8 + length:
                raise ModelFileError(
                    f"{file} is cut off: {size:,} bytes, its header ends at {8 + length:,}", COPY_AGAIN
                )
            entries = json.loads(stream.read(length))
            shapes, end = _entries(entries)
    except OSError as fault:
        raise ModelFileError(f"{file} cannot be read: {(fault.strerror or str(fault)).lower()}") from None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise ModelFileError(f"{file} is not safetensors: its header cannot be read", COPY_AGAIN) from None
    expected = 8 + length + end
    if size < expected:
        raise ModelFileError(f"{file} is cut off: {size:,} bytes of {expected:,}", COPY_AGAIN)
    if size > expected:
        raise ModelFileError(f"{file} has {size:,} bytes, its header accounts for {expected:,}", COPY_AGAIN)
    return shapes


def read_object(file: Path) -> dict[str, Any]:
    """A JSON object from a regular file of bounded size.

    Raises:
        FileNotFoundError: there is no such file.
        ModelFileError: it is something else.
    """
    if not file.exists():
        raise FileNotFoundError(file)
    if _size(file) > _HEADER_LIMIT:
        raise ModelFileError(f"{file} is too large for JSON of its kind ({file.stat().st_size:,} bytes)")
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except OSError as fault:
        raise ModelFileError(f"{file} cannot be read: {(fault.strerror or str(fault)).lower()}") from None
    except (ValueError, RecursionError) as fault:
        raise ModelFileError(f"{file} is not JSON: {str(fault).splitlines()[0]}", COPY_AGAIN) from None
    if not isinstance(value, dict):
        raise ModelFileError(f"{file} holds no object, but a {type(value).__name__}", COPY_AGAIN)
    return value


def fingerprint(folder: Path) -> str:
    """sha256 that changes with the model in a folder, in milliseconds for a model of any size.

    Covers `config.json`, and of each safetensors file name, size, header, and the first and last 64 KiB of its tensors;
    a file of at most 1 MiB counts whole. Weights from another training differ in these places; a single byte that was
    changed on purpose in the middle of a large file is not seen.
    """
    digest = hashlib.sha256()
    for file in (folder / "config.json", *sorted(folder.glob("*.safetensors"))):
        if not file.is_file():
            continue
        size = file.stat().st_size
        digest.update(f"{file.name}\0{size}\0".encode())
        with file.open("rb") as stream:
            if size <= _WHOLE_LIMIT:
                digest.update(stream.read())
                continue
            start = stream.read(8)
            length = min(int.from_bytes(start, "little"), _HEADER_LIMIT)
            digest.update(start + stream.read(length + _PIECE))
            stream.seek(size - _PIECE)
            digest.update(stream.read())
    return digest.hexdigest()


def _read_all(files: tuple[Path, ...]) -> Weights:
    tensors: dict[str, Shape] = {}
    faults = []
    for file in files:
        try:
            tensors |= read_header(file)
        except ModelFileError as fault:
            faults.append(fault)
    return Weights(tensors, tuple(faults))


def _weight_files(folder: Path) -> tuple[Path, ...]:
    """The files that hold the weights, in the order in which transformers looks for them."""
    if (folder / _SINGLE).exists():
        return (folder / _SINGLE,)
    if (folder / _INDEX).exists():
        return _shards(folder / _INDEX)
    if (folder / _SINGLE).is_symlink():
        raise ModelFileError(f"{folder / _SINGLE} is a link to nothing", "copy the file it stood for")
    pickles = sorted(folder.glob("pytorch_model*.bin"))
    if pickles:
        raise _pickles(pickles[0], "AutoModelForCausalLM")
    if any(folder.glob("model-*-of-*.safetensors")):
        raise ModelFileError(f"{folder} holds shards, but no {_INDEX}", "copy that file too")
    raise ModelFileError(f"{folder} holds no weights ({_SINGLE})", "a model folder is what `save_pretrained` wrote")


def _shards(index: Path) -> tuple[Path, ...]:
    """The files of an index. They lie beside it: a `../` there has been used to read files (CVE-2026-69112)."""
    named = read_object(index).get("weight_map")
    if not isinstance(named, dict) or not named or not all(isinstance(name, str) for name in named.values()):
        raise ModelFileError(f"{index} has no `weight_map` from tensors to files", COPY_AGAIN)
    names = sorted(set(named.values()))
    for name in names:
        if "/" in name or "\\" in name or not name.endswith(".safetensors"):
            raise ModelFileError(
                f"{index} names `{name}`, which is no safetensors file beside it", "use a copy from where it was made"
            )
    missing = [name for name in names if not (index.parent / name).exists()]
    if missing:
        raise ModelFileError(
            f"{index.parent} lacks {len(missing)} of its {len(names)} weight files: {', '.join(missing[:3])}"
            + (", …" if len(missing) > 3 else ""),
            "copy them too",
        )
    return tuple(index.parent / name for name in names)


def _pickles(file: Path, loader: str) -> ModelFileError:
    package = "peft" if "Peft" in loader else "transformers"
    return ModelFileError(
        f"{file} is a pickle, which runs code when it is read; only safetensors are",
        f"convert it where you trust it: `from {package} import {loader} as M; "
        f'M.from_pretrained("{file.parent}").save_pretrained("NEW")`',
    )


def _size(file: Path) -> int:
    """Bytes of a regular file; a pipe would wait for ever."""
    try:
        found = file.stat()
    except OSError as fault:
        raise ModelFileError(
            f"{file} cannot be read: {(fault.strerror or str(fault)).lower()}", "copy it too"
        ) from None
    if not stat.S_ISREG(found.st_mode):
        raise ModelFileError(f"{file} is not a regular file")
    return found.st_size


def _entries(header: dict[str, Any]) -> tuple[dict[str, Shape], int]:
    """Shapes, and where the last tensor ends."""
    header.pop("__metadata__", None)
    shapes = {name: tuple(int(length) for length in entry["shape"]) for name, entry in header.items()}
    return shapes, max((int(entry["data_offsets"][1]) for entry in header.values()), default=0)
