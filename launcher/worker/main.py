"""The life of one rank: log file, end with the parent, training, and a note that says how it ended."""

from __future__ import annotations

import os
import platform
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path

from launcher.errors import Exit
from launcher.runs import attempts, lock, secrets_file
from launcher.runs.files import read_json, write_json
from launcher.runs.paths import RunDir
from launcher.runs.stopping import deadline
from launcher.worker import beats, monitor, peers, process
from launcher.worker.faults import Ending, ExitNote, ending_of
from launcher.worker.stop import StopRequest, listen

_SECONDS_TO_WRITE_FACTS = 5.0


def main(root: str, parent: int) -> int:
    """Train as one rank of the run at `root`.

    Args:
        root: the run directory.
        parent: pid of the process that started this one, read first thing.

    Returns:
        The exit code: 0 finished, 85 saved and stopped, 86 infrastructure, 93 it would fail again.
    """
    listen()
    # `accelerate launch` lists its preset's keys here, and accelerate refuses a DeepSpeed configuration with the same ones.
    os.environ.pop("ACCELERATE_CONFIG_DS_FIELDS", None)
    process.die_with_parent(parent)
    rank, world_size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    run_dir = RunDir(Path(root).resolve())
    if rank == 0 and "LAUNCHER_RUN_ID" not in os.environ:  # typed by hand: no launcher holds the lock for this run
        with lock.hold(run_dir) as taken:
            if taken:
                return _rank(run_dir, parent, rank, world_size)
        sys.stderr.write(f"error: {run_dir.root} is being run by another process\nhint:  `launcher status` shows it\n")
        return Exit.DO_NOT_REQUEUE
    return _rank(run_dir, parent, rank, world_size)


def _rank(run_dir: RunDir, parent: int, rank: int, world_size: int) -> int:
    attempt = int(os.environ.get("LAUNCHER_ATTEMPT", "0")) or join_attempt(run_dir, parent)
    log = run_dir.rank_log(attempt, rank)
    process.redirect_output(log)
    note = ExitNote(run_dir.rank_exit(attempt, rank), log, run_dir.root)
    beats.publish(run_dir.rank_process(attempt, rank))
    monitor.start(run_dir, attempt)
    if world_size == 1 and not _sharded(run_dir):
        process.forget_torchrun()
    elif world_size > 1:
        peers.watch(run_dir, attempt, rank, note)
    ending = _train(run_dir, attempt, rank)
    beats.beat("done")
    note.write(ending.rank_code, ending)
    with suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    if ending.cause not in ("finished", "stopped"):
        # Process groups and tracker threads of a broken run must not delay its end.
        os._exit(ending.rank_code)
    return ending.rank_code


def _train(run_dir: RunDir, attempt: int, rank: int) -> Ending:
    try:
        secrets_file.load()
        from launcher.worker.job import load
        from launcher.worker.tasks import sft

        sft.run(load(run_dir.root), attempt, rank, _request(run_dir, rank))
    except BaseException as error:  # noqa: BLE001 - every end is reported in the note
        ending = ending_of(error, run_dir.root)
        if ending.cause != "stopped":
            with suppress(OSError):  # a full disk takes no log either
                traceback.print_exc()
        return ending
    return Ending("finished")


def _sharded(run_dir: RunDir) -> bool:
    """Whether the plan shares the model out; one rank is a group of its own then."""
    plan = read_json(run_dir.plan) or {}
    return bool(plan.get("strategy", "ddp") != "ddp")


def _request(run_dir: RunDir, rank: int) -> StopRequest:
    """Every rank hears signals; one is enough to look for the file and at the clock."""
    from launcher.worker.time_limit import TimeLimit

    if rank != 0:
        return StopRequest()
    until = deadline(os.environ)
    return StopRequest(run_dir.stop_request, TimeLimit(run_dir, until) if until is not None else None)


def join_attempt(run_dir: RunDir, parent: int) -> int:
    """The attempt that the ranks of one torchrun share when nobody gave its number: the first rank opens it."""
    while True:
        newest = max(attempts.numbers(run_dir), default=0)
        facts = attempts.read(run_dir, newest) if newest else None
        if facts is not None and (facts.host, facts.pid) == (platform.node(), parent):
            return newest
        if newest and facts is None and _age(run_dir.attempt(newest)) < _SECONDS_TO_WRITE_FACTS:
            time.sleep(0.05)  # another rank has made the folder and is about to write the facts
            continue
        try:
            run_dir.attempt(newest + 1).mkdir(parents=True)
        except FileExistsError:
            continue
        facts = attempts.Attempt(newest + 1, platform.node(), parent, round(time.time(), 3))
        write_json(run_dir.attempt(newest + 1) / "attempt.json", vars(facts))
        return newest + 1


def _age(folder: Path) -> float:
    return time.time() - folder.stat().st_mtime
