"""What each rank has written of a checkpoint, told to rank 0 over the store of the process group.

Not a collective operation: it runs beside training, waits for a limited time, and a rank that died cannot hang it.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from typing import Any

import torch.distributed as dist

Files = Mapping[str, Mapping[str, Any]]
"""File name → size in bytes and sha256."""

_OWNER = re.compile(r"(?:(?:^|/)(?:rng_state_|__)|_rank_)([0-9]+)[._]")
_SECONDS_BETWEEN_LOOKS = 0.02


class Unconfirmed(Exception):
    """A rank did not say in time what it has written."""


def owner(name: str, world_size: int) -> int:
    """The rank that writes a file: its number stands in the names of parts (random states, shards); rank 0 writes the rest."""
    found = _OWNER.search(name)
    rank = int(found[1]) if found else 0
    return rank if rank < world_size else 0


class Acks:
    """Acknowledgements of one attempt."""

    def __init__(self, attempt: int, rank: int, world_size: int) -> None:
        self._attempt, self._rank, self._world_size = attempt, rank, world_size
        self._store: Any = _store() if world_size > 1 else None

    def confirm(self, step: int, files: Files) -> None:
        """Tell rank 0 what this rank has written and synced."""
        if self._store is not None:
            self._store.set(self._key(step, self._rank), json.dumps({"files": files}))

    def refuse(self, step: int, sentence: str) -> None:
        """Tell rank 0 that this rank has nothing to offer, so that it need not wait."""
        if self._store is not None and self._rank != 0:
            self._store.set(self._key(step, self._rank), json.dumps({"error": sentence}))

    def collect(self, step: int, mine: Files, timeout_s: float) -> dict[str, Mapping[str, Any]]:
        """On rank 0: the files of all ranks.

        Raises:
            Unconfirmed: a rank could not write its part, or said nothing within `timeout_s` seconds.
        """
        files = dict(mine)
        deadline = time.monotonic() + timeout_s
        for rank in range(1, self._world_size):
            files |= self._of(step, rank, deadline, timeout_s)
        return files

    def _of(self, step: int, rank: int, deadline: float, timeout_s: float) -> dict[str, Mapping[str, Any]]:
        key = self._key(step, rank)
        while not self._store.check([key]):
            if time.monotonic() > deadline:
                raise Unconfirmed(f"rank {rank} did not confirm its part of checkpoint-{step} within {timeout_s:.0f} s")
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        said = json.loads(self._store.get(key))
        self._store.delete_key(key)
        if "error" in said:
            raise Unconfirmed(f"rank {rank}: {said['error']}")
        return dict(said["files"])

    def _key(self, step: int, rank: int) -> str:
        return f"launcher/checkpoint/{self._attempt}/{step}/{rank}"


def _store() -> Any:
    """The store by which the ranks found each other; a copy of the connection, so that nobody waits for us."""
    store: Any = dist.distributed_c10d._get_default_store()  # noqa: SLF001 - torch has no public name for it
    return store.clone()
