"""The table of faults: each name, what is done, what must hold, and how many trials make up the short and the long run."""

from __future__ import annotations

import functools

from tests.faults import mutations, plain, races, signals, slurm, storm
from tests.faults.bed import ONE_RANK, TWO_RANKS
from tests.faults.fault import Fault, tests_of

_KILLED = (
    "Nothing is unusable: the next start resumes the newest whole checkpoint, which is never older than the last "
    "`commit` event. No more is lost than the steps since that commit and one. Every step, repeated ones too, has the "
    "loss and the gradient norm of the undisturbed run, and the final weights are equal to the bit. "
    "No process is left after 10 s."
)
_KILLS = (
    "SIGKILL again and again until the run is done. 60 % are aimed into a save (half by the clock, half at one of its "
    "file-system operations), the rest anywhere between the start and the end. Tiny model, full and LoRA with dropout "
    "in turn, saved after each step, two checkpoints kept."
)
_OPERATION = (
    "One SIGKILL before each operation on files (open for writing, rename, remove, mkdir, rmdir, truncate, fsync, "
    "reserve, and the native writers) of an attempt that resumes, saves, lets an old checkpoint go, writes the result "
    "and ends; then a second start."
)
_DAMAGE = (
    "One file of the newest checkpoint, manifest included, is cut, flipped by a bit, zeroed for a page, deleted, "
    "emptied, exchanged with another, or replaced by that of the checkpoint before; or two whole checkpoints change "
    "places. One and two ranks, full and LoRA."
)


def _tested(name: str, *paths: str, done: str, promise: str) -> Fault:
    """A row of tests; the short run leaves it out, since `make test` has run them."""
    return Fault(name, done, promise, tests_of(*paths), ci=0, long=1, unit="tests", part=1)


FAULTS: tuple[Fault, ...] = (
    Fault(
        name="Kill storm, 1 rank",
        done=_KILLS,
        promise=_KILLED,
        run=functools.partial(storm.storm, ONE_RANK),
        ci=80,
        long=1300,
        unit="kills",
        plain=functools.partial(plain.storm, ONE_RANK),
        plain_long=200,
    ),
    Fault(
        name="Kill storm, 2 ranks",
        done="As for 1 rank. All ranks are killed, or one, and then the other one as torchrun would end it.",
        promise="As for 1 rank.",
        run=functools.partial(storm.storm, TWO_RANKS),
        ci=40,
        long=500,
        unit="kills",
        part=20,
        plain=functools.partial(plain.storm, TWO_RANKS),
        plain_long=60,
    ),
    Fault(
        name="Kill at each operation, 1 rank",
        done=_OPERATION,
        promise="As in the kill storm.",
        run=functools.partial(storm.each_operation, "full"),
        ci=functools.partial(storm.operations, "full"),
        long=functools.partial(storm.operations, "full"),
        unit="kills",
    ),
    Fault(
        name="Kill at each operation, 2 ranks",
        done="As for 1 rank, at each operation of rank 0 and at each of rank 1.",
        promise="As for 1 rank.",
        run=functools.partial(storm.each_operation, "full x2"),
        ci=20,
        long=functools.partial(storm.operations, "full x2"),
        unit="kills",
        part=10,
    ),
    Fault(
        name="Damaged checkpoint, found",
        done=f"{_DAMAGE} Judged by the choice of the checkpoint to resume; nothing is started.",
        promise="The damage is found, the reason names the right file and no other, and the newest whole checkpoint is chosen.",
        run=mutations.found,
        ci=1000,
        long=1000,
        unit="mutations",
        part=125,
    ),
    Fault(
        name="Damaged checkpoint, resumed",
        done=f"{_DAMAGE} Then the run is started again.",
        promise=(
            "Before the first step the damaged checkpoint is put aside as it is, with a reason that names the right file; the run goes "
            "on from the newest whole one and ends with the weights of the undisturbed run."
        ),
        run=mutations.resumed,
        ci=32,
        long=64,
        unit="mutations",
        part=16,
        plain=plain.mutations,
        plain_long=256,
    ),
    Fault(
        name="Signals to ranks",
        done=(
            "SIGTERM, SIGINT, SIGUSR1 or SIGUSR2 to one rank, to all 0 to 10 s apart, inside a save, inside an eval, "
            "before the first step. One and two ranks."
        ),
        promise=(
            "One common step is saved, the last one trained; all ranks exit with 85; no process is left after 10 s; "
            "the next start ends with the weights of the undisturbed run."
        ),
        run=signals.storm,
        ci=20,
        long=100,
        part=10,
    ),
    Fault(
        name="Racing starts",
        done=f"{races.RACERS} processes take the lock of one run directory and begin an attempt at the same time.",
        promise="Exactly one wins, and one attempt is begun.",
        run=races.starts,
        ci=20,
        long=100,
        unit="races",
        part=50,
    ),
    _tested(
        "Storage that refuses",
        "tests/worker/test_storage.py",
        done=(
            "A file system of its own for the run: full, without inodes, read-only, permission taken, for the "
            "checkpoint, the events and the logs; an fsync that fails; a rank that never confirms. One and two ranks."
        ),
        promise=(
            "Older checkpoints are intact, cause and mount are named, training goes on where it can and saves again "
            "when space returns."
        ),
    ),
    _tested(
        "A rank that hangs",
        "tests/worker/test_watchdog_hang.py",
        done="SIGSTOP of a rank, a data loader that sleeps, a held GIL; and runs that are slow but healthy.",
        promise="Found within the limit, the right rank named, the stacks saved; no alarm in a healthy run.",
    ),
    _tested(
        "Numbers that are none",
        "tests/worker/test_watchdog_numbers.py",
        done="NaN or Inf in loss, gradient or weight of one rank; a diverging rate; a loss that jumps.",
        promise="All ranks stop within the step, the rows are named, and the good checkpoint stays.",
    ),
    _tested(
        "Another number of ranks",
        "tests/parity/test_elastic.py",
        done="A packed mixture is killed and goes on with 2→1→2 and 1→4 ranks.",
        promise="Each sample once per epoch, in the same order; losses within 1e-4 of the undisturbed run.",
    ),
    _tested(
        "Restarts",
        "tests/executors/test_restart.py",
        done="Ranks are killed, die at once each time, have a bug, or run out of memory, under `launcher run` and torchrun.",
        promise="Tried again only where that can help, and stopped after three attempts without progress, a bug after one.",
    ),
    _tested(
        "A paused attempt that wakes up",
        "tests/worker/test_storage.py::test_an_attempt_that_was_paused_cannot_commit_after_another_has_begun",
        "tests/worker/test_watchdog_hang.py::test_a_paused_attempt_that_wakes_up_beside_a_newer_one_is_ended",
        done="An attempt is stopped, a newer one begins, and the old one wakes up.",
        promise="The old one commits nothing and ends.",
    ),
    *slurm.FAULTS,
)
