"""Which run a command means: the same mathematics continues, other mathematics gets a directory of its own."""

import dataclasses
import hashlib
import json
import shutil
import threading

import pytest

from launcher.cluster.schema import Cluster
from launcher.errors import DataError, EnvironmentFault, UsageError
from launcher.executors import folder, pick, prepared
from launcher.plan import codec
from launcher.plan.make import Planned
from launcher.runs import attempts, changes, checkpoints, events, lock, names, record
from launcher.runs.paths import RunDir
from tests.executors import stages

CPU = Cluster("local", None, gpus_per_node=0, cpus_per_node=2, memory_gib=8)


@pytest.fixture
def planned(tmp_path):
    """A recipe's plan with its data and model in place."""
    data, model = tmp_path / "in" / "train.jsonl", tmp_path / "in" / "model"
    model.mkdir(parents=True)
    data.write_text('{"text": "a"}\n')

    def make(**identity):
        job = stages.job("train", "note(0, 0, 'finished')")
        return Planned(stages.made(job, **identity), {"model": str(model), "data.train": [str(data)]})

    return make


def prepare(run_dir, size=14, sha256="b3c0a1ce6ae2dbd2ee9ac0a0e9e7ab2ba0d9ff1b6ee0b6e2d45a7f1e4ad5e5a1"):
    """`data.json` as the stage leaves it: what it read."""
    run_dir.data_facts.write_text(json.dumps({"files": {"data.train": [["train.jsonl", size, sha256]]}}))


def test_no_run_starts_one_and_the_same_recipe_continues_it(planned, tmp_path):
    """A run directory appears whole: plan, placement, recipe, record."""
    first = pick.by_recipe(tmp_path / "runs", planned(seed=1))
    assert (first.action, first.run_dir.name) == ("start", "tiny")
    assert codec.loads(first.run_dir.plan.read_text()).identity == {"seed": 1}
    assert prepared.placement(first.run_dir) == planned().placement
    assert record.read(first.run_dir).identity == {"seed": 1}
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["tiny"]

    again = pick.by_recipe(tmp_path / "runs", planned(seed=1))
    assert (again.action, again.run_dir) == ("continue", first.run_dir)


def test_a_changed_recipe_starts_name_2_and_says_what_changed(planned, tmp_path):
    """And each of the two is found again by its own recipe."""
    runs = tmp_path / "runs"
    pick.by_recipe(runs, planned(seed=1, lr=0.1))
    second = pick.by_recipe(runs, planned(seed=2, lr=0.1))
    assert (second.action, second.run_dir.name) == ("start", "tiny-2")
    assert second.differences == (("seed", 1, 2),)
    assert changes.describe(second.differences[0]) == "seed: 1 → 2"
    assert pick.by_recipe(runs, planned(seed=1, lr=0.1)).run_dir.name == "tiny"
    assert pick.by_recipe(runs, planned(seed=2, lr=0.1)).run_dir.name == "tiny-2"
    assert pick.by_recipe(runs, planned(seed=3, lr=0.1)).run_dir.name == "tiny-3"


def attempted(run_dir, code=0, **event):
    """One attempt of the plan that stands in the run, and what it did."""
    attempt = attempts.begin(run_dir)
    run_dir.attempt_plan(attempt.number).write_text(run_dir.plan.read_text())
    attempts.end(run_dir, attempt, code)
    if event:
        events.append(run_dir.events, **event)


@pytest.mark.parametrize("code", [0, 2])
def test_a_run_in_which_nothing_was_trained_takes_the_changed_recipe(planned, tmp_path, code):
    """Preparing, reading the rows and changing the recipe is how a recipe is written; it must not leave NAME-2 to NAME-9."""
    runs = tmp_path / "runs"
    first = pick.by_recipe(runs, planned(seed=1)).run_dir
    attempted(first, code=code, event="stage", stage="prepare", state="done")
    before = record.read(first)
    changed = pick.by_recipe(runs, planned(seed=2))

    assert (changed.action, changed.run_dir, changed.differences) == ("update", first, (("seed", 1, 2),))
    assert codec.loads(first.plan.read_text()).identity == {"seed": 2}
    assert record.read(first).identity == {"seed": 2}
    assert (record.read(first).id, record.read(first).changes) == (before.id, ())
    assert pick.by_recipe(runs, planned(seed=2)).action == "continue"


@pytest.mark.parametrize("event", ["step", "eval", "score"])
def test_a_run_with_history_keeps_its_recipe(planned, tmp_path, event):
    """A step was made, or the untuned model was measured: what follows belongs to the same experiment."""
    runs = tmp_path / "runs"
    first = pick.by_recipe(runs, planned(seed=1)).run_dir
    attempted(first, code=85, event=event, step=1)

    assert pick.by_recipe(runs, planned(seed=2)).run_dir.name == "tiny-2"


