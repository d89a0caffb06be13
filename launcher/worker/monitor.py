"""`python -m launcher.worker.monitor`: watches the ranks of one machine from outside, and ends them when they hang.

One process per machine, started by its first rank before torch is loaded. It loads no torch, so that nothing of what
can stop a rank can stop it, and it ends with the rank that started it.
"""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from launcher.errors import LauncherError
from launcher.runs import attempts, events
from launcher.runs.paths import RunDir
from launcher.runs.stopping import SIGNALS
from launcher.worker import beats, job, process
from launcher.worker.beats import Beat, Watched
from launcher.worker.blame import Standing, behind, blame, verdict, waits_for_others
from launcher.worker.faults import Ending, ExitNote
from launcher.worker.limits import Limits

_PROC = Path("/proc")
_LONGEST_LOOK_S = 0.5
_LOOKS_PER_LIMIT = 20
_SECONDS_BETWEEN_FENCE_LOOKS = 2.0
_SECONDS_TO_SHOW_STACKS = 5.0
_SECONDS_TO_HEAR_ONE = 1.0
_SECONDS_OF_SILENCE = 0.05
_ONE_PER_PROCESS = "Current thread"
"""faulthandler marks one thread of each process so: the one that took the signal."""
_NOWHERE = Beat("start", 0, 0, 0)

_started: list[subprocess.Popen[bytes]] = []
"""Kept: Python warns of a child that is forgotten while it runs."""


def start(run_dir: RunDir, attempt: int) -> None:
    """Start the monitor of this machine, when this is its first rank."""
    local, rank = int(os.environ.get("LOCAL_RANK", "0")), int(os.environ.get("RANK", "0"))
    if local != 0:
        return
    ranks, world = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), int(os.environ.get("WORLD_SIZE", "1"))
    numbers = (attempt, rank, ranks, world, os.getpid())
    argv = [sys.executable, "-m", "launcher.worker.monitor", str(run_dir.root), *map(str, numbers)]
    # A session of its own: a signal to the ranks' group must not end what watches them while they save.
    _started.append(subprocess.Popen(argv, stdin=subprocess.DEVNULL, start_new_session=True))


def main(root: str, attempt: str, first: str, ranks: str, world: str, parent: str) -> None:
    """Watch ranks `first` to `first + ranks - 1` until they, or `parent`, have ended."""
    process.die_with_parent(int(parent))
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    run_dir = RunDir(Path(root))
    mine = range(int(first), int(first) + int(ranks))
    Monitor(run_dir, int(attempt), mine, int(world), int(parent), _fixed_limit(run_dir)).watch()


def _fixed_limit(run_dir: RunDir) -> float | None:
    with contextlib.suppress(LauncherError):  # the ranks say what is wrong with the plan
        return job.load(run_dir.root).plan.hang_limit_s
    return None


class Monitor:
    """The ranks of one machine in one attempt."""

    def __init__(
        self, run_dir: RunDir, attempt: int, ranks: range, world_size: int, parent: int, fixed_s: float | None
    ) -> None:
        self.run_dir = run_dir
        self.attempt = attempt
        self.parent = parent
        self.alone = len(ranks) == world_size
        self.look_s = min(_LONGEST_LOOK_S, (fixed_s or _LOOKS_PER_LIMIT) / _LOOKS_PER_LIMIT)
        self.ranks = {rank: _Rank(rank, Limits(fixed_s)) for rank in ranks}

    def watch(self) -> None:
        """Look until a rank has ended by itself, the ranks hang, or another attempt has taken over."""
        seen = fence = time.monotonic()
        while True:
            time.sleep(self.look_s)
            now = time.monotonic()
            # What was suspended as a whole, this process included, has not stood still for that time.
            passed = min(now - seen, 4 * self.look_s)
            if now - seen > passed or now - fence > _SECONDS_BETWEEN_FENCE_LOOKS:
                fence = now
                if max(attempts.numbers(self.run_dir), default=0) > self.attempt:
                    return self._end_ranks()
            seen = now
            if not self._look(passed):
                return None

    def _look(self, passed: float) -> bool:
        """False when there is nothing left to watch."""
        for rank in self.ranks.values():
            rank.look(self.run_dir.rank_process(self.attempt, rank.number), passed)
            if rank.ended:
                return False  # torchrun ends the others
        progress = {number: rank.progress for number, rank in self.ranks.items()}
        last = [self.ranks[number] for number in behind(progress)]
        if any(rank.late for rank in last):
            return self._hangs(last)
        return True

    def _hangs(self, last: list[_Rank]) -> bool:
        """The ranks that are furthest behind stand still for too long. False when that ended them."""
        states = {rank.number: (rank.state(), rank.channel()) for rank in self.ranks.values()}
        self._show_stacks()
        standing = [rank.standing(*states[rank.number]) for rank in self.ranks.values()]
        found = blame([each for each in standing if each.rank in {rank.number for rank in last}])
        guilty = self.ranks[found.rank]
        if waits_for_others(found) and not self.alone and guilty.waited_s < 2 * guilty.limit_s:
            return True  # its own monitor will name the rank that they wait for
        for each in standing:
            self._save_stacks(each)
        self._say(found, guilty.limit_s)
        self._end_ranks()
        return False

    def _show_stacks(self) -> None:
        for rank in self.ranks.values():
            rank.ask_for_stacks()
        deadline = time.monotonic() + _SECONDS_TO_SHOW_STACKS
        while time.monotonic() < deadline and not all(rank.collect_stacks() for rank in self.ranks.values()):
            time.sleep(0.05)
        time.sleep(0.1)  # the last one may still be writing
        for rank in self.ranks.values():
            rank.collect_stacks()

    def _save_stacks(self, one: Standing) -> None:
        at = one.beat or _NOWHERE
        head = (
            f"rank {one.rank} on {platform.node()}, pid {self.ranks[one.rank].pid}: phase {at.phase}, step {at.step}, "
            f"micro-batch {at.micro}, {one.waited_s:.1f} s; state {one.state} {one.channel}\n\n"
        )
        with contextlib.suppress(OSError):
            self.run_dir.rank_stack(self.attempt, one.rank).write_text(head + one.stacks, encoding="utf-8")

    def _say(self, found: Standing, limit_s: float) -> None:
        """An event, and a note for each rank; that of the one to blame is the first failure."""
        host = platform.node()
        error = verdict(found, limit_s=limit_s, host=None if self.alone else host)
        stack = self.run_dir.rank_stack(self.attempt, found.rank)
        hint = f"what it was doing is in {stack.relative_to(self.run_dir.root)}; the same command goes on from the last checkpoint"
        events.append(
            self.run_dir.events, "hang", rank=found.rank, host=host, phase=found.phase,
            step=found.beat.step if found.beat else 0, seconds=round(found.waited_s, 1), limit_s=limit_s, error=error,
        )  # fmt: skip
        for number in sorted(self.ranks, key=lambda number: number != found.rank):
            log = self.run_dir.rank_log(self.attempt, number)
            note = ExitNote(self.run_dir.rank_exit(self.attempt, number), log, self.run_dir.root)
            ending = Ending("hang", error, hint)
            note.write(ending.rank_code, ending)

    def _end_ranks(self) -> None:
        """End them all; the one whose end ends this process comes last."""
        pids = [rank.pid for rank in self.ranks.values() if rank.pid not in (None, self.parent)]
        _send([pid for pid in pids if pid], signal.SIGKILL)
        _send([self.parent], signal.SIGKILL)


