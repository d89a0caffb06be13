"""Whether a plan fits: thresholds by arithmetic, what counts as free, and what a prediction must not change."""

import dataclasses
import json

import pytest

from launcher.cluster.named import load as named
from launcher.cluster.schema import Cluster, Gpu
from launcher.plan import codec, fit, split
from tests.support import planning
from tests.support.planning import CPU

GIB = 2**30


def gpus(free_gib: float, number: int = 1) -> Cluster:
    """H100s with so much memory free."""
    return Cluster("local", Gpu("H100", 79.6, free_gib), number, cpus_per_node=16, memory_gib=256.0)


@pytest.mark.parametrize(
    ("needed", "capacity", "verdict"),
    [
        (1000, 1100, "fits"),  # 1000 + a tenth = 1100
        (1000, 1099, "tight"),
        (1000, 1000, "tight"),
        (1001, 1000, "does not fit"),
    ],
)
def test_a_tenth_must_be_free_beside_what_is_needed(needed, capacity, verdict):
    """The predictor's worst error is a tenth: with less to spare, only the run itself can tell."""
    assert fit.verdict(needed, capacity) == verdict


@pytest.mark.parametrize(("needed", "capacity", "missing"), [(1000, 1100, 0), (1000, 1000, 100), (2000, 1000, 1200)])
def test_what_is_missing_counts_the_tenth(needed, capacity, missing):
    """2000 × 1.1 - 1000 = 1200."""
    assert fit.missing(needed, capacity) == missing


def test_capacity_is_what_is_free_and_not_what_is_printed_on_the_card():
    """A desktop holds 1.5 of 24 GiB; each rank has a GPU of its own."""
    busy = Cluster("local", Gpu("RTX 4090", 24.0, 22.5), 2, 16, 64.0)
    assert fit.capacity(busy, 2) == round(22.5 * GIB)


def test_of_a_named_gpu_the_driver_keeps_a_part():
    """24,564 MiB = 23.99 GiB; less one part in a hundred and a quarter: 23.99 × 0.99 - 0.25 = 23.5."""
    assert fit.capacity(named("RTX4090x1"), 1) == round(23.5 * GIB)


def test_ranks_of_a_cpu_share_its_memory():
    """24 GiB, less one for the system, over two ranks, each of which takes one for itself; where the kernel says what is
    available, that counts."""
    assert fit.capacity(CPU, 2) == round((23.0 / 2 - 1) * GIB)
    assert fit.capacity(dataclasses.replace(CPU, free_memory_gib=8.0), 2) == 3 * GIB


def test_without_known_memory_nothing_is_predicted(tmp_path):
    """A profile may not say how much a node has."""
    plan = planning.plan(tmp_path, cluster=dataclasses.replace(CPU, memory_gib=0.0, name="alpha:cpu"))
    assert plan.prediction is None
    assert "`alpha:cpu`" in (plan.unpredicted or "")


def test_a_model_that_is_not_known_is_not_predicted(tmp_path):
    """The sentence says which type it is; the run may still be started."""
    text = planning.RECIPE.replace(
        "model_name_or_path: Qwen/Qwen3-0.6B",
        "from_config: {model_type: my-own, vocab_size: 10}, tokenizer_name_or_path: Qwen/Qwen3-0.6B",
    ).replace("peft: {r: 8}\n", "")
    plan = planning.plan(tmp_path, text=text)
    assert plan.prediction is None
    assert "`my-own`" in (plan.unpredicted or "")
    assert fit.refusal(plan) is None


def test_a_prediction_reads_back_as_itself(tmp_path):
    """Its mappings and its fixes too."""
    plan = planning.plan(tmp_path, "training.per_device_train_batch_size=16", cluster=gpus(4.0))
    assert plan.prediction
    assert plan.prediction.fixes
    assert codec.loads(codec.dumps(plan)) == plan


def test_free_memory_changes_no_identity(tmp_path):
    """A run must go on when a browser is open that was closed before; its strategy and optimizer stay what they were."""
    full = planning.RECIPE.replace("peft: {r: 8}\n", "")  # 8.9 GiB of weights, gradients and moments
    plans = [planning.plan(tmp_path, cluster=gpus(free, 2), text=full) for free in (78.0, 9.0, 3.0)]
    assert len({json.dumps(plan.identity) for plan in plans}) == 1
    assert len({(plan.strategy, plan.offload, plan.trainer["optim"]) for plan in plans}) == 1
    assert len({plan.prediction.capacity for plan in plans if plan.prediction}) == 3


def test_another_split_has_no_prediction(tmp_path):
    """The one of the plan was for other rows at a time."""
    plan = planning.plan(tmp_path, "training.per_device_train_batch_size=4", cluster=gpus(78.0))
    assert split.with_rows(plan, 2, "asked").prediction is None


def test_what_is_moved_to_host_memory_must_have_room_there(tmp_path):
    """0.6e9 parameters × 16 bytes of master weights, moments and gradients are 8.9 GiB, and a process is 3."""
    full = planning.RECIPE.replace("peft: {r: 8}\n", "")
    sets = ("sharding.strategy=zero2", "sharding.offload=optimizer")
    verdicts = []
    for memory_gib in (8.0, 64.0):
        cluster = dataclasses.replace(gpus(78.0), memory_gib=memory_gib)
        found = planning.plan(tmp_path, *sets, cluster=cluster, text=full).prediction
        assert found
        verdicts.append(found.verdict)
    assert verdicts == ["does not fit", "fits"]


def test_a_refusal_names_what_is_needed_and_what_helps(tmp_path):
    """The words of a fix can be typed; the way past the refusal stands behind them."""
    plan = planning.plan(tmp_path, "training.per_device_train_batch_size=16", cluster=gpus(4.0))
    fault = fit.refusal(plan)
    assert fault is not None
    assert fault.exit_code == 3
    assert "4.0 GiB are free" in fault.message
    assert "--set training.per_device_train_batch_size=" in (fault.hint or "")
    assert "--anyway" in (fault.hint or "")
