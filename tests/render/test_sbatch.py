"""The scripts of a run: as they are, as shellcheck reads them, and by the rules of `launcher doctor --script`."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.executors.slurm import lint
from launcher.executors.slurm.script import Script
from launcher.render import sbatch
from tests.render.slurm_cases import CASES, made, texts
from tests.support import golden
from tests.support.until import until

BY_HAND = Path(__file__).parents[2] / "slurm" / "train.sbatch"


@pytest.fixture
def home(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setenv("LAUNCHER_CLUSTERS", str(tmp_path / "clusters"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("name", CASES)
def test_scripts_are_as_they_were_reviewed(name: str, home: Path):
    """A person reads, edits and submits them."""
    for file, text in texts(CASES[name], home).items():
        golden.check(f"slurm/{name}/{file}", text)


@pytest.mark.parametrize("file", ["train.sbatch", "node.sh"])
@pytest.mark.parametrize("name", CASES)
def test_bash_reads_them(name: str, file: str):
    """All of a script, before any of it runs."""
    path = golden.ROOT / "slurm" / name / file
    assert subprocess.run(["bash", "-n", path], capture_output=True, text=True, check=False).stderr == ""


def test_shellcheck_finds_nothing():
    """Words that fall apart, variables that are never set, traps that expand too early."""
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed; `python -m tests.slurm.install` does it as root on Debian and Ubuntu")
    files = sorted(path for path in (golden.ROOT / "slurm").rglob("*") if path.is_file())
    done = subprocess.run(
        ["shellcheck", "--shell=bash", "--enable=quote-safe-variables", *files, BY_HAND],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
    assert len(files) >= 16


@pytest.mark.parametrize("name", CASES)
def test_no_known_mistake_is_in_them(name: str):
    """The rules are shown to find each mistake in tests/executors/test_lint.py."""
    folder = golden.ROOT / "slurm" / name
    script = lint.read(folder / "train.sbatch")
    assert isinstance(script, Script)
    internet = name == "one-gpu"
    assert [str(each) for each in lint.findings(script, "train.sbatch", internet=internet)] == []


def test_the_script_for_people_without_a_profile():
    """The same care, and options that need no profile."""
    script = lint.read(BY_HAND)
    found = [each.key for each in lint.findings(script, "train.sbatch", internet=False)]
    assert found == ["memory"], "how much the nodes have is all that cannot be known here; a line for it is prepared"
    done = subprocess.run(["bash", BY_HAND], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "write: sbatch slurm/train.sbatch RECIPE" in done.stderr


STUB = f"""\
#!{sys.executable}
import os, pathlib, signal, sys, time

if sys.argv[1] == "-c":
    sys.exit()
seen = pathlib.Path(os.environ["SEEN"])
(seen / "argv").write_text("".join(each + chr(10) for each in sys.argv[1:]))

def hear(number, _):
    with (seen / "signals").open("a") as file:
        print(signal.Signals(number).name[3:], file=file)
    if number == signal.SIGTERM:
        sys.exit(85)

signal.signal(signal.SIGUSR1, hear)  # a shell could not: it was started deaf
signal.signal(signal.SIGTERM, hear)
(seen / "pid").write_text(str(os.getpid()))
while True:
    time.sleep(0.05)
"""


@pytest.mark.parametrize("which", ["rendered", "by hand"])
def test_signals_reach_the_launcher_and_its_code_comes_back(which: str, home: Path, monkeypatch):
    """The shell hears each of them while the launcher works, and outlives it."""
    stub, seen = home / "python", home / "seen"
    seen.mkdir()
    stub.write_text(STUB)
    stub.chmod(0o755)
    plan, site, run = made(CASES["one-gpu"], home)
    rendered = home / "train.sbatch"
    rendered.write_text(
        next(text for path, text in sbatch.scripts(plan, site, run, str(stub)).items() if path.name == "train.sbatch")
    )
    argv = ["bash", rendered] if which == "rendered" else ["bash", BY_HAND, "a recipe.yaml", "--set", "a=$(x)"]
    env = {**os.environ, "LAUNCHER_PYTHON": str(stub), "SEEN": str(seen), "SLURM_CPUS_PER_TASK": "1"}
    shell = subprocess.Popen(argv, env=env, start_new_session=True)
    try:
        until(lambda: (seen / "pid").exists() and (seen / "pid").read_text())
        for number in (1, 2):
            shell.send_signal(signal.SIGUSR1)
            until(
                lambda number=number: (
                    (seen / "signals").exists() and (seen / "signals").read_text() == "USR1\n" * number
                )
            )
        shell.send_signal(signal.SIGTERM)
        assert shell.wait(timeout=30) == 85
    finally:  # a test that fails must not wait for what does not hear
        with contextlib.suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGKILL)
        shell.wait()
    assert (seen / "signals").read_text() == "USR1\nUSR1\nTERM\n"
    words = (seen / "argv").read_text().splitlines()
    if which == "by hand":
        assert words == ["-m", "launcher", "run", "a recipe.yaml", "--set", "a=$(x)"]
    else:
        assert words[words.index("--") + 1] == "srun"
