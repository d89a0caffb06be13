"""Batch arithmetic: global = per device × accumulation × world, or an error that names sizes that work."""

import itertools

import pytest

from launcher.cluster.schema import Cluster, Gpu
from launcher.errors import RecipeError
from launcher.plan.batch import nearest_multiples
from tests.support import planning

GPU = "training.global_batch_size"


def on_gpus(number: int) -> Cluster:
    return Cluster("local", Gpu("H100", 79.6, 79.6), gpus_per_node=number, cpus_per_node=16, memory_gib=128.0)


@pytest.mark.parametrize(
    ("sets", "ranks", "expected"),
    [
        (("training.per_device_train_batch_size=4",), 2, (16, 4, 2, 2)),
        (("training.gradient_accumulation_steps=2",), 2, (16, 4, 2, 2)),
        (("training.per_device_train_batch_size=4", "training.gradient_accumulation_steps=2"), 2, (16, 4, 2, 2)),
        (("training.global_batch_size=1",), 1, (1, 1, 1, 1)),
    ],
)
def test_the_open_sizes_follow_from_the_others(tmp_path, sets, ranks, expected):
    """Each product is 16 (or 1) by hand."""
    batch = planning.plan(tmp_path, *sets, cluster=on_gpus(ranks)).batch
    assert (batch.global_size, batch.per_device, batch.accumulation, batch.world_size) == expected
    assert batch.global_size == batch.per_device * batch.accumulation * batch.world_size


def test_on_a_cpu_one_row_is_taken_at_a_time(tmp_path):
    """Nothing is known of its speed, and one row needs least: 16 = 1 × 8 × 2 ranks."""
    batch = planning.plan(tmp_path, "launch.processes=2").batch
    assert (batch.global_size, batch.per_device, batch.accumulation, batch.world_size) == (16, 1, 8, 2)


def test_without_a_global_size_the_two_written_ones_give_it(tmp_path):
    """A TRL answer pasted in names these two: 3 × 5 × 2 ranks = 30 rows, not an error against a default of 16."""
    text = planning.RECIPE.replace(
        "{global_batch_size: 16}", "{per_device_train_batch_size: 3, gradient_accumulation_steps: 5}"
    )
    assert planning.plan(tmp_path, text=text, cluster=on_gpus(2)).batch.global_size == 30


@pytest.mark.parametrize(
    ("sets", "ranks", "unit", "nearest"),
    [
        ((), 3, "3 ranks", "12, 15, 18"),
        (("training.per_device_train_batch_size=5",), 1, "5 per device × 1 rank = 5", "10, 15, 20"),
        (("training.per_device_train_batch_size=4",), 8, "4 per device × 8 ranks = 32", "32, 64, 96"),
        (("training.gradient_accumulation_steps=3",), 2, "3 accumulation × 2 ranks = 6", "12, 18, 24"),
    ],
)
def test_sizes_that_do_not_divide_name_the_three_nearest_that_do(tmp_path, sets, ranks, unit, nearest):
    """Rounding silently would change the mathematics. 16 is the size asked for; the multiples are counted by hand."""
    with pytest.raises(RecipeError) as caught:
        planning.plan(tmp_path, *sets, cluster=on_gpus(ranks))
    assert unit in caught.value.message
    assert f"sizes: {nearest}" in (caught.value.hint or "")
    assert caught.value.key == GPU
    assert str(caught.value.place).endswith("small.yaml:6:31")


def test_three_sizes_that_disagree_are_refused(tmp_path):
    """4 × 3 × 2 = 24 is not 16."""
    sets = ("training.per_device_train_batch_size=4", "training.gradient_accumulation_steps=3")
    with pytest.raises(RecipeError) as caught:
        planning.plan(tmp_path, *sets, cluster=on_gpus(2))
    assert "= 24" in caught.value.message
    assert "global_batch_size: 24" in (caught.value.hint or "")


def test_the_sizes_a_hint_names_all_work(tmp_path):
    """A hint that fails in turn is worse than none."""
    for size, ranks in itertools.product((1, 7, 16, 100), (3, 8)):
        for near in nearest_multiples(size, ranks):
            batch = planning.plan(tmp_path, f"training.global_batch_size={near}", cluster=on_gpus(ranks)).batch
            assert batch.global_size == near


@pytest.mark.parametrize(
    ("size", "unit", "expected"),
    [(16, 3, (12, 15, 18)), (1, 8, (8, 16, 24)), (10, 4, (4, 8, 12)), (31, 32, (32, 64, 96))],
)
def test_nearest_multiples(size, unit, expected):
    """By hand; 4 and 16 are equally far from 10, and the smaller needs less memory."""
    assert nearest_multiples(size, unit) == expected
