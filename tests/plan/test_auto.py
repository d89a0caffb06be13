"""What is left open follows predicted speed among what fits; what is written stays."""

import itertools
from dataclasses import replace

import pytest

from launcher.cluster.schema import Cluster, Gpu
from launcher.plan import auto, figures, fit, speed
from launcher.plan.auto import Space
from launcher.plan.facts import gather
from launcher.plan.options import with_every, with_rows
from launcher.plan.setups import setup_of
from launcher.predict.memory import memory
from tests.support import planning
from tests.support.planning import CPU

GIB = 2**30
FULL = planning.RECIPE.replace("peft: {r: 8}\n", "")
ALL = frozenset({auto.CHECKPOINTING, auto.ROWS})


def gpus(free_gib: float, number: int = 1, total_gib: float | None = None) -> Cluster:
    """GPUs with so much memory, all of it free unless a total is given."""
    gpu = Gpu("H100", total_gib or round((free_gib + 0.25) / 0.99, 2), free_gib)
    return Cluster("local", gpu, number, cpus_per_node=16, memory_gib=256.0)


def case(folder, text=planning.RECIPE):
    """The setup of a plan on one GPU, with one row at a time of sixteen."""
    loaded = planning.recipe(folder, text, ("training.per_device_train_batch_size=1",))
    facts = gather(loaded, CPU)
    plan = planning.plan(folder, "training.per_device_train_batch_size=1", cluster=gpus(78.0), text=text)
    assert facts.model.sizes
    return setup_of(plan, facts.model.sizes, None)


@pytest.mark.parametrize("gib", [1.0, 2.5, 4.0, 6.0, 9.0, 14.0, 30.0, 78.0])
def test_the_search_finds_what_trying_everything_finds(tmp_path, gib):
    """All 15 combinations of rows and checkpointing: nothing that fits is faster by more than the search's hundredth."""
    base, capacity = case(tmp_path), round(gib * GIB)
    found = auto.search(Space(base, ALL, 16, lambda *_: ()), capacity, capacity).chosen
    every = [with_rows(with_every(base, mode), rows) for mode in (None, 2, 1) for rows in (1, 2, 4, 8, 16)]
    fitting = [each for each in every if fit.verdict(memory(each).total, capacity) == "fits"]
    assert (fit.verdict(found.needed, capacity) == "fits") is bool(fitting)
    if fitting:
        assert found.order <= min(map(speed.order, fitting)) * (1 + auto.WORTH)
        assert found.needed == memory(found.setup).total


def test_memory_is_predicted_a_few_times_and_not_for_all(tmp_path, monkeypatch):
    """`plan` must answer at once: of 15 combinations no more than 12 are looked at, whatever is free."""
    base = case(tmp_path)
    seen: list[object] = []
    monkeypatch.setattr(figures.formula, "memory", lambda setup: seen.append(setup) or memory(setup))
    for gib in (1.0, 4.0, 9.0, 78.0):
        seen.clear()
        figures.forget()
        auto.search(Space(base, ALL, 16, lambda *_: ()), round(gib * GIB), round(gib * GIB))
        assert len(seen) <= 12


def test_less_free_memory_asks_for_fewer_rows_or_for_computing_again(tmp_path):
    """Of the same GPU, whose total would do: rows and checkpointing follow what is free, strategy and optimizer do not."""
    roomy = planning.plan(tmp_path, cluster=gpus(78.0, total_gib=79.6))
    busy = planning.plan(tmp_path, cluster=gpus(4.0, total_gib=79.6))
    assert roomy.trainer["activation_checkpointing"] is False
    assert busy.prediction
    assert busy.prediction.verdict == "fits"
    assert (busy.batch.per_device, busy.trainer["activation_checkpointing"]) != (roomy.batch.per_device, False)
    assert busy.strategy == roomy.strategy == "ddp"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("training.per_device_train_batch_size", 8),
        ("training.activation_checkpointing", False),
        ("sharding.strategy", "ddp"),
        ("sharding.offload", "none"),
        ("training.optim", "adamw_torch"),
    ],
)
def test_what_is_written_is_not_moved(tmp_path, key, value):
    """Even where it does not fit: then the verdict says so, and fixes say what to write."""
    plan = planning.plan(tmp_path, f"{key}={str(value).lower()}", cluster=gpus(1.6, 2), text=FULL)
    section, _, name = key.partition(".")
    assert plan.recipe[section][name] == value
    assert key not in {each.key for each in plan.decisions}


