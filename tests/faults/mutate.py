"""Single mutations of a checkpoint, as storage, transfers and people make them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

PAGE = 4096
MANIFEST = "MANIFEST.json"


@dataclass(frozen=True)
class Mutation:
    """What was done to the newest checkpoint."""

    kind: str
    files: tuple[str, ...]
    """A message that names one of these names the damage."""
    bad: int = 1
    """How many of the newest checkpoints are damaged by it."""

    def __str__(self) -> str:
        return f"{self.kind} {' and '.join(self.files)}"


def mutate(random: Random, kind: str, newest: Path, older: Path) -> Mutation | None:
    """Damage the folder `newest`; None when the mutation happened to change nothing.

    Args:
        random: draws files and places.
        kind: one of `KINDS`.
        newest: the newest checkpoint.
        older: the one before it, which `swap steps` changes too.
    """
    if kind == "swap steps":
        return _swap_steps(newest, older)
    names = sorted(path.relative_to(newest).as_posix() for path in newest.rglob("*") if path.is_file())
    if kind == "swap":
        first, second = random.sample(names, 2)
        return _swap(newest, first, second)
    name = random.choice(names)
    before = (newest / name).read_bytes()
    if not before or (kind == "older file" and not (older / name).is_file()):
        return None
    after = (older / name).read_bytes() if kind == "older file" else _CHANGES[kind](random, before)
    if after == before:
        return None
    (newest / name).unlink()
    if after is not None:
        (newest / name).write_bytes(after)
    return Mutation(kind, (name,))


def _truncated(random: Random, data: bytes) -> bytes:
    return data[: random.randrange(1, len(data))] if len(data) > 1 else b""


def _flipped(random: Random, data: bytes) -> bytes:
    place, bit = random.randrange(len(data)), 1 << random.randrange(8)
    return data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :]


def _zeroed(random: Random, data: bytes) -> bytes:
    """A page that was never written, as after a power loss."""
    start = random.randrange(0, len(data), PAGE)
    return data[:start] + bytes(len(data[start : start + PAGE])) + data[start + PAGE :]


def _gone(_random: Random, _data: bytes) -> None:
    return None


def _empty(_random: Random, _data: bytes) -> bytes:
    return b""


_CHANGES: dict[str, Callable[[Random, bytes], bytes | None]] = {
    "truncate": _truncated,
    "flip a bit": _flipped,
    "zero a page": _zeroed,
    "delete": _gone,
    "empty": _empty,
}
KINDS = (*_CHANGES, "swap", "older file", "swap steps")


def _swap(folder: Path, first: str, second: str) -> Mutation | None:
    if (folder / first).read_bytes() == (folder / second).read_bytes():
        return None
    _exchange(folder / first, folder / second)
    return Mutation("swap", (first, second))


def _swap_steps(newest: Path, older: Path) -> Mutation:
    _exchange(newest, older)
    return Mutation("swap steps", (MANIFEST,), bad=2)


def _exchange(first: Path, second: Path) -> None:
    aside = first.with_name(f"{first.name}.aside")
    first.rename(aside)
    second.rename(first)
    aside.rename(second)
