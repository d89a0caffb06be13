"""A run that goes on with another split of its batch than the recipe's: by whom, and for how long it holds."""

import dataclasses

import pytest

from launcher.cluster.schema import Cluster
from launcher.errors import UsageError
from launcher.executors import pick, resplit
from launcher.plan import codec
from launcher.plan.make import Planned
from launcher.plan.types import Batch, Decision
from launcher.runs import events, record
from launcher.runs.record import Split
from tests.executors import stages

CPU = Cluster("local", None, gpus_per_node=0, cpus_per_node=2, memory_gib=8)
ROWS = "training.per_device_train_batch_size"


def planned(per_device=4, accumulation=1, world_size=1):
    """A recipe's plan with this split of its batch."""
    batch = Batch(per_device * accumulation * world_size, per_device, accumulation, world_size)
    return Planned(dataclasses.replace(stages.made(stages.job("train", "")), batch=batch), {})


def batch(run_dir):
    return codec.loads(run_dir.plan.read_text()).batch


def test_a_typed_split_holds_for_the_recipe_too_until_the_recipe_has_another(tmp_path):
    """The next `launcher run RECIPE` must not run out of memory again; a recipe that changed its split is obeyed."""
    run_dir = pick.by_recipe(tmp_path, planned(4)).run_dir
    picked = pick.by_run(run_dir, CPU, [f"{ROWS}=2"])
    assert (picked.action, batch(run_dir)) == ("continue", Batch(4, 2, 2, 1))
    assert record.read(run_dir).split == Split(4, 2, "person")
    assert events.read(run_dir.events)[0]["per_device"] == 2
    assert "`--set` on this run: with 4 this run ran out of memory" in run_dir.plan_text.read_text()

    pick.by_recipe(tmp_path, planned(4))
    assert batch(run_dir) == Batch(4, 2, 2, 1)
    pick.by_recipe(tmp_path, planned(4, 1, 2))  # on two ranks, with twice as many rows per step
    assert batch(run_dir) == Batch(8, 2, 2, 2)
    pick.by_recipe(tmp_path, planned(1, 4))
    assert batch(run_dir) == Batch(4, 1, 4, 1)


def left_open(*batch):
    """A plan whose rows per device the recipe leaves open."""
    made = planned(*batch)
    decision = Decision(ROWS, made.plan.batch.per_device, "fastest of what fits")
    return dataclasses.replace(made, plan=dataclasses.replace(made.plan, decisions=(decision,)))


def test_what_is_free_today_does_not_split_a_run_that_goes_on(tmp_path):
    """Sums of other parts differ in the last bit: a run is continued as it began, whatever else is on the GPU now."""
    run_dir = pick.by_recipe(tmp_path, left_open(4, 1)).run_dir
    pick.by_recipe(tmp_path, left_open(2, 2))
    assert batch(run_dir) == Batch(4, 2, 2, 1)  # nothing was trained
    (run_dir.checkpoints / "checkpoint-1").mkdir(parents=True)
    pick.by_recipe(tmp_path, left_open(4, 1))
    assert batch(run_dir) == Batch(4, 2, 2, 1)
    assert "as this run began" in run_dir.plan_text.read_text()
    pick.by_recipe(tmp_path, planned(4, 1))  # a recipe that says so is obeyed
    assert batch(run_dir) == Batch(4, 4, 1, 1)


def test_a_second_change_still_knows_the_recipes_own_and_going_back_forgets_it(tmp_path):
    """4 → 2 → 1 is a change of 4, not of 2."""
    run_dir = pick.by_recipe(tmp_path, planned(4)).run_dir
    for rows, noted in ((2, Split(4, 2, "person")), (1, Split(4, 1, "person")), (4, None)):
        pick.by_run(run_dir, CPU, [f"{ROWS}={rows}"])
        assert record.read(run_dir).split == noted
    assert batch(run_dir) == Batch(4, 4, 1, 1)


@pytest.mark.parametrize(
    ("text", "message"), [("3", "do not divide by 3"), ("0", "do not divide by 0"), ("two", "not a whole number")]
)
def test_a_split_that_makes_no_sense_changes_nothing(tmp_path, text, message):
    run_dir = pick.by_recipe(tmp_path, planned(4)).run_dir
    with pytest.raises(UsageError, match=message):
        pick.by_run(run_dir, CPU, [f"{ROWS}={text}"])
    assert (batch(run_dir), record.read(run_dir).split) == (Batch(4, 4, 1, 1), None)


def test_halving_is_done_once_for_each_split_of_the_recipe(tmp_path):
    """What a person has typed is no halving by itself; one row cannot be halved; without the key nothing is."""
    plan = planned(4).plan
    halving = dataclasses.replace(plan, restart=dataclasses.replace(plan.restart, on_oom="halve"))
    known = record.new("demo", {})
    assert resplit.may_shrink(plan, known) is None
    assert resplit.may_shrink(halving, known) == 2
    assert resplit.may_shrink(halving, dataclasses.replace(known, split=Split(8, 4, "person"))) == 2
    assert resplit.may_shrink(halving, dataclasses.replace(known, split=Split(8, 4, "policy"))) is None
    assert resplit.may_shrink(halving, dataclasses.replace(known, split=Split(2, 1, "policy"))) == 2
    one = dataclasses.replace(halving, batch=Batch(4, 1, 4, 1))
    assert resplit.may_shrink(one, known) is None


def test_the_line_on_screen_says_what_differs_from_the_recipe(tmp_path):
    """A run that silently trains with another split would puzzle whoever measures its speed."""
    known = dataclasses.replace(record.new("demo", {}), split=Split(4, 2, "policy"))
    assert resplit.told(planned(2, 2).plan, known) == (
        "2 rows at a time, 2 passes per step, not the recipe's 4 at a time "
        "(`training.on_oom: halve`: with 4 this run ran out of memory)"
    )
    assert resplit.told(planned(4).plan, known) is None
