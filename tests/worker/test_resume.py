"""What must agree before a checkpoint is continued: each disagreement ends the run before its first step, by name."""

from __future__ import annotations

import dataclasses
import json
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from launcher.plan import codec
from launcher.plan.types import Plan
from launcher.runs import changes, checkpoints, events, record
from launcher.runs.paths import RunDir
from tests.support import tiny, trained, warm

pytestmark = pytest.mark.train

IDENTITY = {"training.learning_rate": 0.001, "training.seed": 42}
STEPS = 4


def plan(**more: Any) -> Plan:
    made = tiny.plan(max_steps=STEPS, save_steps=2, peft={**tiny.LORA, "lora_dropout": 0.2})
    return tiny.changed(made, **{"identity": IDENTITY, **more})


@pytest.fixture(scope="module")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    run = trained.run_dir(tmp_path_factory.mktemp("resume") / "run", plan(), tiny.messages(30))
    record.write(run, record.new("run", IDENTITY))
    trained.train(run)
    return run


@pytest.fixture
def run(trained_run: RunDir, tmp_path: Path) -> RunDir:
    """A copy, so that each test breaks its own."""
    for name in ("model", "train.jsonl"):
        source = trained_run.root.parent / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    copy = RunDir(shutil.copytree(trained_run.root, tmp_path / "run"))
    copy.placement.write_text(
        json.dumps({"model": str(tmp_path / "model"), "data.train": str(tmp_path / "train.jsonl")})
    )
    return copy


def follow(run: RunDir, made: Plan) -> None:
    run.plan.write_text(codec.dumps(made), encoding="utf-8")


def allow(run: RunDir, identity: dict[str, Any], *allowed: changes.Change, step: int = STEPS) -> None:
    known = record.read(run)
    assert known is not None
    record.write(run, record.allow(known, identity, allowed, step=step))


def refused(run: RunDir) -> tuple[str, str]:
    """Message and hint of a start that must end before its first step."""
    before = len([event for event in events.read(run.events) if event["event"] in ("start", "step")])
    trained.train(run, attempt=2, code=93)
    assert len([event for event in events.read(run.events) if event["event"] in ("start", "step")]) == before
    note = trained.note(run, attempt=2)
    return note["error"], note["hint"]


def told(run: RunDir, event: str) -> dict[str, Any]:
    return next(each for each in events.read(run.events) if each["event"] == event)


def test_other_settings_are_refused_field_by_field_until_they_are_allowed(run: RunDir):
    """A permission covers the keys it names, for the checkpoints that were there when it was given."""
    new = {"training.learning_rate": 0.002, "training.seed": 7, "training.weight_decay": 0.1}
    follow(run, plan(identity=new))
    error, hint = refused(run)
    assert error == (
        "checkpoint-4 was trained by other settings:\n"
        "       training.learning_rate: 0.001 → 0.002\n"
        "       training.seed: 42 → 7\n"
        "       training.weight_decay: not set → 0.1"
    )
    assert hint == (
        f"set them back, or allow it: `launcher run RECIPE --continue {run.root} --allow-change training.learning_rate "
        "--allow-change training.seed --allow-change training.weight_decay`"
    )

    rate = ("training.learning_rate", 0.001, 0.002)
    allow(run, IDENTITY, rate, ("training.seed", 42, 7))
    assert refused(run)[0].endswith("settings:\n       training.weight_decay: not set → 0.1")

    allow(run, IDENTITY, ("training.weight_decay", None, 0.1), step=STEPS - 1)  # given before checkpoint-4 was saved
    assert "training.weight_decay" in refused(run)[0]

    allow(run, new, ("training.weight_decay", None, 0.1))
    trained.train(run, attempt=3)
    assert told(run, "resume")["step"] == STEPS


def test_a_checkpoint_of_another_run_is_called_that(run: RunDir):
    """No permission helps where nobody changed anything: the folder was copied here."""
    other = {**IDENTITY, "training.seed": 1}
    follow(run, plan(identity=other))
    record.write(run, record.new("run", other))
    assert refused(run) == (
        "checkpoint-4 was trained by other settings:\n       training.seed: 42 → 1",
        f"it was saved by another run: move {run.checkpoints / 'checkpoint-4'} away",
    )


