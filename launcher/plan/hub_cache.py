"""The hub's cache on disk as huggingface_hub lays it out: where a file lies, and whether it is what a lock says."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from launcher.runs.files import sha256_file

Kind = Literal["model", "dataset"]

MISSING = "is missing"
COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class FileFacts:
    """A file of a repository: size in bytes, and its hash as the hub states it.

    `hash` is `sha256:…` for what the hub stores as a large file, and git's own `sha1:…` for the others.
    """

    size: int
    hash: str


def hub_cache(home: str | Path | None = None) -> Path:
    """The folder that huggingface_hub keeps its files in. `home`: an HF_HOME other than the environment's."""
    if home is not None:
        return Path(home).expanduser() / "hub"
    named = os.environ.get("HF_HOME") or "~/.cache/huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(named) / "hub").expanduser()


def repository(cache: Path, kind: Kind, name: str) -> Path:
    """The folder of a hub repository."""
    return cache / f"{kind}s--{name.replace('/', '--')}"


def snapshot(cache: Path, kind: Kind, name: str, revision: str) -> Path:
    """The folder with a repository's files at a branch, tag or commit; it may not be there."""
    folder = repository(cache, kind, name)
    reference = folder / "refs" / revision
    commit = reference.read_text(encoding="ascii").strip() if reference.is_file() else revision
    return folder / "snapshots" / commit


def cached_file(name: str, revision: str, file: str, *, cache: Path | None = None) -> Path | None:
    """A file of a cached model repository, or None."""
    found = snapshot(cache or hub_cache(), "model", name, revision) / file
    return found if found.is_file() else None


def headers_file(cache: Path, name: str, commit: str) -> Path:
    """Names and shapes of a model's tensors, where only those were fetched."""
    return repository(cache, "model", name) / "headers" / f"{commit}.json"


def faults(folder: Path, files: dict[str, FileFacts], *, hashes: bool) -> Iterator[tuple[str, str]]:
    """Name and fault of each file of a snapshot that is not as it should be.

    Args:
        folder: the snapshot.
        files: what must be there.
        hashes: read every byte; without, only sizes are compared.
    """
    for name, facts in files.items():
        fault = file_fault(folder / name, facts, hashes=hashes)
        if fault:
            yield name, fault


def file_fault(path: Path, facts: FileFacts, *, hashes: bool) -> str | None:
    """What is wrong with a file, or None."""
    try:
        size = path.stat().st_size
        if size != facts.size:
            return f"has {size:,} bytes instead of {facts.size:,}"
        return "is damaged: its hash is another" if hashes and not same_hash(path, facts) else None
    except FileNotFoundError:
        return MISSING
    except OSError as fault:
        return f"cannot be read: {(fault.strerror or str(fault)).lower()}"


def same_hash(path: Path, facts: FileFacts) -> bool:
    """Whether a file's bytes have the hash."""
    algorithm, _, wanted = facts.hash.partition(":")
    return (sha256_file(path) if algorithm == "sha256" else git_sha1(path)) == wanted


def git_sha1(path: Path) -> str:
    """Git's name of a file's contents."""
    with path.open("rb") as stream:
        digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
