"""Signals to the processes of a real run, started by the `launcher` command: it saves, leaves with 85, and nobody stays behind."""

import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from launcher.executors import processes
from launcher.runs import attempts, checkpoints, events, record
from launcher.runs.paths import RunDir
from launcher.runs.stopping import SIGNALS
from tests.support.project import begun, made
from tests.support.until import until

pytestmark = [pytest.mark.train, pytest.mark.slow]

RECIPE = """
schema: 1
model: {model_name_or_path: model}
data:
  datasets: [{label: sums, path: sums.jsonl, columns: {prompt: question, completion: answer}}]
  max_length: 64
training: {global_batch_size: 4, gradient_accumulation_steps: 1, num_train_epochs: 4000, learning_rate: 1.0e-3}
checkpoint: {save_steps: 100000}
launch: {processes: 2}
"""


@dataclass
class Seen:
    """What became of one attempt."""

    code: int
    causes: list[str]
    """How its ranks say they ended."""
    step: int | None
    """Its last step; None when it made none."""
    saved: int | None
    """Step of the newest complete checkpoint."""
    orphans: tuple[int, ...]
    """Processes of the run 10 seconds after its end."""
    stops: list[int | None] = field(default_factory=list)


class Project:
    """A run that several attempts continue, each of them asked to stop in another way."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.run_dir = folder, RunDir(folder / "runs" / "sums")
        made(folder, RECIPE, rows=60)

    def begin(self) -> subprocess.Popen[str]:
        return begun("run", "sums.yaml", cwd=self.folder)

    def alive(self) -> dict[int, list[str]]:
        """Processes of the run, with the words of their command."""
        found = record.read(self.run_dir)
        pids = processes.survivors(self.run_dir, found.id) if found else ()
        return {pid: words for pid in pids if (words := _words(pid))}

    def agent(self) -> list[int]:
        return [pid for pid, words in self.alive().items() if words[1:3] == ["-m", "launcher.worker.torchrun"]]

    def ranks(self) -> list[int]:
        found = {pid: words for pid, words in self.alive().items() if "launcher.worker.torchrun" not in words}
        return sorted(pid for pid, words in found.items() if words[-2:-1] == ["launcher.worker"])

    def since(self, attempt: int) -> list[dict[str, object]]:
        """Events of one attempt."""
        found = events.read(self.run_dir.events)
        starts = [place for place, each in enumerate(found) if each["event"] == "attempt"]
        return found[starts[attempt - 1] :] if len(starts) >= attempt else []

    def training(self, process: subprocess.Popen[str], attempt: int) -> None:
        """Wait until an attempt has made some steps."""
        until(lambda: process.poll() is not None or len(_steps(self.since(attempt))) > 2, seconds=120)
        assert process.poll() is None, process.communicate()

    def ended(self, process: subprocess.Popen[str], attempt: int) -> Seen:
        said = "".join(process.communicate(timeout=120))
        assert "Traceback" not in said, said
        until_gone = time.monotonic() + 10
        while (left := self.alive()) and time.monotonic() < until_gone:
            time.sleep(0.1)
        newest = checkpoints.newest(self.run_dir).checkpoint
        found = self.since(attempt)
        return Seen(
            code=process.returncode,
            causes=[note.cause for note in attempts.exits(self.run_dir, attempt) if note.who != "prepare"],
            step=max(_steps(found), default=None),
            saved=newest.step if newest else None,
            orphans=tuple(left),
            stops=[each["step"] for each in found if each["event"] == "stop"],
        )


def _steps(found):
    return [each["step"] for each in found if each["event"] == "step"]


def _words(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0")
    except OSError:
        return []


@pytest.fixture(scope="module", autouse=True)
def _threads_that_yield():
    """Tests share their cores; OpenMP threads that spin while they wait would slow each other down tenfold."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_WAIT_POLICY", "PASSIVE")
        yield


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return Project(tmp_path_factory.mktemp("signals"))


def test_an_agent_that_is_asked_while_it_starts_leaves_nothing_behind(project):
    """torchrun needs seconds to hear; until then a signal ends it. Somebody asked for it, so it is no failure."""
    process = project.begin()
    (agent,) = until(project.agent, seconds=120)
    os.kill(agent, signal.SIGUSR1)
    seen = project.ended(process, 1)

    assert (seen.code, seen.step, seen.saved, seen.orphans) == (85, None, None, ())


def test_signals_to_the_agent_save_and_leave_however_many_they_are(project):
    """By default torchrun would die of SIGUSR1 at once and leave its ranks behind."""
    process = project.begin()
    project.training(process, 2)
    for number in (signal.SIGUSR1, *SIGNALS):
        for agent in project.agent():
            os.kill(agent, number)
        time.sleep(0.05)
    seen = project.ended(process, 2)

    assert (seen.code, seen.causes, seen.orphans) == (85, ["stopped", "stopped"], ())
    assert seen.saved == seen.step
    assert seen.stops == [seen.step]


def test_a_rank_that_is_asked_again_and_again_until_it_has_gone_leaves_with_the_other(project):
    """Python takes its handlers away as it leaves: what comes then would end a rank that has saved."""
    process = project.begin()
    project.training(process, 3)
    first, second = project.ranks()
    os.kill(first, signal.SIGTERM)
    while second in project.ranks():
        os.kill(second, signal.SIGTERM)
        time.sleep(0.02)
    seen = project.ended(process, 3)

    assert (seen.code, seen.causes, seen.orphans) == (85, ["stopped", "stopped"], ())
    assert seen.saved == seen.step
    assert seen.stops == [seen.step]


def test_a_signal_to_the_launcher_that_schedulers_send_saves_and_leaves(project):
    """By default the launcher would die of it."""
    process = project.begin()
    project.training(process, 4)
    process.send_signal(signal.SIGUSR2)
    seen = project.ended(process, 4)

    assert (seen.code, seen.causes, seen.orphans) == (85, ["stopped", "stopped"], ())
    assert seen.saved == seen.step
    assert seen.stops == [seen.step]
