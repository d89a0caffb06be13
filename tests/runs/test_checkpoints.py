"""A checkpoint counts when its manifest lists every file with the size it has."""

import hashlib
import json

import pytest

from launcher.runs import checkpoints
from launcher.runs.checkpoints import Refused
from launcher.runs.paths import RunDir

FILES = (("model.safetensors", 40), ("sub/rng_0.pth", 3))


def sealed(step, files):
    """A manifest as an independent program would write it: JSON of one space, its sha256 as the last key."""
    body = {
        "schema": 2,
        "step": step,
        "files": {name: {"size": size, "sha256": hashlib.sha256(b"x" * size).hexdigest()} for name, size in files},
    }
    digest = hashlib.sha256((json.dumps(body, indent=1) + "\n").encode()).hexdigest()
    return json.dumps({**body, "sha256": digest}, indent=1) + "\n"


def commit(run_dir, step, *, files=FILES):
    folder = run_dir.checkpoints / f"checkpoint-{step}"
    for name, size in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x" * size)
    (folder / "MANIFEST.json").write_text(sealed(step, files))
    return folder


def manifest(text):
    return lambda folder: (folder / "MANIFEST.json").write_text(text)


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
        (lambda folder: (folder / "MANIFEST.json").unlink(), "MANIFEST.json is missing: it was not completed"),
        (manifest('{"step": 9'), "MANIFEST.json cannot be read: it is damaged"),
        (manifest(""), "MANIFEST.json cannot be read: it is damaged"),
        (manifest('{"schema": 1, "step": 9, "files": {"a": 1}}'), "MANIFEST.json has schema 1, this version of launcher reads 2"),
        (manifest(sealed(9, FILES).replace('"size": 40', '"size": 41')), "MANIFEST.json is damaged: its contents do not match its seal"),
        (manifest(sealed(9, FILES).replace("1,", "1, ").replace("\n ", "\n  ")), "MANIFEST.json is damaged: its contents do not match its seal"),
        (manifest(sealed(8, FILES)), "MANIFEST.json describes step 8, not 9"),
        (manifest(sealed(9, ())), "MANIFEST.json lists no files"),
        (manifest(sealed(9, (("../checkpoint-5/MANIFEST.json", 1),))), "MANIFEST.json names a file outside the checkpoint: ../checkpoint-5/MANIFEST.json"),
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors is missing"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"x" * 39), "model.safetensors has 39 bytes, its manifest says 40"),
        (lambda folder: (folder / "sub/rng_0.pth").write_bytes(b"xyx"), "sub/rng_0.pth has other contents than were saved (sha256 differs)"),
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


def test_sizes_alone_are_looked_at_where_reading_everything_would_be_too_much(tmp_path):
    """The table of `status` must not read gigabytes; whoever resumes does."""
    folder = commit(RunDir(tmp_path), 5)
    (folder / "model.safetensors").write_bytes(b"y" * 40)
    assert checkpoints.newest(RunDir(tmp_path), contents=False).checkpoint.step == 5
    assert checkpoints.newest(RunDir(tmp_path)).checkpoint is None


def test_a_damaged_checkpoint_is_put_aside_with_its_reason(tmp_path):
    """It is out of the way of the whole one to come, and nothing is deleted that somebody may want to look at."""
    run_dir = RunDir(tmp_path)
    for _ in range(2):
        folder = commit(run_dir, 7)
        checkpoints.quarantine(run_dir, Refused(folder, 7, "model.safetensors is missing"))
    assert sorted(path.name for path in run_dir.quarantine.iterdir()) == [
        "checkpoint-7", "checkpoint-7.1", "checkpoint-7.1.reason.txt", "checkpoint-7.reason.txt"
    ]  # fmt: skip
    assert (run_dir.quarantine / "checkpoint-7.1.reason.txt").read_text() == "model.safetensors is missing\n"
    assert checkpoints.folders(run_dir) == ()
