"""`prepare` and `inspect` as a person types them: real data, a real tokenizer, no training."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from launcher.runs.paths import RunDir
from tests.support import project, tiny
from tests.support.project import launcher

pytestmark = pytest.mark.train

RECIPE = """
model: {model_name_or_path: model}
data:
  datasets: [{label: sums, path: sums.jsonl, columns: {prompt: question, completion: answer}}]
  eval_datasets: [{label: held_out, from: sums, fraction: 0.1}]
  max_length: 64
training: {global_batch_size: 4, gradient_accumulation_steps: 1}
"""


@dataclass
class Shop:
    """A folder with a recipe, its data and its model, and what the commands said in it."""

    folder: Path
    said: dict[str, subprocess.CompletedProcess]

    def type(self, *words: str) -> subprocess.CompletedProcess:
        return launcher(*words, cwd=self.folder)

    @property
    def run_dir(self) -> RunDir:
        return RunDir(self.folder / "runs" / "sums")


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    made = Shop(project.made(folder, RECIPE, rows=40), {})
    for name, words in {
        "first": ["prepare", "sums.yaml"],
        "again": ["prepare", "sums.yaml", "--json"],
        "status": ["status", "sums", "--json"],
        "changed": ["prepare", "sums.yaml", "--set", "training.learning_rate=0.001"],
        "read": ["inspect", "sums.yaml", "--rows", "1", "--set", "data.loss_on=all"],
        "json": ["inspect", "sums", "--rows", "2", "--source", "held_out", "--json"],
        "page": ["inspect", "sums", "--html"],
    }.items():
        made.said[name] = made.type(*words)
    return made


def test_prepare_makes_the_data_and_shows_what_came_out(shop):
    """40 rows, 4 held out: 36 in 9 steps; the answers are what is trained."""
    said = shop.said["first"]
    assert said.returncode == 0, said.stderr
    assert "starting runs/sums\nprepare…\n" in said.stderr
    lines = said.stdout.splitlines()
    assert lines[0].split() == ["DATA", "label", "rows", "tokens", "share", "(asked)", "epochs", "cut"]
    assert lines[1].split()[:2] == ["sums", "36"]
    assert "36 rows → 9 steps/epoch; loss on " in said.stdout
    assert "launcher inspect sums.yaml (read some rows) · launcher run sums.yaml (trains)" in lines[-1]


def test_a_second_prepare_says_that_nothing_changed(shop):
    """And gives the same figures to a program."""
    answer = json.loads(shop.said["again"].stdout)
    assert answer["changed"] is False
    assert answer["data"]["sets"]["train"]["rows"] == 36
    assert json.loads(shop.said["status"].stdout)["state"] == "prepared"


def test_a_recipe_that_is_still_being_written_keeps_its_run(shop):
    """Neither `prepare` nor `inspect` leaves a trail of NAME-2, NAME-3, …"""
    for name, change in (("changed", "training.learning_rate: "), ("read", "data.loss_on: auto → all")):
        assert shop.said[name].returncode == 0, shop.said[name].stderr
        assert f"updating runs/sums: nothing was trained in it yet\n  {change}" in shop.said[name].stderr
    assert [path.name for path in (shop.folder / "runs").iterdir() if not path.name.startswith(".")] == ["sums"]


def test_inspect_shows_rows_with_what_is_trained_and_the_figures(shop):
    """With `loss_on: all` everything but the first token of a row."""
    said = shop.said["read"].stdout
    assert said.startswith("trained tokens stand in ⟦ ⟧\n\n── train[")
    assert "<|im_end|>⟧" in said
    assert [line.split()[0] for line in said.splitlines() if line[:1].isupper() and line.split()[0].isupper()] == [
        "DATA", "STEPS", "LENGTHS", "WARN", "NEXT",
    ]  # fmt: skip


def test_inspect_gives_programs_the_same(shop):
    """Two rows of the one set that was asked for."""
    answer = json.loads(shop.said["json"].stdout)
    assert [(row["set"], row["source"]) for row in answer["rows"]] == [("eval-held_out", "held_out")] * 2
    assert answer["data"]["sets"]["eval-held_out"]["rows"] == 4


def test_inspect_writes_a_page(shop):
    """Into the run, or wherever it is told to."""
    assert shop.said["page"].stdout == "runs/sums/inspect.html\n"
    assert "36 rows → 9 steps/epoch" in shop.run_dir.inspect_page.read_text()


def test_a_row_that_cannot_be_used_ends_prepare_with_code_2(shop):
    """The same sentence and the same code as of `run`."""
    tiny.jsonl(shop.folder / "bad.jsonl", [*tiny.words(3), {"question": "?"}])
    said = shop.type("prepare", "sums.yaml", "--set", "data.datasets.sums.path=bad.jsonl", "--set", "name=bad")
    assert said.returncode == 2
    assert "bad.jsonl:4: " in said.stderr
    assert "Traceback" not in said.stderr