def test_a_cpu_with_room_keeps_its_choices(tmp_path):
    """One row at a time, nothing computed again, ddp: what small recipes were tested with."""
    plan = planning.plan(tmp_path, "launch.processes=2", "data.max_length=128")
    assert (plan.strategy, plan.offload, plan.batch.per_device) == ("ddp", "none", 1)
    assert plan.trainer["activation_checkpointing"] is False
    assert "activation_checkpointing_kwargs" not in plan.trainer


def test_a_cpu_without_room_computes_again(tmp_path):
    """Between what both ways need: a gibibyte is the system's, one the program's, and a tenth must be spare."""
    kept, again = (
        planning.plan(tmp_path, f"training.activation_checkpointing={way}").prediction for way in ("false", "true")
    )
    assert kept
    assert again
    assert again.memory.total < 0.9 * kept.memory.total
    between_gib = 2 + again.memory.total * 1.11 / GIB
    plan = planning.plan(tmp_path, cluster=Cluster("local", None, 0, cpus_per_node=2, memory_gib=between_gib))
    assert plan.trainer["activation_checkpointing"] is True
    assert plan.prediction
    assert plan.prediction.verdict == "fits"


def test_several_ranks_share_a_model_that_one_cannot_hold(tmp_path):
    """0.6e9 parameters × 16 bytes are 8.9 GiB; half of that, over two ranks, fits 9 GiB with a tenth to spare."""
    plan = planning.plan(tmp_path, "training.per_device_train_batch_size=1", cluster=gpus(9.0, 2), text=FULL)
    assert plan.strategy in ("fsdp2", "zero2", "zero3")
    assert plan.trainer["optim"] == "adamw_torch_fused"
    assert plan.prediction
    assert plan.prediction.verdict == "fits"


def test_where_nothing_fits_the_ranks_share_all_the_same(tmp_path):
    """Two devices of 1 GiB: half of 8.9 GiB is too much as well, but nearer than a whole copy on each."""
    sets = ("training.per_device_train_batch_size=1", "sharding.offload=none")
    nothing = planning.plan(tmp_path, *sets, cluster=gpus(1.0, 2), text=FULL)
    whole = planning.plan(tmp_path, *sets, "sharding.strategy=ddp", cluster=gpus(1.0, 2), text=FULL)
    assert nothing.prediction and whole.prediction
    assert nothing.prediction.verdict == "does not fit"
    assert nothing.strategy != "ddp"
    assert nothing.prediction.memory.total < 0.7 * whole.prediction.memory.total


def test_host_memory_is_the_last_resort_and_must_be_known(tmp_path):
    """5 GiB hold no 8.9 of weights, gradients and moments. Of hardware that is only named, nobody knows the host memory:
    there a fix says it, and a person writes it."""
    small, sets = gpus(5.0), ("training.per_device_train_batch_size=1", "training.optim=adamw_torch_fused")
    there = planning.plan(tmp_path, *sets, cluster=small, text=FULL)
    unknown = planning.plan(tmp_path, *sets, cluster=replace(small, memory_gib=0.0), text=FULL)
    assert there.offload != "none"
    assert there.prediction
    assert there.prediction.verdict == "fits"
    assert unknown.offload == "none"
    assert unknown.prediction
    assert unknown.prediction.verdict == "does not fit"
    assert any(f"sharding.offload={there.offload}" in fix.sets for fix in unknown.prediction.fixes)


def test_the_words_of_alternatives_can_be_typed(tmp_path):
    """Each is planned as written, and needs what was said."""
    plan = planning.plan(tmp_path, cluster=gpus(78.0))
    assert plan.prediction
    rows = f"training.per_device_train_batch_size={plan.batch.per_device}"
    for each in plan.prediction.alternatives:
        sets = [*each.sets, *([] if "per_device" in each.sets[0] else [rows])]
        other = planning.plan(tmp_path, *sets, cluster=gpus(78.0))
        assert other.prediction
        if "checkpointing" in each.sets[0]:
            assert other.prediction.memory.total == each.memory, each.sets


def test_the_rule_of_thumb_orders_as_it_says(tmp_path):
    """Per step: computing again costs a third of the tokens, passes cost 512 tokens each; host memory costs most."""
    base = with_every(case(tmp_path), None)
    tokens = base.rows * base.accumulation * base.length
    assert speed.rule(base) == pytest.approx(tokens + 16 * 512)
    assert speed.rule(with_every(base, 1)) == pytest.approx(tokens * 4 / 3 + 16 * 512)
    assert speed.rule(with_rows(base, 4)) == pytest.approx(tokens + 4 * 512)
    ways = [base, with_every(base, 2), with_every(base, 1)]
    assert all(speed.rule(one) < speed.rule(other) for one, other in itertools.pairwise(ways))
