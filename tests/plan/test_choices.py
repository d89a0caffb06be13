"""What the plan chooses where the recipe says `auto`, and that a written value is never overruled."""

import pytest

from launcher.cluster.schema import Cluster, Gpu
from launcher.errors import LauncherError
from tests.support import planning
from tests.support.planning import CPU

H100 = Cluster("local", Gpu("H100", 79.6, 79.6), gpus_per_node=2, cpus_per_node=32, memory_gib=256.0)
T4 = Cluster("local", Gpu("T4", 15.0, 15.0, bf16=False), gpus_per_node=1, cpus_per_node=4, memory_gib=16.0)
FULL = planning.RECIPE.replace("peft: {r: 8}\n", "")


@pytest.mark.parametrize(
    ("cluster", "text", "dtype", "bf16", "fp16"),
    [
        (CPU, planning.RECIPE, "float32", False, False),
        (CPU, FULL, "float32", False, False),
        (H100, planning.RECIPE, "bfloat16", True, False),
        (H100, FULL, "float32", True, False),
        (T4, planning.RECIPE, "float16", False, True),
        (T4, FULL, "float32", False, True),
    ],
)
def test_number_types_follow_hardware_and_method(tmp_path, cluster, text, dtype, bf16, fp16):
    """Trained weights stay float32; a frozen base takes the 16-bit type the GPU multiplies; a CPU takes none."""
    plan = planning.plan(tmp_path, cluster=cluster, text=text)
    assert (plan.model.dtype, plan.trainer["bf16"], plan.trainer["fp16"]) == (dtype, bf16, fp16)
    assert plan.trainer["use_cpu"] is (cluster is CPU)


def test_a_written_type_is_taken_for_weights_and_products(tmp_path):
    """`dtype: float32` on a GPU means what it says: no autocast."""
    plan = planning.plan(tmp_path, "model.dtype=float32", cluster=H100)
    assert (plan.model.dtype, plan.trainer["bf16"], plan.trainer["fp16"]) == ("float32", False, False)


@pytest.mark.parametrize(("cluster", "compute"), [(CPU, "float32"), (H100, "bfloat16"), (T4, "float16")])
def test_4_bit_weights_expand_to_the_type_of_the_products(tmp_path, cluster, compute):
    """On a CPU bfloat16 is tens of times slower than float32."""
    plan = planning.plan(tmp_path, "quantization={load_in_4bit: true}", cluster=cluster)
    assert plan.method == "qlora"
    assert plan.quantization["bnb_4bit_compute_dtype"] == compute


@pytest.mark.parametrize("cluster", [CPU, H100])
def test_activations_are_kept_where_there_is_room(tmp_path, cluster):
    """Computing them again costs a third more, and 0.6 B parameters leave most of both free."""
    assert planning.plan(tmp_path, cluster=cluster).trainer["activation_checkpointing"] is False


@pytest.mark.parametrize(("text", "rate"), [(planning.RECIPE, 2e-4), (FULL, 2e-5)])
def test_the_learning_rate_depends_on_what_is_trained(tmp_path, text, rate):
    """The table of differing defaults: 2e-4 with an adapter, 2e-5 without."""
    assert planning.plan(tmp_path, text=text).trainer["learning_rate"] == rate


def test_written_values_stand_and_are_no_decisions(tmp_path):
    """A reason is given for what we chose, not for what the user wrote."""
    written = {
        "training.optim": "sgd",
        "training.learning_rate": 1e-3,
        "training.activation_checkpointing": True,
        "model.attn_implementation": "eager",
        "data.loss_on": "all",
    }
    plan = planning.plan(tmp_path, *(f"{key}={str(value).lower()}" for key, value in written.items()))
    assert not {decision.key for decision in plan.decisions} & set(written)
    assert plan.trainer["optim"] == "sgd"
    assert (plan.model.attn_implementation, plan.data.loss_on) == ("eager", "all")


def test_every_decision_says_why(tmp_path):
    """A choice without a reason cannot be argued with."""
    decisions = planning.plan(tmp_path).decisions
    assert {"device", "sharding.strategy", "training.optim", "OMP_NUM_THREADS"} <= {each.key for each in decisions}
    assert all(decision.reason for decision in decisions)


