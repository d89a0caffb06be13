"""Which checkpoint all ranks go on from: rank 0 reads and compares every byte, the others hear of it."""

from __future__ import annotations

from contextlib import suppress

from accelerate.utils import broadcast_object_list

from launcher.errors import RunFailed
from launcher.runs import checkpoints, events
from launcher.runs.checkpoints import Checkpoint, Refused
from launcher.runs.paths import RunDir


def choose(run_dir: RunDir, rank: int) -> Checkpoint | None:
    """The newest checkpoint that verifies; newer ones that do not are put aside. Call it on every rank.

    Raises:
        RunFailed: this rank does not see the checkpoint that rank 0 chose.
    """
    found = _verified(run_dir) if rank == 0 else None
    step = broadcast_object_list([found.step if found else None])[0]
    if step is None:
        return None
    return found or _seen(run_dir, step)


def _verified(run_dir: RunDir) -> Checkpoint | None:
    choice = checkpoints.newest(run_dir)
    for refused in choice.passed_over:
        _put_aside(run_dir, refused)
    return choice.checkpoint


def _put_aside(run_dir: RunDir, refused: Refused) -> None:
    moved_to = None
    with suppress(OSError):  # where it cannot be moved it stays, and is passed over again
        moved_to = checkpoints.quarantine(run_dir, refused).relative_to(run_dir.root).as_posix()
    events.append(run_dir.events, "quarantine", checkpoint=refused.path.name, reason=refused.reason, moved_to=moved_to)


def _seen(run_dir: RunDir, step: int) -> Checkpoint:
    path = dict(checkpoints.folders(run_dir)).get(step)
    checked = checkpoints.check(path, step, contents=False) if path else None
    if isinstance(checked, Checkpoint):
        return checked
    reason = checked.reason if checked else "it is not there"
    raise RunFailed(
        f"checkpoint-{step} is whole for rank 0, but not for this rank: {reason}",
        hint=f"make {run_dir.root} the same folder on every node",
    )
