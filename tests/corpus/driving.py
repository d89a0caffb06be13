"""Give a case to the launcher as a person would, up to where training would begin."""

from __future__ import annotations

import contextlib
import io
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from launcher.cli.main import main
from launcher.plan import codec
from launcher.runs.paths import RunDir
from tests.corpus import stage
from tests.corpus.case import Case
from tests.support import trained, warm

ENVIRONMENT = {"HF_HUB_CACHE": "/nowhere", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "COLUMNS": "200"}


@dataclass(frozen=True)
class Said:
    """What a person gets: the exit code, the text on standard error, and the run directory where there is one."""

    code: int
    text: str
    run: RunDir
    facts: dict[str, Any] = field(default_factory=dict)
    """`data.json`."""

    @property
    def warnings(self) -> str:
        """Those of the plan and of the data."""
        plan = codec.loads(self.run.plan.read_text(encoding="utf-8"))
        return "\n".join([*plan.warnings, *self.facts["warnings"]])

    def rows_of(self, path: Path) -> list[dict[str, Any]]:
        """The entries of `bad_rows.jsonl` or `removed_rows.jsonl`."""
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def drive(case: Case, folder: Path) -> Said:
    """Write the case into an empty folder and start it; a second time after `then`."""
    case.make(folder)
    with _inside(folder):
        said = _start(folder)
        if case.then is not None:
            assert said.code == 0, said.text
            trained.train(said.run)
            case.then(folder)
            said = _start(folder)
    return said


def _start(folder: Path) -> Said:
    """`launcher prepare recipe.yaml`: all that `launcher run` does before it trains."""
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        code = main(["prepare", "recipe.yaml", "--runs", "runs"])
    text = errors.getvalue().replace(str(folder), "DIR")
    run = RunDir(folder / "runs" / "recipe")
    facts = json.loads(run.data_facts.read_text()) if code == 0 else {}
    return Said(code, text[max(0, text.find("error: ")) :], run, facts)


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    warm.server()
    with tempfile.TemporaryDirectory() as programs, contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", str(stage.python(Path(programs))))
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        for name in ("LAUNCHER_CACHE", "LAUNCHER_DATA", "LAUNCHER_MODELS", "LAUNCHER_RUNS"):
            patch.delenv(name, raising=False)
        yield
