"""The harness itself: it sees damage, it kills where it says, and a product that loses work fails it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from tests.faults import bed, mutate, mutations, plain, report, storm, strike
from tests.faults.outcome import Outcome


@pytest.mark.parametrize("kind", [kind for kind in mutate.KINDS if kind != "swap steps"])
def test_a_mutation_changes_just_the_files_it_names(tmp_path: Path, kind: str):
    """Otherwise a product would be blamed for naming the wrong one, or praised for finding nothing."""
    for number, folder in enumerate(("checkpoint-2", "checkpoint-1")):
        (tmp_path / folder).mkdir()
        for name, size in (("a.bin", 10_000), ("b.bin", 5_000), ("c.json", 40)):
            (tmp_path / folder / name).write_bytes(Random(f"{name}{number}").randbytes(size))
    before = {path.name: path.read_bytes() for path in (tmp_path / "checkpoint-2").iterdir()}
    done = mutate.mutate(Random(3), kind, tmp_path / "checkpoint-2", tmp_path / "checkpoint-1")
    after = {path.name: path.read_bytes() for path in (tmp_path / "checkpoint-2").iterdir()}

    assert done is not None
    assert {name for name in before if after.get(name) != before[name]} == set(done.files)


def test_a_mutation_that_changes_nothing_says_so(tmp_path: Path):
    """It would count as found by whoever refuses everything."""
    for folder in ("checkpoint-2", "checkpoint-1"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "config.json").write_bytes(bytes(100))
    newest, older = tmp_path / "checkpoint-2", tmp_path / "checkpoint-1"

    assert mutate.mutate(Random(0), "zero a page", newest, older) is None
    assert mutate.mutate(Random(0), "older file", newest, older) is None


def test_a_reason_must_name_the_damaged_file_and_no_other(tmp_path: Path):
    """`config.json` is part of the name `tokenizer_config.json`; naming one is not naming the other."""
    for name in ("config.json", "tokenizer_config.json", "MANIFEST.json"):
        (tmp_path / name).touch()
    done = mutate.Mutation("delete", ("config.json",))

    assert mutations.wrong_names(done, "config.json is missing", tmp_path) is None
    assert mutations.wrong_names(done, "tokenizer_config.json is missing", tmp_path)
    assert mutations.wrong_names(done, "config.json is missing; tokenizer_config.json is missing", tmp_path)
    assert mutations.wrong_names(done, "it is damaged", tmp_path)


def test_a_process_left_by_a_trial_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """By the mark in its environment; after its end it is gone."""
    monkeypatch.setattr(strike, "_LEFT_S", 0.2)
    command = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"]
    left = subprocess.Popen(command, env={**os.environ, bed.MARK: str(tmp_path)}, stdout=subprocess.PIPE)
    assert left.stdout is not None
    left.stdout.readline()
    assert strike.left_over(tmp_path) == [left.pid]
    left.send_signal(signal.SIGKILL)
    left.wait(10)

    assert strike.left_over(tmp_path) == []


def test_six_kills_in_ten_are_aimed_into_a_save():
    """Counted over 5,000 draws; the standard deviation is 0.7 %."""
    random = Random(1)
    kinds = Counter(strike.draw(random, 2, save_s=0.1, attempt_s=1.0, operations=100).kind for _ in range(5000))

    assert (kinds["save"] + kinds["operation"]) / 5000 == pytest.approx(0.6, abs=0.03)
    assert kinds["save"] / 5000 == pytest.approx(0.3, abs=0.03)


def test_parts_add_up_to_a_whole():
    """Two processes share the trials of a row."""
    total = Outcome()
    for trials, lost in ((3, 1), (4, 2)):
        part = Outcome(trials=trials, counts=Counter(killed=trials))
        part.see("most steps lost", lost)
        part.fail(f"{lost} of {trials}")
        total.add(Outcome.of_json(json.loads(json.dumps(part.as_json()))))

    assert (total.trials, total.failed, total.counts, total.most) == (7, 2, Counter(killed=7), {"most steps lost": 2})
    assert total.failures == ["1 of 3", "2 of 4"]


def test_the_page_gives_the_bound_and_the_baseline_beside_it(tmp_path: Path):
    """3 / 200 trials without a failure is 1.5 %."""
    common = {
        "fault": "Kill storm",
        "unit": "kills",
        "seed": 7,
        "description": "kills",
        "promise": "no loss",
        "seconds": 60,
    }
    ours = {**common, "product": "launcher", **Outcome(trials=200).as_json()}
    theirs = {**common, "product": "plain TRL", **Outcome(trials=50, failed=12, failures=["torn"]).as_json()}
    report.write([ours, theirs], {"Kill storm"}, tmp_path, tmp_path / "FAULTS.md")
    page = (tmp_path / "FAULTS.md").read_text()

    assert "| Kill storm | 200 kills | 7 | 0 (< 1.5 %) | 12 of 50 kills |" in page
    assert "- Plain TRL, for example: torn" in page


def test_results_of_a_part_that_was_not_run_whole_are_not_written(tmp_path: Path):
    """`--only slurm` writes that part, beside what is there of the other; one of its rows alone writes nothing."""
    one = {"product": "launcher", "unit": "runs", "seed": 0, "description": "d", "promise": "p", "seconds": 6.0}
    names = {"Kill storm", "SLURM, requeued", "SLURM, cancelled"}
    rows = [{"fault": name, **one, **Outcome(trials=2).as_json()} for name in sorted(names)]
    page = tmp_path / "FAULTS.md"

    assert report.write(rows[1:2], names, tmp_path, page) == []
    assert not page.exists()
    assert [path.name[10:] for path in report.write(rows[1:], names, tmp_path, page)] == ["-slurm-faults.jsonl"]
    assert "| requeued | d | 2 | 0 | 3 |" in page.read_text()
    assert [path.name[10:] for path in report.write(rows[:1], names, tmp_path, page)] == ["-faults.jsonl"]
    assert "| Kill storm | 2 runs |" in page.read_text()
    assert "| requeued | d | 2 | 0 | 3 |" in page.read_text()


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_the_storm_finds_what_it_looks_for():
    """Plain TRL writes checkpoints in place: killed inside a save, it cannot start again."""
    outcome = plain.storm(("full",), 1, range(20))

    assert outcome.counts[plain.CRASHED] > 0


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_kills_at_operations_fall_where_they_are_sent():
    """A sample of them: all come, and most leave a save that was not committed."""
    outcome = storm.each_operation("full", 0, range(12))

    assert (outcome.trials, outcome.failures) == (12, [])
    assert outcome.counts["inside a save"] >= 3
