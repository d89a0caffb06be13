"""Which of the ranks that stand still is the one that the others wait for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from launcher.worker.beats import Beat, Phase

_DOING: Mapping[Phase, str] = {
    "start": "starting",
    "load": "loading the model",
    "data": "loading data",
    "forward": "in the forward pass",
    "backward": "in the backward pass",
    "update": "updating the weights",
    "agree": "ending the step",
    "evaluate": "evaluating",
    "save": "saving",
    "leave": "leaving",
    "done": "done",
}
_HALTED = {"T": "the process is stopped, by SIGSTOP for instance", "t": "a debugger has stopped the process"}
_COLLECTIVE = ("torch/distributed/", "torch/nn/parallel/", "torch/autograd/", "launcher/worker/boundary.py")
"""Files whose innermost frames wait for the other ranks; with DDP, gradients are exchanged in the backward pass."""
_FILE = re.compile(r'^  File "(.*)", line', re.MULTILINE)


@dataclass(frozen=True)
class Standing:
    """One rank when the stall was found."""

    rank: int
    beat: Beat | None
    """None: it never said anything."""
    waited_s: float
    """Seconds since its last beat."""
    state: str = "S"
    """Letter of /proc/PID/stat: R runs, S sleeps, D waits for a device, T is stopped."""
    channel: str = ""
    """Kernel function that it waits in, where that is known."""
    stacks: str = ""

    @property
    def progress(self) -> tuple[int, int]:
        """What orders ranks."""
        return self.beat.progress if self.beat else (-1, -1)

    @property
    def phase(self) -> Phase:
        """What it is doing."""
        return self.beat.phase if self.beat else "start"

    @property
    def in_collective(self) -> bool:
        """Its main thread waits for other ranks."""
        main = self.stacks.rpartition("(most recent call first):")[2]  # threads are listed from the newest
        innermost = _FILE.search(main)
        return innermost is not None and any(part in innermost[1] for part in _COLLECTIVE)

    @property
    def guilt(self) -> tuple[bool, bool, bool]:
        """Of ranks that have come equally far, the one that is not waiting for others has the largest."""
        return self.state in _HALTED, self.state == "D", not self.in_collective


def behind(ranks: Mapping[int, tuple[int, int]]) -> list[int]:
    """The ranks that have come least far."""
    return sorted(rank for rank in ranks if ranks[rank] == min(ranks.values()))


def blame(ranks: list[Standing]) -> Standing:
    """The rank that did not arrive: the one with the least progress; of several, the one that waits for nobody."""
    last = [each for each in ranks if each.progress == min(other.progress for other in ranks)]
    return max(last, key=lambda each: (each.guilt, -each.rank))


def waits_for_others(one: Standing) -> bool:
    """Even this one only waits in a collective operation, for a rank of another machine or for a call that was left out."""
    return one.guilt == (False, False, False)


def verdict(one: Standing, *, limit_s: float, host: str | None = None) -> str:
    """What happened, in one line; `host` where the run has several machines."""
    who = f"rank {one.rank} on {host}" if host else f"rank {one.rank}"
    where = f"at step {one.beat.step}" if one.beat and one.beat.step else "before the first step"
    doing = f"it has been {_DOING[one.phase]} for {one.waited_s:.0f} s {where} (limit {limit_s:.0f} s)"
    if waits_for_others(one):
        return f"{who} waits in a collective operation for ranks that did not arrive: {doing}"
    return f"{who} did not arrive: {doing}{_why(one)}"


def _why(one: Standing) -> str:
    if one.state in _HALTED:
        return f"; {_HALTED[one.state]}"
    if one.state == "D":
        return f"; it waits for a disk or another device{f', in {one.channel}' if one.channel else ''}"
    return ""
