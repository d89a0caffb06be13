"""A row of the table of faults, and how a test becomes one."""

from __future__ import annotations

import functools
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree as ET

from tests.faults.outcome import Outcome, Trials

Size = Literal["ci", "long"]
Number = int | Callable[[], int]
ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True)
class Fault:
    """One row."""

    name: str
    done: str
    """What is done to a run, and with what."""
    promise: str
    """What must hold after each trial."""
    run: Trials
    ci: Number
    long: Number
    unit: str = "trials"
    part: int = 25
    """Trials that one process does in one go."""
    plain: Trials | None = None
    """The same on a plain TRL script, in the long run."""
    plain_long: int = 0

    def trials(self, size: Size) -> int:
        """How many trials of `launcher` a size means."""
        number = self.ci if size == "ci" else self.long
        return number if isinstance(number, int) else number()


def tests_of(*paths: str) -> Trials:
    """Trials that are tests: pytest runs these files or tests, whole each time, and each test is one trial."""
    return functools.partial(_run_tests, paths)


def _run_tests(paths: tuple[str, ...], seed: int, trials: range) -> Outcome:
    outcome = Outcome()
    for _ in trials:
        with tempfile.TemporaryDirectory(prefix="faults-tests-") as folder:
            report = Path(folder) / "report.xml"
            command = [
                sys.executable,
                "-m",
                "pytest",
                "-q",
                "-m",
                "not faults",
                "-p",
                "no:cacheprovider",
                f"--junit-xml={report}",
                *paths,
            ]
            ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            if not report.is_file():
                outcome.fail(f"pytest {' '.join(paths)}: {ended.stdout[-300:]}{ended.stderr[-300:]}")
                continue
            for case in ET.parse(report).iter("testcase"):
                _count(outcome, case)
    return outcome


def _count(outcome: Outcome, case: ET.Element) -> None:
    told = {child.tag for child in case}
    if "skipped" in told:
        outcome.counts["skipped on this machine"] += 1
        return
    outcome.trials += 1
    if told & {"failure", "error"}:
        outcome.fail(f"{case.get('classname')}::{case.get('name')}")
