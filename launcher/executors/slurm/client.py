"""SLURM's own commands, as argument lists, each with a time limit: without its controller they would block for a minute."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from launcher.errors import EnvironmentFault, SubmissionError

_TIMEOUT_S = 20.0
_AWAY = re.compile(
    r"unable to contact slurm controller|connection refused|connection timed out|socket timed out"
    r"|communications? connection failure|zero bytes were transmitted|slurm backup controller in standby",
    re.IGNORECASE,
)
_PATIENCE_S = 60.0
_DEFAULTS = re.compile(r"(SBATCH|SQUEUE|SACCT|SCANCEL|SINFO|SCONTROL)_\w+|SLURM_TIME_FORMAT")
"""A person's own defaults for these commands. Those of sbatch would come before the lines of a script: another queue, or,
with SBATCH_EXPORT, the shell's secrets in the job; those of squeue hide jobs."""


class Unreachable(SubmissionError):
    """slurmctld does not answer; what was asked may have happened or not."""


@dataclass(frozen=True)
class Answer:
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """Its complaint in one line, without the command's name before each sentence."""
        lines = [re.sub(r"^[\w/.-]+: (error: )?", "", line).strip() for line in (self.err or self.out).splitlines()]
        return "; ".join(line for line in lines if line) or f"exit code {self.code}"


def call(*argv: str, text: str | None = None, timeout_s: float = _TIMEOUT_S) -> Answer:
    """Run one of SLURM's commands.

    Args:
        argv: the command.
        text: its standard input.
        timeout_s: seconds to wait for an answer.

    Raises:
        EnvironmentFault: this machine has no such command.
        Unreachable: the controller does not answer.
    """
    program = shutil.which(argv[0])
    if program is None:
        raise EnvironmentFault(
            f"`{argv[0]}` is not on this machine", hint="type this on a login node of the cluster, where SLURM is"
        )
    try:
        done = subprocess.run(
            [program, *argv[1:]], input=text, capture_output=True, text=True, errors="replace", timeout=timeout_s,
            stdin=subprocess.DEVNULL if text is None else None, check=False, env=_plain(os.environ),
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise Unreachable(f"`{argv[0]}` gave no answer in {timeout_s:.0f} s", hint=LATER) from None
    answer = Answer(done.returncode, done.stdout, done.stderr)
    if answer.code and is_away(answer.err):
        raise Unreachable(f"slurmctld does not answer: {answer.error}", hint=LATER)
    return answer


def _plain(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if not _DEFAULTS.fullmatch(name)}


@contextmanager
def without_defaults() -> Iterator[None]:
    """For a library that calls the commands itself: no defaults of a person's own stand in the environment meanwhile."""
    own = {name: os.environ.pop(name) for name in list(os.environ) if _DEFAULTS.fullmatch(name)}
    try:
        yield
    finally:
        os.environ.update(own)


def is_away(said: str) -> bool:
    """Whether a command complains of a controller that does not answer."""
    return _AWAY.search(said) is not None


LATER = "try again in some minutes; `sinfo` answers when it is back"


def patiently(ask: Callable[[], Answer], *, seconds: float = _PATIENCE_S, wait_s: float = 2.0) -> Answer:
    """Ask again while the controller is away; for what may be said twice.

    Raises:
        Unreachable: it stayed away for so many seconds.
    """
    until = time.monotonic() + seconds
    while True:
        try:
            return ask()
        except Unreachable:
            if time.monotonic() > until:
                raise
            time.sleep(wait_s)


def fields(line: str) -> dict[str, str]:
    """`Key=value Key=value` of `scontrol -o show`; a value may hold blanks where no `Key=` follows."""
    found = re.finditer(r"(?:^|\s)([A-Z][A-Za-z:/_-]*)=(.*?)(?=\s[A-Z][A-Za-z:/_-]*=|\s*$)", line)
    return {each[1]: each[2] for each in found}


def job(job_id: str) -> dict[str, str] | None:
    """`scontrol show job`; None when the controller has forgotten it.

    Raises:
        Unreachable: the controller does not answer.
    """
    answer = call("scontrol", "-o", "show", "job", job_id)
    lines = answer.out.strip().splitlines()
    return fields(lines[0]) if answer.code == 0 and lines else None


def hostnames(nodelist: str) -> tuple[str, ...]:
    """`node[1-2,7]` as names, in SLURM's order."""
    return tuple(call("scontrol", "show", "hostnames", nodelist).out.split())


def seconds(left: str) -> int | None:
    """Time left as `squeue` prints it, `D-HH:MM:SS`, `HH:MM:SS` or `MM:SS`, in seconds; None for no limit and for no time."""
    days, _, clock = left.rpartition("-")
    parts = clock.split(":")
    if not all(part.isdigit() for part in parts) or not (days.isdigit() or not days):
        return None
    total = 0
    for part in parts:
        total = total * 60 + int(part)
    return total + int(days or 0) * 86400


def cancel(job_ids: Sequence[str], *, waiting: bool = False) -> None:
    """`scancel`; jobs that have ended are passed over, and with `waiting` those that run.

    Raises:
        SubmissionError: it refuses.
    """
    if not job_ids:
        return
    answer = patiently(lambda: call("scancel", *(["--state=PENDING"] if waiting else []), *job_ids), seconds=20)
    if answer.code and "Invalid job id" not in answer.err:
        raise SubmissionError(f"scancel refuses: {answer.error}")
