"""What an adapter is merged into: chosen by the plan, or refused before anything runs."""

import pytest

from launcher.cluster.schema import Cluster, Gpu
from launcher.errors import RecipeErrors
from tests.support import planning

QLORA = "quantization={load_in_4bit: true}"
MERGE = "export.merge=true"


def test_a_merge_is_a_stage_behind_the_training(tmp_path):
    """On the CPU, with its threads, on one machine; the command names the base."""
    gpus = Cluster("local", Gpu("H100", 79.6, 79.6), gpus_per_node=2, cpus_per_node=8, memory_gib=64.0)
    plan = planning.plan(tmp_path, MERGE, cluster=gpus)
    *_, train, export = plan.jobs
    assert (export.stage, export.depends_on, export.nodes, export.processes) == ("export", (train.stage,), 1, 1)
    assert export.argv == ("{python}", "-m", "launcher.worker.stage", "{run_dir}", "export", "original")
    assert export.env == {"OMP_NUM_THREADS": "8", "CUDA_VISIBLE_DEVICES": ""}
    assert [job.stage for job in planning.plan(tmp_path).jobs] == ["prepare", "train"]


@pytest.mark.parametrize(
    ("sets", "base"),
    [
        ((), "original"),
        ((QLORA,), "quantized"),
        ((QLORA, "export.merge_base=original"), "original"),
        (("export.merge_base=original",), "original"),
        (("peft.init_lora_weights=olora",), "original"),
        ((QLORA, "peft.init_lora_weights=gaussian"), "quantized"),
    ],
)
def test_the_base_is_what_was_trained_on_unless_the_recipe_says_otherwise(tmp_path, sets, base):
    """So that the merged model is the one that was measured; decided also for a later `launcher export`."""
    for merge in ((), (MERGE,)):
        plan = planning.plan(tmp_path, *sets, *merge)
        assert (plan.export.base, plan.recipe["export"]["merge_base"]) == (base, base)
        chosen = [decision.value for decision in plan.decisions if decision.key == "export.merge_base"]
        assert chosen == ([base] if merge and "merge_base" not in str(sets) else [])


@pytest.mark.parametrize(
    ("sets", "says"),
    [
        (("peft=null", MERGE), ("export.merge", "there is no adapter: all weights are trained", "remove `merge`")),
        (("peft=null", "export.merge_base=original"), ("export.merge_base", "there is no adapter", "remove `merge_base`")),
        (("export.merge_base=quantized",), ("export.merge_base", "the base is not quantized", "write `original`, or remove `merge_base`")),
    ],
)  # fmt: skip
def test_a_merge_that_cannot_give_the_trained_model_is_refused(tmp_path, sets, says):
    """Before the training, not behind it."""
    with pytest.raises(RecipeErrors) as caught:
        planning.plan(tmp_path, *sets)
    (error,) = caught.value.errors
    key, message, hint = says
    assert (error.key, error.hint) == (key, hint)
    assert error.message.startswith(message)


def test_a_run_may_add_the_merge_later(tmp_path):
    """What becomes of the result does not change the training."""
    assert planning.plan(tmp_path).identity == planning.plan(tmp_path, MERGE).identity