class _Rank:
    """One rank, from one look to the next."""

    def __init__(self, number: int, limits: Limits) -> None:
        self.number = number
        self.waited_s = 0.0
        self.ended = False
        self._limits = limits
        self._watched: Watched | None = None
        self._beat: Beat | None = None
        self._stacks = ""
        self._asked = 0

    @property
    def pid(self) -> int | None:
        return self._watched.pid if self._watched else None

    @property
    def progress(self) -> tuple[int, int]:
        return self._beat.progress if self._beat else (-1, -1)

    @property
    def limit_s(self) -> float:
        return self._limits.limit(self._beat or _NOWHERE)

    @property
    def late(self) -> bool:
        return self.waited_s > self.limit_s

    def look(self, note: Path, passed: float) -> None:
        """See where it stands, `passed` seconds after the last look."""
        self.waited_s += passed
        try:
            self._watched = self._watched or beats.watched(note)
        except FileNotFoundError:
            self.ended = True
        if self._watched is None:
            return
        beat = self._watched.beat()
        self.ended = beat.phase == "done" or self.state() in ("", "Z", "X")
        if beat != self._beat:
            if self._beat is not None:
                self._limits.moved(self._beat, self.waited_s)
            self._beat, self.waited_s = beat, 0.0

    def state(self) -> str:
        """Letter of its state; empty when it is gone."""
        if self.pid is None:
            return "S"
        try:
            return (_PROC / str(self.pid) / "stat").read_text().rpartition(")")[2].split()[0]
        except (OSError, IndexError):
            return ""

    def channel(self) -> str:
        """The kernel function that it waits in."""
        try:
            return (_PROC / str(self.pid) / "wchan").read_text().strip("0")
        except OSError:
            return ""

    def family(self) -> Iterable[int]:
        """It and the processes that it has started (data loaders)."""
        if self.pid is None:
            return
        yield self.pid
        for task in (_PROC / str(self.pid) / "task").glob("*"):
            with contextlib.suppress(OSError):
                yield from map(int, (task / "children").read_text().split())

    def ask_for_stacks(self) -> None:
        """Have it and its data loaders write them, one after the other: they write into one file, letter by letter."""
        for pid in self.family():
            if _answers(pid):
                self._asked += 1
                _send([pid], beats.SHOW_STACK)
                _send([pid], signal.SIGCONT)  # a stopped process answers only when it goes on
                self._hear_out()

    def _hear_out(self) -> None:
        """Wait until a process has begun to write and is silent again; not for long, it may never begin."""
        deadline, length, whole = time.monotonic() + _SECONDS_TO_HEAR_ONE, len(self._stacks), False
        while time.monotonic() < deadline and not whole:
            time.sleep(_SECONDS_OF_SILENCE)
            answered = self.collect_stacks()
            whole, length = answered and len(self._stacks) == length, len(self._stacks)

    def collect_stacks(self) -> bool:
        """Take what was written; False while a process that was asked has not answered."""
        if self._watched is not None:
            self._stacks += self._watched.new_stacks()
        return self._stacks.count(_ONE_PER_PROCESS) >= self._asked

    def standing(self, state: str, channel: str) -> Standing:
        return Standing(self.number, self._beat, self.waited_s, state, channel, self._stacks)


def _answers(pid: int) -> bool:
    """It has a handler for `SHOW_STACK`; any other process would die of it."""
    try:
        status = (_PROC / str(pid) / "status").read_text()
    except OSError:
        return False
    caught = next((line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:")), "0")
    return bool(int(caught, 16) >> (beats.SHOW_STACK - 1) & 1)


def _send(pids: Iterable[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


if __name__ == "__main__":
    main(*sys.argv[1:])
