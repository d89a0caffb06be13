"""Where the processes of a stage are started: on this machine, or on the nodes of a job."""

from __future__ import annotations

import sys
from typing import Protocol

from launcher.errors import LauncherError
from launcher.plan.types import Job, Plan
from launcher.render.command import command
from launcher.runs.attempts import Turn
from launcher.runs.paths import RunDir


class Host(Protocol):
    """Where the processes of a stage are started."""

    preemptible: bool
    """A scheduler may ask for a stop and give the run another turn."""

    @property
    def turn(self) -> Turn | None:
        """The scheduler's job that the stages run in."""

    def takes(self, job: Job, plan: Plan) -> bool:
        """Whether a stage runs here, or in a job of its own."""

    def argv(self, job: Job, run_dir: RunDir) -> list[str]:
        """The command that starts a stage."""

    def env(self, job: Job) -> dict[str, str]:
        """Variables of that command beside the job's own."""

    def ask(self) -> None:
        """Have the ranks save and leave; the stop file is there already."""

    def end(self) -> None:
        """End the ranks at once, wherever they run."""

    def wants_back(self) -> str | None:
        """Why the scheduler asks for its nodes, where it does: `time limit`, `preempted`."""

    def means_now(self, warnings: int) -> bool:
        """Whether a scheduler that has sent so many warnings wants its nodes back now."""

    def is_bad(self) -> bool:
        """Some of its nodes are known to be bad: another attempt here would not help."""

    def fault(self, run_dir: RunDir, attempt: int) -> LauncherError | None:
        """What is wrong with the nodes, where that ended an attempt before its ranks could say anything."""


class Here:
    """This machine."""

    preemptible = False
    turn: Turn | None = None

    def takes(self, job: Job, plan: Plan) -> bool:  # noqa: ARG002 - a protocol
        """All of them do."""
        return True

    def argv(self, job: Job, run_dir: RunDir) -> list[str]:
        """The job's own, with this interpreter."""
        return command(job, run_dir.root.resolve(), sys.executable)

    def env(self, job: Job) -> dict[str, str]:  # noqa: ARG002 - a protocol
        """None."""
        return {}

    def ask(self) -> None:
        """The file is enough: the ranks look for it."""

    def end(self) -> None:
        """They end with the child that started them."""

    def wants_back(self) -> None:
        """Nobody does."""

    def means_now(self, warnings: int) -> bool:
        """Nobody warns."""
        return warnings > 0

    def is_bad(self) -> bool:
        """Nothing else is to be had."""
        return False

    def fault(self, run_dir: RunDir, attempt: int) -> LauncherError | None:  # noqa: ARG002 - a protocol
        """There are no other nodes."""
        return None
