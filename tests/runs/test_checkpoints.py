"""A checkpoint counts when its manifest lists every file with the size it has."""

import json

import pytest

from launcher.runs import checkpoints
from launcher.runs.paths import RunDir


def commit(run_dir, step, *, files=(("model.safetensors", 40), ("sub/rng_0.pth", 3))):
    folder = run_dir.checkpoints / f"checkpoint-{step}"
    for name, size in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x" * size)
    (folder / "MANIFEST.json").write_text(json.dumps({"schema": 1, "step": step, "files": dict(files)}))
    return folder


def test_the_newest_complete_checkpoint_is_chosen_by_step_not_by_text(tmp_path):
    """checkpoint-1000 comes after checkpoint-999."""
    for step in (999, 1000, 20):
        commit(RunDir(tmp_path), step)
    choice = checkpoints.newest(RunDir(tmp_path))
    assert choice.checkpoint.step == 1000
    assert [each.step for each in checkpoints.complete(RunDir(tmp_path))] == [1000, 999, 20]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda folder: (folder / "MANIFEST.json").unlink(), "has no readable MANIFEST.json: it was not completed"),
        (lambda folder: (folder / "MANIFEST.json").write_text('{"step": 9'), "has no readable MANIFEST.json: it was not completed"),
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors is missing"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"x" * 39), "model.safetensors has 39 bytes, its manifest says 40"),
        (lambda folder: (folder / "MANIFEST.json").write_text('{"step": 8, "files": {"a": 1}}'), "MANIFEST.json does not describe step 9"),
        (lambda folder: (folder / "MANIFEST.json").write_text('{"step": 9, "files": {}}'), "MANIFEST.json does not describe step 9"),
        (lambda folder: (folder / "MANIFEST.json").write_text('{"step": 9, "files": {"../checkpoint-5/MANIFEST.json": 1}}'),
         "MANIFEST.json names a file outside the checkpoint: ../checkpoint-5/MANIFEST.json"),
    ],
)  # fmt: skip
def test_a_damaged_newer_checkpoint_is_passed_over_with_its_reason(damage, reason, tmp_path):
    """The run goes on from the older one, and says why not from the newer."""
    run_dir = RunDir(tmp_path)
    commit(run_dir, 5)
    damage(commit(run_dir, 9))
    choice = checkpoints.newest(run_dir)
    assert choice.checkpoint.step == 5
    assert [(each.step, each.reason) for each in choice.passed_over] == [(9, reason)]


def test_other_folders_and_staging_are_no_checkpoints_and_the_sweep_removes_only_staging(tmp_path):
    """What was being written at a kill is removed; everything else belongs to somebody."""
    run_dir = RunDir(tmp_path)
    (run_dir.staging / "x" / "checkpoint-7").mkdir(parents=True)
    for name in ("checkpoint-7x", "checkpoint-", "best", "checkpoint--1"):
        (run_dir.checkpoints / name).mkdir()
    assert checkpoints.newest(run_dir) == checkpoints.Choice(None, ())
    checkpoints.sweep(run_dir)
    assert not run_dir.staging.exists()
    assert len(list(run_dir.checkpoints.iterdir())) == 4
    assert checkpoints.newest(RunDir(tmp_path / "none")).checkpoint is None
