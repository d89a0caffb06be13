"""GSM8K as real input: every row is prepared, the held-out loss falls, and a killed run continues to the bit."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from launcher.plan.types import SourcePlan
from launcher.runs import events
from launcher.runs.paths import RunDir
from tests.support import tiny, trained

REPOSITORY = Path(__file__).parent.parent.parent
ROWS = 7473
VOCABULARY = 1536
HELD_OUT = 149  # 2 % of 7,473 is 149.46


@pytest.fixture(scope="module")
def file() -> Path:
    folder = Path(os.environ.get("LAUNCHER_TEST_DATA") or REPOSITORY.parent / "shared" / "data")
    path = folder / "gsm8k" / "train.jsonl"
    if not path.is_file():
        pytest.skip(f"{path} is not there; LAUNCHER_TEST_DATA names its folder")
    return path


def run_of(root: Path, file: Path) -> RunDir:
    """The acceptance recipe as a plan: full fine-tuning of a small model, 2 % held out, 24 steps of 16 rows."""
    plan = tiny.plan(
        source=SourcePlan("gsm8k", "train.jsonl", columns={"prompt": "question", "completion": "answer"}),
        eval_sources=(SourcePlan("held_out", None, held_out_from="gsm8k", fraction=0.02),),
        data={"max_length": 384},
        global_size=16,
        max_steps=24,
        save_steps=8,
        trainer={"learning_rate": 3e-3},
    )
    model = tiny.model(root.parent / "model", with_tokenizer=False, vocab_size=VOCABULARY)
    lines = file.read_text(encoding="utf-8").splitlines()[:500]
    texts = [text for line in lines for text in json.loads(line).values()]
    tiny.tokenizer(model, vocabulary=VOCABULARY, texts=texts)
    return tiny.run_dir(root, plan, {"model": str(model), "data.gsm8k": str(file)})


@pytest.fixture(scope="module")
def whole(file: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    run = run_of(tmp_path_factory.mktemp("gsm8k") / "whole", file)
    trained.prepare(run)
    trained.train(run)
    return run


@pytest.mark.train
@pytest.mark.slow
def test_every_row_is_prepared(whole: RunDir):
    """All 7,473 rows, none dropped, in training or held out."""
    facts = json.loads(whole.data_facts.read_text())
    train, held_out = facts["sets"]["train"], facts["sets"]["eval-held_out"]

    assert train["rows"] + held_out["rows"] == ROWS == sum(1 for _ in open_source(whole))
    assert held_out["rows"] == HELD_OUT
    assert facts["sources"]["gsm8k"]["bad"] == facts["sources"]["gsm8k"]["contaminated"] == 0
    assert (train["rows"] + train["fillers"]) % 16 == 0
    assert facts["steps_per_epoch"] == 458  # 7,324 rows and 4 fillers, 16 to a step


def open_source(run: RunDir) -> list[str]:
    return Path(json.loads(run.placement.read_text())["data.gsm8k"]).read_text(encoding="utf-8").splitlines()


@pytest.mark.train
@pytest.mark.slow
def test_the_held_out_loss_falls(whole: RunDir):
    """Measured before and after on rows that no step has seen."""
    before, after = (
        json.loads((whole.evals / name).read_text())["losses"]["held_out"] for name in ("base.json", "final.json")
    )

    assert after < before - 1.0


@pytest.mark.train
@pytest.mark.slow
def test_a_killed_run_continues_to_the_same_losses(whole: RunDir, file: Path):
    """SIGKILL in the middle; the same command again; the later losses are equal bit for bit."""
    killed = run_of(whole.root.parent / "killed", file)
    trained.prepare(killed)
    trained.kill_at(killed, trained.start(killed), 13)
    trained.train(killed, attempt=2)

    assert [event["step"] for event in events.read(killed.events) if event["event"] == "resume"] == [8]
    assert trained.losses(killed) == trained.losses(whole)
    assert trained.weights(killed.model) == trained.weights(whole.model)
