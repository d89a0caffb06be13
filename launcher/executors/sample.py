"""Rows of a prepared run as text, read by a worker: the launcher itself knows no tokenizer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from launcher.errors import DataError, EnvironmentFault, Exit, LauncherError, RunFailed, UsageError
from launcher.runs.files import read_json
from launcher.runs.paths import RunDir
from launcher.text import nearest_of, quote

_KINDS: Mapping[int, type[LauncherError]] = {Exit.USAGE: DataError, Exit.ENVIRONMENT: EnvironmentFault}


def rows(run_dir: RunDir, *, number: int, source: str | None) -> dict[str, Any]:
    """What `launcher.worker.data.look` finds.

    Args:
        run_dir: a run whose data is prepared.
        number: rows of each source.
        source: label of the only source to show.

    Raises:
        UsageError: there is no such source, or the number makes no sense.
        LauncherError: the rows cannot be read.
    """
    if number < 0:
        raise UsageError(f"`--rows {number}`: wanted 0 or more")
    _check_label(run_dir, source)
    arguments = [str(run_dir.root.resolve()), "inspect", str(number), *([source] if source else [])]
    done = subprocess.run(
        [sys.executable, "-m", "launcher.worker.stage", *arguments],
        env={**os.environ, "PYTHONSAFEPATH": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        raise _fault(done.returncode, done.stderr)
    return dict(json.loads(done.stdout))


def _check_label(run_dir: RunDir, label: str | None) -> None:
    facts = read_json(run_dir.data_facts) or {}
    sets = [name.removeprefix("eval-") for name in facts.get("sets") or {} if name != "train"]
    known = list(dict.fromkeys([*((facts.get("mixture") or {}).get("sources") or {}), *sets]))
    if label is not None and label not in known:
        raise UsageError(
            f"no source {quote(label)}", hint=nearest_of(label, known, f"sources of {run_dir.name}: {', '.join(known)}")
        )


def _fault(code: int, said: str) -> LauncherError:
    lines = said.splitlines()
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    hints = [line.removeprefix("hint:  ") for line in lines if line.startswith("hint:  ")]
    message = errors[-1] if errors else f"reading the rows ended with exit code {code}"
    return _KINDS.get(code, RunFailed)(message, hint=hints[-1] if hints else None)
