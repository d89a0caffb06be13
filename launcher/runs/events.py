"""`events.jsonl`: what happened in a run, one JSON object per line, append-only."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from launcher.runs.secrets_file import hide

# attempt/stage events come from the executor, progress from the stage; the rest from rank 0 of the worker.
EventName = Literal[
    "attempt",  # attempt, pid, host                        a start of `launcher run`
    "retry",  # attempt: the one that failed, cause, error, step: of the checkpoint it goes on from, after_s
    "split",  # before, per_device, accumulation, asked_by: person|policy|probe    another split of the same batch
    "probe",  # attempt, per_device, accumulation, fits, peak_bytes, predicted_bytes, factor, step_s    three steps tried first
    "stage",  # stage, state: started|done|failed|stopped|skipped
    "progress",  # stage, what, share: 0 to 1 or null, rows, tokens    where a long stage stands; from the stage itself
    "links",  # backend, ranks, bytes, seconds, gb_per_s: sent by each rank     a sum over all ranks, before training
    "start",  # world_size, wrapper, device, dtype, trainable, parameters, step, max_steps, steps_per_epoch, attempt
    "resume",  # checkpoint, step, world_size, versions: {name: [then, now]}
    "quarantine",  # checkpoint, reason, moved_to          a damaged checkpoint was put aside
    "step",  # attempt, step, epoch, loss, learning_rate, grad_norm, tokens_per_s, memory_gib, tokens, seconds
    "trained",  # attempt, step, seconds                   steps that are saved or ended without a log
    "measured",  # attempt, step, device, steps, step_s, …, ranks: [bytes by name]    what the attempt took, when it ends
    "eval",  # step, dataset, loss, when, seconds
    "score",  # step, dataset, metrics: {name: value}, rows, when: base|step|final, seconds
    "save",  # step
    "commit",  # step, checkpoint, seconds, blocked_s: of them, those in which training waited
    "save_failed",  # step, error, mount
    "asked",  # by: scheduler                              a stop request reached the executor; ranks agree on it below
    "stop",  # step (null before it is known), cause      a stop request was agreed
    "warning",  # message; of a loss that jumped: step, loss, usual, rows; of a slow rank: step, rank, host, seconds, usual; spill
    "not_finite",  # step, what: loss|gradient|weights, ranks, learning_rate, rows: {rank: [text]}
    "hang",  # rank, host, phase, step, seconds, limit_s, error    from the monitor of the rank's machine
    "export",  # folder, base, dtype, bytes, logits: {merged, allowed, adapter, trained}, seconds, memory_gib
    "end",  # step, state: finished|stopped|failed, error
]


_waiting: dict[Path, list[bytes]] = {}
"""Lines that a full or forbidden disk did not take, of this process; they go first once it takes them again."""
_MOST_WAITING = 10_000


def append(path: Path, event: EventName, **fields: Any) -> None:
    """Append one event with its Unix time in seconds. One write of one line, so that readers never see two mixed.

    Telling must not end what it tells of: what cannot be written waits, in order, for the next event.
    """
    line = json.dumps({"event": event, "time": round(time.time(), 3), **fields}, ensure_ascii=False)
    lines = [*_waiting.pop(path, []), hide(line).encode() + b"\n"]
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    except OSError:
        _waiting[path] = lines[-_MOST_WAITING:]
        return
    with contextlib.suppress(OSError):
        while lines:
            written = os.write(descriptor, lines[0])
            if written < len(lines[0]):
                lines[0] = b"\n" + lines[0].lstrip() if written else lines[0]  # readers pass over the torn line
                break
            lines.pop(0)
    os.close(descriptor)
    if lines:
        _waiting[path] = lines[-_MOST_WAITING:]


def heal(path: Path) -> None:
    """Close a last line that a kill or a full disk tore, so that the next event starts on a line of its own."""
    try:
        with path.open("rb+") as file:
            if file.seek(0, os.SEEK_END) == 0:
                return
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
    except FileNotFoundError:
        return


def read(path: Path) -> list[dict[str, Any]]:
    """All events in order; a torn last line and a missing file are tolerated."""
    return list(follow_from(path, 0)[0])


def follow_from(path: Path, offset: int) -> tuple[list[dict[str, Any]], int]:
    """Complete events after byte `offset`, and the offset behind the last of them."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            block = file.read()
    except FileNotFoundError:
        return [], offset
    end = block.rfind(b"\n") + 1
    return list(_decode(block[:end])), offset + end


def _decode(block: bytes) -> Iterator[dict[str, Any]]:
    for line in block.splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue  # a line torn by a kill, closed by the next attempt's newline
        if isinstance(event, dict):
            yield event
