"""The local executor: a run on this machine in the foreground, attempt after attempt, until it is done or nothing helps.

It holds the run's lock from first to last. What an attempt is stands in `stages`, what follows it in `runs.policy`.
It prints nothing: a `View` shows what happens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from launcher.errors import Exit
from launcher.executors.host import Host
from launcher.executors.interrupts import Interrupts
from launcher.executors.running import Running
from launcher.executors.stages import View
from launcher.runs import attempts, lock, names, policy, stopping
from launcher.runs.paths import RunDir


class Superseded(Exception):
    """Between choosing a run and holding its lock, another launcher has given it another identity: choose again."""


def run(run_dir: RunDir, view: View, *, identity: Mapping[str, Any] | None = None) -> Exit | None:
    """Run or continue this directory until it is done, stopped, or failed in a way that another attempt does not help.

    Args:
        run_dir: the run.
        view: shows what happens.
        identity: what the run must be when its lock is held; None: whatever it is.

    Returns:
        `DONE` or `SAVED_AND_STOPPED`; None when another process is running it.

    Raises:
        LauncherError: a stage failed; the message names the first failure.
        OSError: the run directory cannot be written.
        Superseded: the run has another identity by now.
    """
    return _held(run_dir, view, identity, ("prepare", "train", "evaluate", "export"))


def prepare(run_dir: RunDir, view: View, *, identity: Mapping[str, Any] | None = None) -> Exit | None:
    """Make this directory's data ready and leave the rest to `run`. An attempt is begun only when there is something to do.

    Arguments, returns and errors are those of `run`.
    """
    return _held(run_dir, view, identity, ("prepare",))


def turn(
    run_dir: RunDir, view: View, host: Host, wanted: Sequence[str], *, again: bool, anew: bool = False
) -> tuple[Exit, bool] | None:
    """One turn that a scheduler gives the run: attempt after attempt, as long as its nodes are of use.

    Args:
        run_dir: the run.
        view: shows what happens.
        host: the nodes of this turn.
        wanted: the stages to run in it.
        again: the scheduler gives a further turn, nobody has asked for this one; the attempts before it count.
        anew: a person has asked for this turn since the run was asked to stop.

    Returns:
        The exit code, and whether the run is to have another turn; None when another process is running it.

    Raises:
        As `run`.
    """
    with lock.hold(run_dir) as taken:
        if not taken:
            return None
        if not anew and stopping.by_person(run_dir):  # asked while it waited for this turn
            view.note(f"not started: somebody asked it to stop; `launcher run {names.typed(run_dir)}` goes on")
            return Exit.SAVED_AND_STOPPED, False
        with Interrupts(run_dir, host.means_now) as interrupts:
            tried = policy.history(run_dir, max(attempts.numbers(run_dir), default=0)) if again else ()
            held = Running(run_dir, view, interrupts, wanted, host=host, tried=tried)
            run_dir.stop_request.unlink(missing_ok=True)
            code = held.until_it_ends() if held.has_work() else Exit.DONE
            return code, held.wants_a_turn


def _held(run_dir: RunDir, view: View, identity: Mapping[str, Any] | None, wanted: Sequence[str]) -> Exit | None:
    with lock.hold(run_dir) as taken:
        if not taken:
            return None
        with Interrupts(run_dir) as interrupts:
            held = Running(run_dir, view, interrupts, wanted)
            if identity is not None and held.record.identity != identity:
                raise Superseded
            run_dir.stop_request.unlink(missing_ok=True)
            return held.until_it_ends() if held.has_work() else Exit.DONE
