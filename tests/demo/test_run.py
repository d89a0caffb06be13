"""The demo itself: a real run of recipes/demo.yaml, shortened, and the judge behind `make demo`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def scores(run: Path, when: str) -> dict[str, float]:
    """Held-out loss and exact match."""
    found = json.loads((run / "eval" / f"{when}.json").read_text(encoding="utf-8"))
    return {"loss": found["losses"]["held_out"], **found["sets"]["held_out"]["metrics"]}


def demo(runs: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`recipes/demo/run.py` as `make demo` calls it."""
    command = [sys.executable, ROOT / "recipes" / "demo" / "run.py", "--runs", runs, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=280)


@pytest.mark.train
@pytest.mark.slow
def test_two_thirds_of_the_demo_already_teach_the_ticket(tmp_path):
    """The untuned base writes no ticket; after a short fine-tune most held-out ones are right to the letter."""
    shorter = ("training.num_train_epochs=4", "data.eval_datasets.held_out.max_rows=40", "evaluation.eval_steps=null")
    made = demo(tmp_path, *(word for change in shorter for word in ("--set", change)))
    before, after = scores(tmp_path / "demo", "base"), scores(tmp_path / "demo", "final")

    assert before["exact_match"] == 0.0
    assert after["exact_match"] >= 0.5
    assert after["loss"] < before["loss"] / 4
    assert f"{after['exact_match']:.3f} after" in made.stdout, made.stdout + made.stderr
    assert made.returncode == (0 if after["exact_match"] >= 0.9 else 1)
    assert (tmp_path / "demo" / "report.html").is_file()


def test_a_finished_demo_is_not_taken_for_a_new_one(tmp_path):
    """`make demo` trains each time; the older run stays."""
    sys.path.insert(0, str(ROOT / "recipes" / "demo"))
    try:
        import run
    finally:
        sys.path.pop(0)
    assert run.fresh(tmp_path, "demo") == "demo"

    for name in ("demo", "demo-2"):
        (tmp_path / name / "eval").mkdir(parents=True)
    (tmp_path / "demo" / "eval" / "final.json").write_text("{}")

    assert run.fresh(tmp_path, "demo") == "demo-2"
