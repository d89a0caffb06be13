"""A rank whose partner has failed leaves by itself; with NCCL it would wait in a collective until torchrun's limit."""

import json
import subprocess
import sys
from pathlib import Path

from launcher.runs import attempts
from launcher.runs.paths import RunDir
from launcher.worker.faults import Ending, ExitNote

WAITING = """
import sys, time
from pathlib import Path
from launcher.runs.paths import RunDir
from launcher.worker import peers
from launcher.worker.faults import ExitNote

peers._SECONDS_BETWEEN_LOOKS = peers._SECONDS_TO_FAIL_BY_ITSELF = 0.1
run = RunDir(Path(sys.argv[1]))
peers.watch(run, 1, 0, ExitNote(run.rank_exit(1, 0), run.rank_log(1, 0), run.root))
print("waiting", flush=True)
time.sleep(float(sys.argv[2]))
"""


def note(run: RunDir, rank: int) -> ExitNote:
    return ExitNote(run.rank_exit(1, rank), run.rank_log(1, rank), run.root)


def test_a_rank_leaves_after_another_has_failed_and_names_it(tmp_path: Path):
    """Its own note comes later, so the first failure stays the one that is shown."""
    run = RunDir(tmp_path)
    waiting = subprocess.Popen([sys.executable, "-c", WAITING, tmp_path, "120"], stdout=subprocess.PIPE, text=True)
    assert waiting.stdout is not None
    assert waiting.stdout.readline() == "waiting\n"
    note(run, 1).write(93, Ending("code", "ValueError: bad"))

    assert waiting.wait(timeout=60) == 93
    assert json.loads(run.rank_exit(1, 0).read_text())["error"] == "rank 1 failed first"
    first = attempts.first_failure(attempts.exits(run, 1))
    assert first is not None
    assert first.who == "1"


def test_a_rank_that_ended_well_sends_nobody_away(tmp_path: Path):
    """Ranks need not end in the same second."""
    note(RunDir(tmp_path), 1).write(0, Ending("finished"))
    done = subprocess.run([sys.executable, "-c", WAITING, tmp_path, "1"], capture_output=True, check=False)

    assert done.returncode == 0