def test_a_run_that_another_launcher_is_about_to_start_is_left_to_it(planned, tmp_path):
    """Three seeds started at once after one `prepare` are three runs: the directory goes to the fastest, not to the last."""
    runs = tmp_path / "runs"
    first = pick.by_recipe(runs, planned(seed=1)).run_dir
    attempted(first)
    assert pick.by_recipe(runs, planned(seed=2)).action == "update"
    third = pick.by_recipe(runs, planned(seed=3))
    assert (third.action, third.run_dir.name) == ("start", "tiny-2")

    other = pick.by_recipe(tmp_path / "other", planned(seed=1)).run_dir
    attempted(other)
    with lock.hold(other):
        assert pick.by_recipe(tmp_path / "other", planned(seed=2)).run_dir.name == "tiny-2"


def test_data_that_changed_is_prepared_anew_where_nothing_was_trained_on_it(planned, tmp_path):
    """There is no experiment yet that other rows would spoil."""
    run_dir = pick.by_recipe(tmp_path / "runs", planned(seed=1)).run_dir
    attempted(run_dir)
    record.write(run_dir, dataclasses.replace(record.read(run_dir), prepared="as it was"))
    prepare(run_dir, size=99)

    assert pick.by_recipe(tmp_path / "runs", planned(seed=1)).action == "continue"
    assert record.read(run_dir).prepared is None


def test_a_finished_run_is_finished_and_a_locked_one_is_running(planned, tmp_path):
    """Neither is touched."""
    runs = tmp_path / "runs"
    run_dir = pick.by_recipe(runs, planned(seed=1)).run_dir
    with lock.hold(run_dir):
        assert pick.by_recipe(runs, planned(seed=1)).action == "running"
    run_dir.done.touch()
    assert pick.by_recipe(runs, planned(seed=1)).action == "finished"


