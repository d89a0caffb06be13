"""What a tracker has been told, noted beside its own files, so that a run that goes on tells it nothing twice."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from launcher.runs.files import write_text

Mark = tuple[int, str]
"""Step and kind of a log: a run that goes on makes the same ones again."""
_KINDS = ("training", "evaluation", "end")


def mark(step: int, names: Iterable[str]) -> Mark:
    """What a log of these metrics is known by. Its values may differ in what depends on the attempt, such as tokens so far."""
    kinds = {kind for name in names if (kind := tells_kind(name))}
    return step, next((kind for kind in ("evaluation", "training") if kind in kinds), "end")


def tells_kind(name: str) -> str | None:
    """The kind of the logs in which this metric stands; None where it stands in several."""
    if name.startswith("eval_"):
        return "evaluation"
    return {"loss": "training", "train_runtime": "end"}.get(name)


class Sent:
    """The logs that one tracker was given. Noted before they are given, so that a kill can lose one and double none."""

    def __init__(self, path: Path) -> None:
        """Read the notes of earlier attempts.

        Raises:
            OSError: they cannot be read.
        """
        self._path = path
        self._unwritten = ""
        self.kept = path.exists()
        """An earlier attempt has taken notes."""
        self._known = set(_marks(path.read_text(encoding="utf-8"))) if self.kept else set()

    def __contains__(self, each: Mark) -> bool:
        return each in self._known

    def add(self, marks: Iterable[Mark]) -> None:
        """Note these, on the storage itself. What a full disk does not take goes with the next."""
        new = list(marks)
        self._known.update(new)
        self._unwritten += _text(new)
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                block = self._unwritten.encode()
                if os.write(descriptor, block) == len(block):
                    self._unwritten = ""
                os.fdatasync(descriptor)
            finally:
                os.close(descriptor)
        except OSError:
            return

    def __iter__(self) -> Iterator[Mark]:
        return iter(self._known)

    def replace(self, marks: Iterable[Mark]) -> None:
        """The tracker itself says that it has these, and no others.

        Raises:
            OSError: the notes cannot be written.
        """
        self._known = set(marks)
        write_text(self._path, _text(sorted(self._known)))


def _text(marks: Iterable[Mark]) -> str:
    """Each on a line that begins with its end, so that the line behind a torn one is whole."""
    return "".join(f"\n{step} {kind}" for step, kind in marks)


def _marks(text: str) -> Iterable[Mark]:
    for line in text.splitlines():
        step, _, kind = line.partition(" ")
        if step.isdigit() and kind in _KINDS:
            yield int(step), kind