def test_threads_are_shared_between_the_ranks_of_a_cpu(tmp_path):
    """Two ranks with all cores each would slow one another down."""
    jobs = planning.plan(tmp_path, "launch.processes=2").jobs
    assert [job.env["OMP_NUM_THREADS"] for job in jobs] == ["1", "1"]


def test_processes_that_prepare_are_those_the_recipe_names(tmp_path):
    """Left out, the machine that prepares decides: it may be another than the one that trains."""
    assert "LAUNCHER_NUM_PROC" not in planning.plan(tmp_path).jobs[0].env
    assert planning.plan(tmp_path, "data.num_proc=3").jobs[0].env["LAUNCHER_NUM_PROC"] == "3"


def test_threads_that_wait_do_not_spin(tmp_path):
    """On a machine that others use too, spinning threads were measured to make tiny steps many times slower."""
    (_, alone), (_, shared) = planning.plan(tmp_path).jobs, planning.plan(tmp_path, "launch.processes=2").jobs
    assert alone.env["OMP_WAIT_POLICY"] == "PASSIVE"
    assert "OMP_WAIT_POLICY" not in shared.env


def test_the_gpus_that_were_chosen_stand_in_the_environment(tmp_path):
    """`--gpus 2` counts as nvidia-smi does; CUDA counts by speed unless told otherwise."""
    cluster = Cluster("local", Gpu("H100", 79.6, 79.6), 1, 32, 256.0, visible="2")
    train = planning.plan(tmp_path, cluster=cluster).jobs[-1]
    assert train.env["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert train.env["CUDA_VISIBLE_DEVICES"] == "2"


@pytest.mark.parametrize(
    ("sets", "cluster", "says"),
    [
        (("launch.gpus=8",), H100, "asks for 8 GPUs, `local` has 2"),
        (("launch.gpus=1",), CPU, "asks for 1 GPUs, `local` has 0"),
        (("launch.nodes=2", "launch.gpus_per_node=4"), H100, "asks for 4 GPUs, `local` has 2"),
    ],
)
def test_more_gpus_than_present_names_both_numbers(tmp_path, sets, cluster, says):
    """Training on fewer would change time, memory and perhaps the batch."""
    with pytest.raises(LauncherError) as caught:
        planning.plan(tmp_path, *sets, cluster=cluster)
    assert says in planning.faults(caught.value)[0]


def test_fewer_gpus_than_present_is_said(tmp_path):
    """An idle GPU is perhaps not meant."""
    plan = planning.plan(tmp_path, "launch.gpus=1", cluster=H100)
    assert plan.batch.world_size == 1
    assert any("1 of 2 GPUs stay idle" in warning for warning in plan.warnings)


@pytest.mark.parametrize(
    ("sets", "text", "key"),
    [
        (("model.dtype=float16",), planning.RECIPE, "model.dtype"),
        (("model.attn_implementation=flash_attention_2",), planning.RECIPE, "model.attn_implementation"),
        (("model.attn_implementation=flex_attention",), planning.RECIPE, "model.attn_implementation"),
        (("model.model_init_kwargs={device_map: auto}",), planning.RECIPE, "model.model_init_kwargs.device_map"),
        (("training.max_steps=50", "checkpoint.save_steps=60"), planning.RECIPE, "checkpoint.save_steps"),
        (("peft.target_modules=[lm_head]",), planning.RECIPE, "peft.target_modules"),
    ],
)
def test_what_cannot_train_on_a_cpu_is_refused_before_anything_runs(tmp_path, sets, text, key):
    """Each of these fails minutes later, or trains something else, when it is let through."""
    with pytest.raises(LauncherError) as caught:
        planning.plan(tmp_path, *sets, text=text)
    assert [error.key for error in caught.value.errors] == [key]


def test_float16_weights_are_not_trained_in_full(tmp_path):
    """torch's gradient scaler refuses float16 gradients."""
    with pytest.raises(LauncherError) as caught:
        planning.plan(tmp_path, "model.dtype=float16", text=FULL, cluster=T4)
    assert "model.dtype" in planning.faults(caught.value)[0]