def test_ten_starts_at_once_make_one_run(planned, tmp_path):
    """Impatient fingers and cron jobs must not make NAME-2 of the same recipe."""
    found, gate = [], threading.Barrier(10)

    def race():
        gate.wait()
        found.append(pick.by_recipe(tmp_path / "runs", planned(seed=1)))

    threads = [threading.Thread(target=race) for _ in range(10)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert {each.run_dir.name for each in found} == {"tiny"}
    assert [each.action for each in found].count("start") == 1
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["tiny"]


def test_the_slower_of_two_starts_makes_nothing(planned, tmp_path):
    """It finds the directory taken at the last moment, and leaves no draft beside it."""
    run_dir = RunDir(tmp_path / "runs" / "tiny")
    assert folder.create(run_dir, planned(seed=1))
    before = run_dir.record.read_bytes()
    assert not folder.create(run_dir, planned(seed=1))
    assert run_dir.record.read_bytes() == before
    assert list((tmp_path / "runs").iterdir()) == [run_dir.root]


def test_a_folder_that_is_no_run_is_not_written_into(planned, tmp_path):
    """It may be anything of anybody."""
    (tmp_path / "runs" / "tiny").mkdir(parents=True)
    (tmp_path / "runs" / "tiny" / "thesis.tex").touch()
    with pytest.raises(UsageError, match="exists and is not a run"):
        pick.by_recipe(tmp_path / "runs", planned(seed=1))


def test_continue_takes_only_the_changes_that_were_named(planned, tmp_path):
    """A whole section may be named at once; a name that merely begins alike is another key."""
    run_dir = pick.by_recipe(tmp_path / "runs", planned(**{"a.x": 1, "ab": 1})).run_dir
    changed = planned(**{"a.x": 2, "ab": 2})
    run_dir.done.touch()
    with pytest.raises(UsageError, match="ab: 1 → 2") as caught:
        pick.by_continue(run_dir, changed, allowed=["a"])
    assert caught.value.hint == "to go on all the same: --allow-change ab"
    assert run_dir.done.exists()

    assert pick.by_continue(run_dir, changed, allowed=["a", "ab"]).action == "continue"
    assert not run_dir.done.exists()
    known = record.read(run_dir)
    assert known.identity == {"a.x": 2, "ab": 2}
    assert [(each["key"], each["old"], each["new"], each["step"]) for each in known.changes] == [
        ("a.x", 1, 2, 0),
        ("ab", 1, 2, 0),
    ]
    assert pick.by_recipe(tmp_path / "runs", changed).action == "continue"


def test_data_that_changed_after_it_was_prepared_is_refused(planned, tmp_path):
    """A run that went on with other rows would be neither the old experiment nor a new one."""
    run_dir = pick.by_recipe(tmp_path / "runs", planned(seed=1)).run_dir
    prepare(run_dir, size=99)
    attempted(run_dir, event="step", step=1)
    with pytest.raises(DataError, match=r"train\.jsonl had 99 bytes and now has 14"):
        pick.by_recipe(tmp_path / "runs", planned(seed=1))
    with pytest.raises(DataError):
        pick.by_run(run_dir, CPU, ())
    assert pick.by_recipe(tmp_path / "runs", planned(seed=2)).action == "start"
    assert pick.by_continue(run_dir, planned(seed=1), allowed=[changes.DATA_FILES]).action == "continue"
    assert not run_dir.data_facts.exists()


def test_what_is_allowed_beside_the_identity_is_noted_with_the_newest_checkpoint(planned, tmp_path):
    """The worker asks of each checkpoint which changes were allowed after it was saved."""
    run_dir = pick.by_recipe(tmp_path / "runs", planned(seed=1)).run_dir
    for step in (5, 20, 10):
        (run_dir.checkpoints / f"checkpoint-{step}").mkdir(parents=True)
    picked = pick.by_continue(run_dir, planned(seed=1), allowed=[changes.DATA_FILES])
    assert [changes.describe(each) for each in picked.differences] == ["data.files: as prepared → prepared anew"]
    known = record.read(run_dir)
    assert [(each["key"], each["step"]) for each in known.changes] == [("data.files", 20)]
    assert known.identity == {"seed": 1}


@pytest.mark.parametrize(
    ("saved", "ranks", "says"),
    [
        ("zero2", 1, "was saved under `zero2`, and `ddp` is planned"),
        ("ddp", 4, None),
    ],
)
def test_a_checkpoint_of_another_sharding_is_refused_before_anything_is_started(planned, tmp_path, saved, ranks, says):
    """The run stays what it is; ddp goes on on any number of ranks."""
    run_dir = pick.by_recipe(tmp_path / "runs", planned(seed=1)).run_dir
    folder = run_dir.checkpoints / "checkpoint-4"
    folder.mkdir(parents=True)
    (folder / "weights").write_bytes(b"1")
    files = {"weights": {"size": 1, "sha256": hashlib.sha256(b"1").hexdigest()}}
    body = {"schema": checkpoints.SCHEMA, "step": 4, "strategy": saved, "world_size": ranks, "files": files}
    (folder / checkpoints.MANIFEST).write_text(checkpoints.manifest_text(body))
    before = run_dir.plan.read_bytes()
    if says is None:
        assert pick.by_recipe(tmp_path / "runs", planned(seed=1)).action == "continue"
        return
    with pytest.raises(UsageError, match=says):
        pick.by_recipe(tmp_path / "runs", planned(seed=1))
    assert run_dir.plan.read_bytes() == before


def test_a_moved_run_says_which_set_brings_its_model_back(planned, tmp_path):
    """Absolute paths stand in the placement only, and `--set` changes them there."""
    run_dir = pick.by_recipe(tmp_path / "runs", planned(seed=1)).run_dir
    moved = RunDir(shutil.move(run_dir.root, tmp_path / "elsewhere"))
    shutil.move(tmp_path / "in" / "model", tmp_path / "model")
    assert pick.by_run(names.find(tmp_path / "runs", str(moved.root)), CPU, ()).action == "continue"

    key = "model.model_name_or_path"
    with pytest.raises(EnvironmentFault) as caught:
        prepared.check_placement(moved, data=True)
    assert caught.value.message == f"{tmp_path / 'in' / 'model'} is not on this machine (`{key}`)"
    assert caught.value.hint == f"say where it is: `launcher run {moved.root} --set {key}=PATH`"

    pick.by_run(moved, CPU, [f"{key}={tmp_path / 'model'}"])
    prepared.check_placement(moved, data=True)

    (tmp_path / "in" / "train.jsonl").unlink()
    with pytest.raises(DataError, match=r"data\.datasets\.train\.path"):
        prepared.check_placement(moved, data=True)
    prepared.check_placement(moved, data=False)


@pytest.mark.parametrize(
    "given", ["training.seed=1", "model.model_name_or_path=/no/such/folder", "peft", "data.datasets.train.path=/none"]
)
def test_of_an_existing_run_only_paths_can_be_set(given, planned, tmp_path):
    """Anything else is a change of the recipe."""
    run_dir = pick.by_recipe(tmp_path / "runs", planned(seed=1)).run_dir
    before = run_dir.placement.read_bytes()
    with pytest.raises(UsageError):
        pick.by_run(run_dir, CPU, [given])
    assert run_dir.placement.read_bytes() == before


def test_data_of_a_run_for_gpus_can_be_read_where_there_are_none(planned, tmp_path):
    """A login node prepares what a GPU node trains."""
    made = planned(seed=1)
    train = dataclasses.replace(made.plan.jobs[0], processes=4)
    made = dataclasses.replace(made, plan=dataclasses.replace(made.plan, device="cuda", jobs=(train,)))
    run_dir = pick.by_recipe(tmp_path / "runs", made).run_dir
    with pytest.raises(EnvironmentFault, match="is planned for 4 GPUs, this machine has 0"):
        pick.by_run(run_dir, CPU, ())
    assert pick.by_run(run_dir, CPU, (), trains=False).action == "continue"
