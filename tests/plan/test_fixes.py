"""Each suggested change is tried as a person would: written behind the recipe, planned anew, and it fits."""

import pytest

from launcher.cluster.named import load as named
from launcher.errors import LauncherError
from launcher.plan.facts import gather
from launcher.plan.make import make_plan
from launcher.recipe.load import load_recipe
from launcher.recipe.shipped import shipped
from tests.support import planning, tiny

RECIPES = sorted(path.stem for path in shipped("recipes").glob("*.yaml"))
GPUS = ("RTX4090", "A6000", "A100-80GB", "H200")
COUNTS = (1, 2, 8)


def planned(recipe: str, on: str, sets=()):
    """The plan of a shipped recipe on named hardware; None where the recipe itself refuses it."""
    loaded = load_recipe(shipped("recipes") / f"{recipe}.yaml", sets)
    cluster = named(on)
    try:
        return make_plan(loaded, cluster, gather(loaded, cluster)).plan
    except LauncherError:
        return None


@pytest.fixture(autouse=True)
def _data_and_models(tmp_path, monkeypatch):
    tiny.jsonl(tmp_path / "gsm8k" / "train.jsonl", [{"question": "1+1", "answer": "2"}] * 100)
    monkeypatch.setenv("LAUNCHER_DATA", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", "/nowhere")


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_fix_of_every_recipe_fits_on_every_gpu(recipe):
    """4 kinds of GPU × 1, 2 and 8 of them. A fix that fails in turn is worse than none."""
    for gpu in GPUS:
        for count in COUNTS:
            on = f"{gpu}x{count}"
            plan = planned(recipe, on)
            found = plan.prediction if plan else None
            for fix in found.fixes if found else ():
                other = planned(recipe, on, fix.sets)
                assert other, (on, fix)
                assert other.prediction, (on, fix)
                assert other.prediction.verdict == fix.verdict == "fits", (on, fix)
                assert other.prediction.memory.total == fix.memory, (on, fix)


@pytest.mark.parametrize("recipe", RECIPES)
def test_what_fits_has_no_fixes_and_what_does_not_mostly_has(recipe):
    """A 72 B model on one GPU of 24 GB may have none."""
    for gpu in GPUS:
        plan = planned(recipe, f"{gpu}x8")
        if plan and plan.prediction:
            assert bool(plan.prediction.fixes) is (plan.prediction.verdict != "fits"), gpu


def test_the_cheapest_fix_comes_first_and_shorter_rows_last():
    """What leaves the training alone stands before what trains something else, and that before what cuts the data."""
    order = [0 if "sharding" in fix.sets[0] or "training" in fix.sets[0] else 1 for fix in fixes("H100x1")]
    assert order == sorted(order)
    assert order[0] == 0
    assert order[-1] == 1


def test_weights_in_16_bits_with_states_in_8_are_offered_for_full_fine_tuning():
    """8.19 G parameters × (2 + 2 + 2) bytes are 45.8 GiB at most: on 79 GiB without host memory. One rank needs no FSDP2."""
    wanted = ("model.dtype=bfloat16", "training.optim=paged_adamw_8bit", "sharding.strategy=ddp")
    (found,) = [fix for fix in fixes("H100x1") if fix.sets == wanted]
    assert "rounds" in found.reason
    assert "`auto`" not in found.reason, "it is written, not chosen"


def test_a_tight_plan_is_given_fewer_rows_before_host_memory():
    """32 B on two GPUs of 45 GiB lacks 1 GiB of its margin: one row fewer does it, and 190 GiB of host memory need not be there."""
    plan = planned("qwen3-32b-lora-fsdp2-sft", "L40Sx2")
    assert plan
    assert plan.prediction
    assert plan.prediction.verdict == "tight"
    assert plan.prediction.fixes[0].sets == ("training.per_device_train_batch_size=1",)


def fixes(on: str):
    """Of the 8 B full fine-tuning."""
    plan = planned("qwen3-8b-full-fsdp2-sft", on)
    assert plan
    assert plan.prediction
    return plan.prediction.fixes


def test_rows_that_are_written_are_made_fewer_and_no_fewer_than_needed(tmp_path):
    """The largest divisor of 16 that fits: one size more would not."""
    recipe = (*("training.per_device_train_batch_size=16", "training.activation_checkpointing=false"),)
    cluster = named("RTX4090x1")
    plan = planning.plan(tmp_path, *recipe, cluster=cluster)
    assert plan.prediction
    assert plan.prediction.verdict == "does not fit"
    sets = [fix.sets for fix in plan.prediction.fixes]
    (rows,) = [
        int(each[0].partition("=")[2]) for each in sets if each[0].startswith("training.per_device") and len(each) == 1
    ]
    larger = planning.plan(tmp_path, *recipe, f"training.per_device_train_batch_size={rows * 2}", cluster=cluster)
    assert larger.prediction
    assert larger.prediction.verdict != "fits"


def test_accumulation_that_is_written_is_changed_with_the_rows(tmp_path):
    """16 rows at a time, once, become 16 = rows × passes: the same step."""
    sets = ("training.per_device_train_batch_size=16", "training.gradient_accumulation_steps=1")
    plan = planning.plan(
        tmp_path, *sets, "training.activation_checkpointing=true", cluster=named("RTX4090x1"), text=LONG
    )
    assert plan.prediction
    words = dict(each.split("=") for each in plan.prediction.fixes[0].sets)
    rows, passes = (
        int(words[f"training.{key}"]) for key in ("per_device_train_batch_size", "gradient_accumulation_steps")
    )
    assert rows * passes == 16


LONG = planning.RECIPE.replace("data:\n", "data:\n  max_length: 32768\n")


def test_where_one_change_does_not_do_two_are_combined(tmp_path):
    """Both are needed, and the words of both stand there."""
    sets = ("training.per_device_train_batch_size=16", "training.activation_checkpointing=false")
    plan = planning.plan(tmp_path, *sets, cluster=named("T4x1"), text=LONG)
    assert plan.prediction
    assert any(len(fix.sets) > 1 for fix in plan.prediction.fixes)
