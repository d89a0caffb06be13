"""Where a recipe fits: by the plans of the places themselves."""

from dataclasses import replace

import pytest

from launcher.catalog.gpus import gpu
from launcher.cluster.named import load as named
from launcher.errors import UsageError
from launcher.plan.advise import COUNTS
from launcher.plan.facts import gather
from launcher.plan.make import places
from launcher.render.advice_text import advice_json, advice_text
from tests.support import planning
from tests.support.planning import CPU

ROWS = [gpu(name) for name in ("RTX4090", "A100-40GB", "H200")]
BIG = planning.RECIPE.replace("Qwen/Qwen3-0.6B", "Qwen/Qwen2.5-72B-Instruct").replace("peft: {r: 8}\n", "")


def advised(folder, *sets: str, text: str = planning.RECIPE):
    """The advice for a recipe."""
    loaded = planning.recipe(folder, text, sets)
    return places(loaded, gather(loaded, CPU), ROWS)


@pytest.fixture(scope="module")
def advice(tmp_path_factory):
    """For a recipe that says how it is spread over its own hardware."""
    sets = ("training.per_device_train_batch_size=16", "sharding.strategy=ddp", "training.optim=sgd")
    return advised(tmp_path_factory.mktemp("advice"), *sets)


def test_every_gpu_is_looked_at(advice):
    """One to eight of each; the JSON has them all. (All rows of the catalogue are left to the command line.)"""
    everywhere = {(row.name, count) for row in ROWS for count in COUNTS}
    assert {(each.gpu, each.count) for each in advice.places} == everywhere
    values = advice_json(advice)["places"]
    assert {(each["gpu"], each["count"]) for each in values} == everywhere
    assert {"verdict", "strategy", "memory", "capacity"} <= values[0].keys()


def test_what_is_said_is_what_the_plan_there_says(tmp_path, advice):
    """The same words behind `launcher plan --on`, with what was left open left out."""
    for place in advice.places[::5]:
        plan = planning.plan(tmp_path, "training.optim=sgd", cluster=named(f"{place.gpu}x{place.count}"))
        assert place.plan
        assert plan.prediction
        assert (place.plan.strategy, place.prediction) == (
            plan.strategy,
            replace(plan.prediction, fixes=(), alternatives=()),
        )


def test_what_a_recipe_says_for_its_own_hardware_is_left_open_and_named(advice):
    """Sixteen rows at a time on a small card would be no advice; the optimizer is another matter."""
    assert advice.opened == ("sharding.strategy", "training.per_device_train_batch_size")
    text = advice_text(advice, "small", "launcher run my.yaml --set sharding.strategy=ddp --set name=other")
    assert "left open for this: sharding.strategy" in text
    assert text.splitlines()[-1].startswith("NEXT      launcher plan my.yaml --set name=other --on ")
    assert text.endswith(" --set sharding.strategy=auto --set training.per_device_train_batch_size=auto\n")
    assert all(each.plan.trainer["optim"] == "sgd" for each in advice.places if each.plan)


def test_a_recipe_that_fits_nowhere_says_what_is_missing(tmp_path):
    """One row to a step is for one GPU, and 72.7e9 parameters × 16 bytes are 1,083 GiB."""
    found = advised(tmp_path, "training.global_batch_size=1", text=BIG)
    assert not found.fitting
    text = advice_text(found, "big", "launcher run big.yaml")
    assert "fits on no GPU" in text
    assert "short" in text


def test_a_model_that_is_not_known_has_no_advice(tmp_path):
    """The way on is the trace."""
    text = planning.RECIPE.replace(
        "model_name_or_path: Qwen/Qwen3-0.6B",
        "from_config: {model_type: my-own, vocab_size: 10}, tokenizer_name_or_path: Qwen/Qwen3-0.6B",
    ).replace("peft: {r: 8}\n", "")
    with pytest.raises(UsageError, match="my-own") as caught:
        advised(tmp_path, text=text)
    assert "--trace" in str(caught.value)
