"""`python -m launcher.executors.slurm.slice RUN -- STEP…`: one turn of a run in a SLURM job, started by its batch script.

It runs the stages as `launcher run` does on one machine, the training by the command behind `--`, and afterwards queues
the job again where that helps. It prints to the job's log.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from launcher.cluster.codec import site_of
from launcher.cluster.schema import Site
from launcher.errors import EnvironmentFault, Exit, LauncherError
from launcher.executors import local, prepared
from launcher.executors.slurm import behind, by_hand, requeue, stop
from launcher.executors.slurm.allocation import Allocation, variables
from launcher.executors.stages import View
from launcher.plan import codec, pins
from launcher.runs import attempts, events, grace, lock, record, stopping
from launcher.runs.files import read_json
from launcher.runs.paths import RunDir

_SECONDS_TO_LEAVE = 180.0


def main(argv: Sequence[str]) -> int:
    """Take one turn. Returns the exit code of the job: 0 when the run, or the stages asked for, are done."""
    listen()
    asked, step = _split(argv)
    parser = argparse.ArgumentParser(prog="python -m launcher.executors.slurm.slice")
    parser.add_argument("run")
    parser.add_argument("--turn", type=int, default=0, help="number of this job among those queued up front")
    parser.add_argument(
        "--stages", help="those to run, `evaluate,export`; default: all that the plan leaves to this job"
    )
    args = parser.parse_args(asked)
    run_dir = RunDir(Path(args.run).resolve())
    try:
        return _turn(run_dir, step, args.turn, args.stages)
    except LauncherError as error:
        say(f"error: {error}")
        if error.hint:
            say(f"hint:  {error.hint}")
        return int(error.exit_code)


def listen() -> None:
    """The batch script starts the launcher deaf to USR1, which would end it; from here on one is heard, and lost until ranks can be asked.

    What is lost so, SLURM makes good: it queues again what it preempts, and ranks know their time limit themselves.
    """
    signal.signal(signal.SIGUSR1, lambda *_: None)


def _split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    words = list(argv)
    at = words.index("--") if "--" in words else len(words)
    return words[:at], words[at + 1 :]


def _turn(run_dir: RunDir, step: Sequence[str], number: int, wanted: str | None) -> int:
    if run_dir.done.exists():
        say(f"{run_dir.name} is done")
        return Exit.DONE
    plan = codec.loads(run_dir.plan.read_text(encoding="utf-8"))
    if record.read(run_dir) is None:  # `launcher render` made it
        record.write(run_dir, record.new(run_dir.name, plan.identity))
    _refuse_missing(run_dir)
    site = _site(run_dir)
    stages = site.profile.stages if site and not wanted else None
    box = prepared.enclosed(run_dir, plan, site) if site else None
    lead_s = site.profile.stop_lead_s if site else 120
    host = Allocation(run_dir, os.environ, step, stages, say, box=box, number=number, lead_s=lead_s)
    say(f"job {host.job_id}, turn {host.turn.number}, on {', '.join(host.nodes)}")
    tried = [each for number in attempts.numbers(run_dir) if (each := attempts.read(run_dir, number))]
    anew = host.restarts == number == 0 and host.was_asked_for_since(run_dir)  # before the job is made ours
    if number and stop.was_cancelled(run_dir, host.job_id):
        say("the turn before this one was cancelled: the run does not go on by itself")
        if not lock.held(run_dir):
            stop.stop(run_dir)
        return Exit.SAVED_AND_STOPPED
    if not wanted:
        by_hand.adopt(run_dir, host.job_id, site)
    for short in grace.shortfalls(events.read(run_dir.events), tried, over=True)[-1:]:
        say(f"warning: {short.sentence()}")
    requeues = site is None or site.profile.requeue
    asked = tuple(wanted.split(",")) if wanted else tuple(job.stage for job in plan.jobs)
    try:
        code = take(
            run_dir, host, Lines(), asked, requeues=requeues, further=host.restarts > 0 or number > 0, anew=anew
        )
    except LauncherError as error:
        behind.close(run_dir, host, error.exit_code, failed=True)
        raise
    if code is None:
        say(f"{run_dir.name} is being run by another process; this job leaves it alone")
        return Exit.SUBMISSION
    behind.close(run_dir, host, code)
    return int(code)


def take(
    run_dir: RunDir,
    host: Allocation,
    view: View,
    stages: Sequence[str],
    *,
    requeues: bool,
    further: bool,
    anew: bool,
) -> Exit | None:
    """Run stages on the nodes of this job, and queue the job again where that helps.

    Args:
        run_dir: the run.
        host: the nodes.
        view: shows what happens.
        stages: those to run.
        requeues: the job may be queued again.
        further: SLURM gives the run a further turn; nobody has asked for this one.
        anew: a person has asked for this turn since the run was asked to stop.

    Returns:
        The exit code; None when another process is running it.

    Raises:
        LauncherError: a stage failed.
    """
    os.environ.update(variables(os.environ, host.until))
    if requeues and (bad := host.left_behind()):
        view.note("not on these nodes: " + "; ".join(f"{name}: {why}" for name, why in bad.items()))
        requeue.again(host, view.note)
    if requeues and "train" in stages:
        requeue.before_the_limit(host, view.note)
    ended = local.turn(run_dir, view, host, stages, again=further, anew=anew)
    if ended is None and further:
        ended = _after_the_last(run_dir, host, view, stages)
    if ended is None:
        return None
    code, again = ended
    if again and requeues and not stopping.by_person(run_dir):  # the wish may have come while it left
        requeue.again(host, view.note)
    return code


def _after_the_last(run_dir: RunDir, host: Allocation, view: View, stages: Sequence[str]) -> tuple[Exit, bool] | None:
    """The turn before this one still holds the run, on a node that SLURM has given up: it is asked to save and leave."""
    until = time.monotonic() + _SECONDS_TO_LEAVE
    while host.is_behind() and time.monotonic() < until:
        if not run_dir.stop_request.exists():
            view.note("the turn before this one is still there: it is asked to leave")
            run_dir.stop_request.touch()
        time.sleep(1)
        if ended := local.turn(run_dir, view, host, stages, again=True):
            return ended
    return None


def _refuse_missing(run_dir: RunDir) -> None:
    """Files of the hub that were fetched and are not there any more: the cache may have been purged."""
    if lacking := pins.missing_of_run(run_dir):
        raise EnvironmentFault(
            "\n".join(["files of the hub are missing or cut off:", *(f"       {each}" for each in lacking[:10])]),
            hint="`launcher fetch RECIPE` on the login node brings them again",
        )


def _site(run_dir: RunDir) -> Site | None:
    noted = read_json(run_dir.site)
    return site_of(noted) if noted else None


class Lines:
    """What happens, as lines of the job's log."""

    def note(self, text: str) -> None:
        """A line about the launcher's own doings."""
        say(text)

    def event(self, event: Any) -> None:
        """What the run's events say stands in events.jsonl; the log names stages only."""
        if event.get("event") == "stage":
            say(f"{event.get('stage')} {event.get('state')}")

    def output(self, line: str) -> None:
        """A line of a stage's output."""
        print(f"  {line}", flush=True)  # noqa: T201 - the log of the job

    def tick(self) -> None:
        """Nothing to draw."""


def say(line: str) -> None:
    """One line with the time, as sbatch's own lines have it."""
    print(f"[{time.strftime('%Y-%m-%dT%H:%M:%S')}] {line}", flush=True)  # noqa: T201 - the log of the job


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
