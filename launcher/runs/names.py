"""Names of runs and the directories they stand for. A name never leads out of the runs folder."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from launcher.errors import UsageError
from launcher.runs import record
from launcher.runs.paths import RunDir
from launcher.text import did_you_mean, quote

# A recipe's name has at most 64 characters; the rest is room for `-2`, `-3`, …
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,79}", re.ASCII)


def named(runs: Path, name: str) -> RunDir:
    """The directory of run `name` under `runs`, whether or not it exists.

    Raises:
        UsageError: the name is not a slug, or a link leads out of `runs`.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{quote(name)} is not a run name",
            hint="lower-case letters, digits, `.`, `_` and `-`, at most 80 characters",
        )
    root = runs / name
    if root.resolve().parent != runs.resolve():
        raise UsageError(f"{root} is a link out of {runs}", hint=f"name the directory itself: {root.resolve()}")
    return RunDir(root)


def find(runs: Path, text: str) -> RunDir:
    """The run that a person means: a name under `runs`, or a run directory anywhere.

    Raises:
        UsageError: there is no such run.
    """
    if _NAME.fullmatch(text) and record.read(run_dir := named(runs, text)):
        return run_dir
    if (path := _directory(text)) and record.read(RunDir(path)):
        return RunDir(path)
    raise _unknown(runs, text, is_directory=path is not None)


def existing(runs: Path) -> tuple[RunDir, ...]:
    """All runs under `runs`, by name."""
    if not runs.is_dir():
        return ()
    names = sorted(path.name for path in runs.iterdir() if _NAME.fullmatch(path.name) and path.is_dir())
    inside = (RunDir(runs / name) for name in names if (runs / name).resolve().parent == runs.resolve())
    return tuple(run_dir for run_dir in inside if run_dir.record.is_file())


def series(runs: Path, name: str) -> Iterator[RunDir]:
    """NAME, NAME-2, NAME-3, …: where a recipe of this name may run."""
    yield named(runs, name)
    number = 2
    while True:
        yield named(runs, f"{name}-{number}")
        number += 1


def default_root() -> Path:
    """The folder of the run directories when `--runs` is not given: `LAUNCHER_RUNS`, else `./runs`."""
    return Path(os.environ.get("LAUNCHER_RUNS") or "runs").expanduser()


def typed(run_dir: RunDir) -> str:
    """What to type to mean this run: its name where that is found without `--runs`, else its directory."""
    home = default_root().resolve()
    return run_dir.name if run_dir.root.resolve().parent == home else shlex.quote(short(run_dir.root))


def short(path: Path) -> str:
    """`path` as seen from the current directory, when it lies below it; else absolute."""
    whole = path.absolute()
    here = Path.cwd()
    return str(whole.relative_to(here)) if whole.is_relative_to(here) else str(whole)


def _directory(text: str) -> Path | None:
    """`text` as an existing directory, absolute and free of links; None when it is none."""
    try:
        path = Path(text).expanduser().resolve()
        return path if text and path.is_dir() else None
    except (OSError, ValueError, RuntimeError):  # a NUL byte, a name too long, an unknown ~user
        return None


def _unknown(runs: Path, text: str, *, is_directory: bool) -> UsageError:
    if is_directory:
        return UsageError(f"{quote(text)} is a directory without a readable run.json: not a run")
    names = [run_dir.name for run_dir in existing(runs)]
    if not names:
        return UsageError(
            f"no run {quote(text)}: {runs} holds no runs",
            hint="`launcher run RECIPE` starts one; `--runs DIR` looks elsewhere",
        )
    near = did_you_mean(text, names)
    hint = f"did you mean `{near}`?" if near else f"runs in {runs}: {', '.join(names[:8])}"
    return UsageError(f"no run {quote(text)} in {runs}", hint=hint)