def test_other_rows_are_continued_only_where_they_were_allowed(run: RunDir):
    """New data is a decision; data that changed by itself is an accident."""
    tiny.jsonl(run.root.parent / "train.jsonl", tiny.messages(20))
    trained.prepare(run)
    error, hint = refused(run)
    assert error == "checkpoint-4 was trained on other rows than those prepared now"
    assert hint.endswith("--allow-change data.files`")

    allow(run, IDENTITY, (changes.DATA_FILES, "as prepared", "prepared anew"))
    trained.train(run, attempt=3)


def test_another_base_model_is_refused(run: RunDir):
    """The adapter in the checkpoint fits the old one only."""
    tiny.model(run.root.parent / "model", seed=1)
    error, _ = refused(run)
    assert error == f"the base model in {run.root.parent}/model is not the one that checkpoint-4 was trained from"


def test_another_sharding_is_refused(run: RunDir):
    """What is stored of weights and optimizer has another shape under each."""
    follow(run, plan(strategy="fsdp2"))
    error, hint = refused(run)
    assert error == ("checkpoint-4 was saved under `ddp`, and `fsdp2` is planned: nothing converts one into the other")
    assert hint == "set `sharding: {strategy: ddp}`, or start a run of its own: `--set name=NAME`"


def test_zero3_on_another_number_of_ranks_is_refused(run: RunDir):
    """Its optimizer state would drift; fsdp2 is named instead."""
    manifest = run.checkpoints / f"checkpoint-{STEPS}" / checkpoints.MANIFEST
    body = {key: value for key, value in json.loads(manifest.read_text()).items() if key != "sha256"}
    manifest.write_text(checkpoints.manifest_text({**body, "strategy": "zero3", "world_size": 4}), encoding="utf-8")
    follow(run, plan(strategy="zero3"))
    error, hint = refused(run)
    assert error.startswith("checkpoint-4 was saved by 4 ranks of `zero3`, not 1: ")
    assert hint == "go on with as many ranks as before; fsdp2 checkpoints go on on any number"


def test_changed_libraries_are_named_and_go_on(run: RunDir):
    """The training is what was asked for, but not to the bit what it would have been."""
    manifest = run.checkpoints / f"checkpoint-{STEPS}" / checkpoints.MANIFEST
    body = {key: value for key, value in json.loads(manifest.read_text()).items() if key != "sha256"}
    assert body["versions"]["trl"] == version("trl")
    body["versions"] = {**body["versions"], "trl": "0.1", "no-such-library": "2.0"}
    manifest.write_text(checkpoints.manifest_text(body), encoding="utf-8")
    trained.train(run, attempt=2)

    assert told(run, "resume")["versions"] == {"trl": ["0.1", version("trl")], "no-such-library": ["2.0", None]}
    message = told(run, "warning")["message"]
    assert f"trl 0.1 → {version('trl')}, no-such-library 2.0 → not installed" in message
    assert "may not go on exactly" in message


def test_more_ranks_draw_apart_and_the_same_each_time(run: RunDir):
    """A rank without a saved random state must not draw what another draws, nor something else at each start."""
    made = plan()
    batch = dataclasses.replace(made.batch, per_device=2, world_size=2)
    trainer = {**made.trainer, "max_steps": 2 * STEPS, "per_device_train_batch_size": 2}
    follow(run, tiny.changed(made, batch=batch, trainer=trainer))
    trained.prepare(run)
    again = RunDir(shutil.copytree(run.root, run.root.parent / "again"))
    for each in (run, again):
        trained.train(each, attempt=2, ranks=2)
    saved = {
        each: warm.run("tests.parity.resume_cases:contents", {"checkpoint": f"{each.checkpoints}/checkpoint-8"}).value
        for each in (run, again)
    }

    assert trained.losses(run) == trained.losses(again)
    assert saved[run] == saved[again]
    assert saved[run]["rng_state_0.pth"] != saved[run]["rng_state_1.pth"]
    assert (told(run, "resume")["world_size"], told(run, "resume")["versions"]) == (2, {})
    assert told(run, "warning")["message"] == (
        "the batch of checkpoint-4 was split 1 × 4 × 1 (ranks × rows × accumulation) and is split 2 × 2 × 1: "
        "`lora_dropout` draws other numbers from here than it would have"
    )
