"""Heartbeats: where this rank stands, kept in memory that the monitor can read while this process cannot run."""

from __future__ import annotations

import faulthandler
import mmap
import os
import platform
import signal
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from launcher.runs.files import read_json, write_json

Phase = Literal["start", "load", "data", "forward", "backward", "update", "agree", "evaluate", "save", "leave", "done"]
"""`agree` is the end of a step, where ranks exchange what they know; logging follows in the same phase."""

PHASES: tuple[Phase, ...] = (
    "start", "load", "data", "forward", "backward", "update", "agree", "evaluate", "save", "leave", "done",
)  # fmt: skip
SHOW_STACK = signal.SIGRTMIN + 3
"""A rank that gets it writes the stacks of its threads; done in C, so it works while a thread holds the GIL."""

_FIELDS = struct.Struct("=5q")


@dataclass(frozen=True)
class Beat:
    """Where a rank stands. All ranks pass the same phases, so (`step`, `count`) tells which of them is behind."""

    phase: Phase
    step: int
    """The optimizer step that is being made, from 1; 0 before the first."""
    micro: int
    """The micro-batch of that step, from 0."""
    count: int
    """Beats since the step began."""
    first: int = 0
    """The first step of this attempt; 0 before it."""

    @property
    def progress(self) -> tuple[int, int]:
        """What orders ranks."""
        return self.step, self.count


class _Here:
    """The beat of this process."""

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, _FIELDS.size)
        self.step = self.micro = self.count = self.first = 0


_here = _Here()


def beat(phase: Phase, *, step: int | None = None, micro: int | None = None) -> None:
    """Say where this rank stands. About a microsecond; every rank must say the same in the same order.

    Args:
        phase: what begins now.
        step: the optimizer step, when another one begins.
        micro: the micro-batch.
    """
    if step is not None and step != _here.step:
        _here.step, _here.micro, _here.count = step, 0, 0
        _here.first = _here.first or step
    if micro is not None:
        _here.micro = micro
    _here.count += 1
    _FIELDS.pack_into(_here.memory, 0, _INDEX[phase], _here.step, _here.micro, _here.count, _here.first)


_INDEX = {phase: number for number, phase in enumerate(PHASES)}


def publish(note: Path) -> None:
    """Let the monitor of this machine read this rank's beats, and make it answer `SHOW_STACK`.

    Both live in memory without a name, so that nothing stays behind and no disk can delay a step.

    Args:
        note: is written; says where they are.
    """
    beats, stacks = os.memfd_create("launcher-beats"), os.memfd_create("launcher-stacks")
    os.ftruncate(beats, _FIELDS.size)
    _here.memory = mmap.mmap(beats, _FIELDS.size)
    faulthandler.register(SHOW_STACK, file=stacks, all_threads=True, chain=False)
    write_json(note, {"host": platform.node(), "pid": os.getpid(), "beats": beats, "stacks": stacks})


class Watched:
    """A rank of this machine as the monitor sees it."""

    def __init__(self, pid: int, beats: int, stacks: int) -> None:
        self.pid = pid
        with Path(f"/proc/{pid}/fd/{beats}").open("rb") as file:
            self._memory = mmap.mmap(file.fileno(), _FIELDS.size, prot=mmap.PROT_READ)
        self._stacks = Path(f"/proc/{pid}/fd/{stacks}")
        self._shown = 0

    def beat(self) -> Beat:
        """Where it stands."""
        phase, *numbers = _FIELDS.unpack_from(self._memory, 0)
        return Beat(PHASES[phase], *numbers)

    def new_stacks(self) -> str:
        """What it, or a process that it has forked, has written on `SHOW_STACK` since this was last asked."""
        try:
            with self._stacks.open("rb") as file:
                file.seek(self._shown)
                text = file.read()
        except OSError:  # it has ended
            return ""
        self._shown += len(text)
        return text.decode(errors="replace")


def watched(note: Path) -> Watched | None:
    """The rank that wrote `note`; None while it has not.

    Raises:
        FileNotFoundError: it has ended.
        OSError: its memory may not be read.
    """
    facts = read_json(note)
    return None if facts is None else Watched(facts["pid"], facts["beats"], facts["stacks"])
