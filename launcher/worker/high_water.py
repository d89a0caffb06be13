"""The most memory that a rank holds while it makes steps; what loading, evaluating and saving take is kept apart."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_RESET_HIGH_WATER = b"5"
"""proc(5): resets VmHWM to what the process holds now."""


class HighWater(Protocol):
    """A high-water mark of one rank."""

    def pass_over(self) -> None:
        """What was held until now is no part of a step."""

    def take(self) -> None:
        """A step has ended."""

    def highest_gib(self) -> float:
        """The most so far, whatever it was for."""

    def facts(self) -> dict[str, int]:
        """Bytes by name, for the event `measured`."""


def of(device: torch.device) -> HighWater:
    """That of the device that this rank trains on."""
    return OfGpu(device) if device.type == "cuda" else OfProcess()


class OfGpu:
    """What torch's allocator counts on one GPU, and what the driver says of it."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._highest = self.allocated = self.reserved = 0

    def pass_over(self) -> None:
        """What was held until now is no part of a step."""
        self._highest = max(self._highest, torch.cuda.max_memory_allocated(self._device))
        torch.cuda.reset_peak_memory_stats(self._device)

    def take(self) -> None:
        """A step has ended. The allocator counts on the host: nothing is waited for."""
        found = torch.cuda.memory_stats(self._device)
        self.allocated = max(self.allocated, int(found.get("allocated_bytes.all.peak", 0)))
        self.reserved = max(self.reserved, int(found.get("reserved_bytes.all.peak", 0)))

    def highest_gib(self) -> float:
        """The most that the allocator has given out so far."""
        return max(self._highest, torch.cuda.max_memory_allocated(self._device)) / 2**30

    def facts(self) -> dict[str, int]:
        """`outside`: in use on the device now, but not by this allocator: contexts, NCCL, other programs."""
        free, total = torch.cuda.mem_get_info(self._device)
        outside = total - free - torch.cuda.memory_reserved(self._device)
        return {
            "allocated_bytes": self.allocated,
            "reserved_bytes": self.reserved,
            "outside_bytes": max(0, outside),
            "free_bytes": free,
            "total_bytes": total,
        }


class OfProcess:
    """What the kernel counts of this process: interpreter, libraries and tensors alike. No allocator's figure.

    Anonymous memory has no high-water mark; that of all resident memory has, and mapped files and shared memory, which
    hardly change while steps are made, are taken off it.
    """

    def __init__(self) -> None:
        self._highest = self.anonymous = 0

    def pass_over(self) -> None:
        """What was held until now is no part of a step."""
        self._highest = max(self._highest, _status()["VmHWM"])
        try:
            with _CLEAR.open("wb", buffering=0) as file:
                file.write(_RESET_HIGH_WATER)
        except OSError:
            return  # a kernel that does not know it: loading counts too

    def take(self) -> None:
        """A step has ended."""
        found = _status()
        self.anonymous = max(self.anonymous, found["VmHWM"] - found["RssFile"] - found["RssShmem"])

    def highest_gib(self) -> float:
        """The most resident memory so far, mapped files included."""
        return max(self._highest, _status()["VmHWM"]) / 2**30

    def facts(self) -> dict[str, int]:
        """Anonymous resident memory."""
        return {"anonymous_bytes": self.anonymous}


def _status() -> dict[str, int]:
    """The memory lines of `/proc/self/status`, in bytes; 0 for what the kernel does not say."""
    found = dict.fromkeys(("VmHWM", "RssFile", "RssShmem"), 0)
    with _STATUS.open(encoding="ascii", errors="replace") as file:
        for line in file:
            name, _, value = line.partition(":")
            if name in found:
                found[name] = int(value.split()[0]) * 1024
    return found
