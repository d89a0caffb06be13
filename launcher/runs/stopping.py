"""What asks the processes of a run to save and leave: signals, and a time by which the job must be over."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from launcher.runs.paths import RunDir

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
"""Each of them means: save at the next step and leave. torchrun hands them on, ranks take them, schedulers send them."""

DEADLINE = "LAUNCHER_DEADLINE"
"""Environment variable: the Unix time in seconds at which the job will be over, set by who started it."""


_PERSON = "person"


def request(run_dir: RunDir) -> None:
    """Leave a person's wish in the stop file: save, leave, and do not start again by yourself.

    Raises:
        OSError: the run directory cannot be written.
    """
    run_dir.stop_request.write_text(_PERSON, encoding="ascii")


def by_person(run_dir: RunDir) -> bool:
    """The stop file is there, and a person's; a launcher that was asked by a scheduler leaves an empty one for its ranks."""
    try:
        return run_dir.stop_request.read_text(encoding="ascii") == _PERSON
    except OSError:
        return False


def deadline(environ: Mapping[str, str]) -> float | None:
    """When the job will be over, as Unix time in seconds; None where nobody has said so.

    Raises:
        EnvironmentFault: what was said is no number.
    """
    text = environ.get(DEADLINE, "").strip()
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        from launcher.errors import EnvironmentFault  # not above: ranks load this before they can hear a signal
        from launcher.text import quote

        raise EnvironmentFault(
            f"{DEADLINE} is {quote(text)}, which is no time", hint="set it to Unix time in seconds, or unset it"
        ) from None


def with_limit(environ: Mapping[str, str], started: float, limit_s: int | None) -> dict[str, str]:
    """What to add to the environment of a job that may take `limit_s` seconds from `started` (Unix time).

    An earlier deadline that is known already, such as that of an allocation around us, stays.

    Raises:
        EnvironmentFault: that deadline is no number.
    """
    known = deadline(environ)
    if limit_s is None:
        return {}
    mine = round(started + limit_s, 3)
    return {DEADLINE: str(mine if known is None else min(mine, known))}
