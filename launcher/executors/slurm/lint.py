"""Mistakes that people make in batch scripts, found by reading one: `launcher doctor --script FILE`.

Each was met in somebody's script, where it cost a night: a hang at the start, a job that could not save, a log that was
overwritten. What a script does with variables that it sets elsewhere is not followed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from launcher.errors import EnvironmentFault, Place
from launcher.executors.findings import Finding
from launcher.executors.slurm import lint_env, lint_job
from launcher.executors.slurm.lint_job import Found
from launcher.executors.slurm.script import Script

_MOST_BYTES = 1024 * 1024

RULES: dict[str, Callable[[Script], Iterator[Found]]] = {**lint_job.RULES, **lint_env.RULES}
"""Name → what it finds."""


def findings(script: Script, source: str, *, internet: bool = True) -> list[Finding]:
    """The mistakes in a script, by line.

    Args:
        script: what to read.
        source: how its file is called.
        internet: the site's nodes reach the hub.
    """
    rules = dict(RULES) if internet else {**RULES, "offline": lint_env.offline}
    found = [
        Finding(each.level, name, each.message, each.hint, Place(_beside(source, each.source), each.number))
        for name, rule in rules.items()
        for each in rule(script)
    ]
    return sorted(found, key=lambda each: each.order)


def read(path: Path) -> Script:
    """A script with those beside it.

    Raises:
        EnvironmentFault: it cannot be read.
    """
    beside = sorted(path.absolute().parent.glob("*.sh"))[:100]
    return Script(_text(path), {each.name: _text(each) for each in beside if each.is_file()})


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MOST_BYTES).decode(errors="replace")
    except OSError as error:
        raise EnvironmentFault(f"{path} cannot be read: {error.strerror}", hint="name a batch script") from None


def _beside(source: str, name: str) -> str:
    return str(Path(source).with_name(name)) if name else source
