"""Strategies, offload, hybrid groups and own presets: each cell of the table plans as it says, or is refused with its reason."""

import dataclasses
import json

import pytest

from launcher.cluster.schema import Cluster, Gpu
from launcher.errors import LauncherError, RecipeErrors
from launcher.plan import compatibility
from launcher.plan.compatibility import Cell
from tests.support import planning

GPUS = Cluster("local", Gpu("H100", 79.6, 79.6), gpus_per_node=8, cpus_per_node=64, memory_gib=900.0)
METHODS = {
    "full": ("peft=null",),
    "lora": (),
    "qlora": ("quantization={load_in_4bit: true}",),
    "int8": ("quantization={load_in_8bit: true}",),
}


def sets(cell: Cell) -> tuple[str, ...]:
    strategy, _, hybrid = cell.strategy.partition(" ")
    group = ("sharding.dp_shard_size=4",) if hybrid else ()
    return (f"sharding.strategy={strategy}", f"sharding.offload={cell.offload}", *group, *METHODS[cell.method])


@pytest.mark.parametrize("cell", list(compatibility.cells()), ids=lambda cell: "-".join(dataclasses.astuple(cell)))
def test_each_cell_plans_or_is_refused_with_its_reason(tmp_path, cell):
    """No cell is empty, and none runs as something else."""
    row = compatibility.row(cell)
    if compatibility.verdict(cell) != "refused":
        plan = planning.plan(tmp_path, *sets(cell), cluster=GPUS)
        assert (plan.strategy, plan.offload, plan.method) == (cell.strategy.split()[0], cell.offload, cell.method)
        assert ("fsdp_config" in plan.trainer) == (plan.strategy == "fsdp2")
        assert ("deepspeed" in plan.trainer) == plan.strategy.startswith("zero")
        return
    with pytest.raises(LauncherError) as caught:
        planning.plan(tmp_path, *sets(cell), cluster=GPUS)
    assert f"{row.key}: {row.reason}\nhint: {row.hint}" in "\n".join(planning.faults(caught.value))
    assert row.hint
    assert row.source


@pytest.mark.parametrize(
    "lines",
    [
        ("sharding={strategy: zero2, offload: optimizer}",),
        ("sharding={strategy: fsdp2, offload: params}",),
        ("sharding={strategy: zero3, offload: params}",),
        ("sharding={strategy: ddp}", "quantization={load_in_8bit: true}"),
        ("sharding={strategy: fsdp2}", "quantization={load_in_4bit: true}"),
        ("sharding={strategy: zero2}", "quantization={load_in_8bit: true}"),
    ],
)
def test_what_the_hints_name_plans(tmp_path, lines):
    """A hint that leads to the next error is none."""
    assert planning.plan(tmp_path, *lines, cluster=GPUS).jobs


def test_fsdp2_checkpoints_activations_itself(tmp_path):
    """The trainer's own form would gather each layer once more (transformers says so)."""
    trainer = planning.plan(
        tmp_path, "sharding.strategy=fsdp2", "training.activation_checkpointing=true", cluster=GPUS
    ).trainer
    assert trainer["fsdp"] is True
    assert trainer["activation_checkpointing"] is False
    assert trainer["fsdp_config"] == {
        "version": 2,
        "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
        "reshard_after_forward": True,
        "cpu_ram_efficient_loading": True,
        "state_dict_type": "SHARDED_STATE_DICT",
        "cpu_offload": False,
        "activation_checkpointing": True,
    }


@pytest.mark.parametrize(
    "change", [("quantization={load_in_4bit: true}",), ("model.add_tokens=[<a>]", "peft=null")], ids=["codes", "rows"]
)
def test_what_is_made_of_weights_needs_them_on_every_rank(tmp_path, change):
    """A rank that read nothing would quantize, or average, nothing."""
    trainer = planning.plan(tmp_path, "sharding.strategy=fsdp2", *change, cluster=GPUS).trainer
    assert trainer["fsdp_config"]["cpu_ram_efficient_loading"] is False


@pytest.mark.parametrize(("strategy", "storage"), [("fsdp2", "bfloat16"), ("zero3", "bfloat16"), ("zero2", "uint8")])
def test_codes_are_stored_so_that_they_can_be_shared_out(tmp_path, strategy, storage):
    """FSDP2 leaves uint8 codes whole on each rank (accelerate warns)."""
    plan = planning.plan(tmp_path, f"sharding.strategy={strategy}", "quantization={load_in_4bit: true}", cluster=GPUS)
    assert plan.quantization["bnb_4bit_quant_storage"] == storage
    assert plan.recipe["quantization"]["bnb_4bit_quant_storage"] == storage


def test_hybrid_groups_reach_the_ranks_as_accelerate_names_them(tmp_path):
    """8 ranks in groups of 4 are two copies."""
    plan = planning.plan(tmp_path, "sharding={strategy: fsdp2, dp_shard_size: 4}", cluster=GPUS)
    environment = plan.jobs[1].env
    assert environment["ACCELERATE_USE_PARALLELISM_CONFIG"] == "true"
    assert environment["PARALLELISM_CONFIG_DP_SHARD_SIZE"] == "4"
    assert environment["PARALLELISM_CONFIG_DP_REPLICATE_SIZE"] == "2"
    assert plan.shard_group == 4


def test_ranks_with_weights_in_host_memory_speak_over_gloo_too(tmp_path):
    """accelerate adds it to NCCL by this variable only (accelerate/state.py)."""
    environment = planning.plan(tmp_path, "sharding={strategy: fsdp2, offload: params}", cluster=GPUS).jobs[1].env
    assert (environment["ACCELERATE_USE_FSDP"], environment["FSDP_OFFLOAD_PARAMS"]) == ("true", "true")


def test_where_the_optimizer_lies_is_no_other_training(tmp_path):
    """A run goes on with another offload, and its identity is that of plain ddp."""
    ids = {
        json.dumps(planning.plan(tmp_path, f"sharding={sharding}", cluster=GPUS).identity)
        for sharding in ("{strategy: ddp}", "{strategy: zero2, offload: optimizer}", "{strategy: fsdp2}")
    }
    assert len(ids) == 1


def test_an_accelerate_file_of_ones_own_is_read_like_a_shipped_one(tmp_path):
    """Strategy, offload and settings come from it."""
    (tmp_path / "mine.yaml").write_text(
        "distributed_type: FSDP\nfsdp_config: {fsdp_version: 2, fsdp_reshard_after_forward: false, fsdp_offload_params: true}\n"
    )
    plan = planning.plan(tmp_path, text=planning.RECIPE + "sharding: {preset: mine.yaml}\n", cluster=GPUS)
    assert (plan.strategy, plan.offload) == ("fsdp2", "params")
    assert plan.trainer["fsdp_config"]["reshard_after_forward"] is False
    decision = next(each for each in plan.decisions if each.key == "sharding.strategy")
    assert decision.reason == "named by `mine.yaml`"


@pytest.mark.parametrize("inner", [False, True])
def test_a_deepspeed_file_of_ones_own_is_read(tmp_path, inner):
    """By itself, or named by an accelerate file; what the plan decides may stand there as `auto`."""
    config = {"zero_optimization": {"stage": 2, "overlap_comm": False}, "train_batch_size": "auto", "dump_state": True}
    (tmp_path / "ds.json").write_text(json.dumps(config))
    (tmp_path / "mine.yaml").write_text(
        "distributed_type: DEEPSPEED\ndeepspeed_config: {deepspeed_config_file: ds.json}\n"
    )
    name = "mine.yaml" if inner else "ds.json"
    plan = planning.plan(tmp_path, text=planning.RECIPE + f"sharding: {{preset: {name}}}\n", cluster=GPUS)
    assert plan.strategy == "zero2"
    assert plan.trainer["deepspeed"]["zero_optimization"] == {"stage": 2, "overlap_comm": False}
    assert plan.trainer["deepspeed"]["dump_state"] is True


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("p.json", '{"zero_optimization": {"stage": 2}, "train_batch_size": 64}', "train_batch_size: `64` is not read"),
        ("p.json", '{"zero_optimization": {"stage": 4}}', "stage: `4` is no stage of ZeRO"),
        ("p.json", '{"zero_optimization": {"stage": true}}', "stage: `True` is no stage of ZeRO"),
        ("p.json", '{"zero_optimization": {"stage": 2.0}}', "stage: `2.0` is no stage of ZeRO"),
        (
            "p.json",
            '{"zero_optimization": {"stage": 3, "offload_optimizer": "cpu"}}',
            "offload_optimizer: `cpu` is not run",
        ),
        ("p.json", '{"zero_optimization": {"stage": 3, "offload_param": {"device": "nvme"}}}', "offload_param: "),
        (
            "p.yaml",
            "distributed_type: DEEPSPEED\ndeepspeed_config:\n  zero_stage: true\n",
            ":3: zero_stage: `True` is not run",
        ),
        (
            "p.yaml",
            "distributed_type: DEEPSPEED\ndeepspeed_config: {zero_stage: '2'}\n",
            "zero_stage: text `2` is not run",
        ),
        (
            "p.yaml",
            "distributed_type: DEEPSPEED\ndeepspeed_config: {deepspeed_config_file: p.yaml}\n",
            "is no DeepSpeed configuration",
        ),
        (
            "p.yaml",
            "distributed_type: DEEPSPEED\ndeepspeed_config: {zero_stage: 3, offload_param_device: banana}\n",
            "`banana` is not run",
        ),
        (
            "p.yaml",
            "distributed_type: DEEPSPEED\ndeepspeed_config: {deepspeed_config_file: x.json, zero_stage: 3}\n",
            "zero_stage: that file says it",
        ),
        ("p.yaml", "distributed_type: FSDP\n", "distributed_type: needs the section `fsdp_config`"),
        (
            "p.yaml",
            "distributed_type: FSDP\nfsdp_config: {fsdp_version: 2, fsdp_offload_params: 'false'}\n",
            "fsdp_offload_params: `false` is no switch",
        ),
        (
            "p.yaml",
            "distributed_type: FSDP\nfsdp_config: {fsdp_version: 2, fsdp_state_dict_type: FULL_STATE_DICT}\n",
            "`FULL_STATE_DICT` is not run",
        ),
        ("p.yaml", "distributed_type: MULTI_GPU\ndebug: 'true'\n", "debug: `true` is no switch"),
        ("p.json", '{"zero_optimization": ', "the preset cannot be read"),
        ("p.yaml", "distributed_type: FSDP\nfsdp_config: {fsdp_version: 1}\n", "fsdp_version: `1` is not run"),
        ("p.yaml", "distributed_type: FSDP\nfsdp_config: {fsdp_version: 2, fsdp_ofload: 1}\n", "fsdp_ofload: this key"),
        ("p.yaml", "- a\n", "the preset is no mapping"),
    ],
)
def test_a_file_of_ones_own_that_is_not_read_is_refused(tmp_path, name, text, says):
    """A setting that does nothing would be worse than an error."""
    (tmp_path / name).write_text(text)
    with pytest.raises(LauncherError, match=name.replace(".", r"\.")) as caught:
        planning.plan(tmp_path, text=planning.RECIPE + f"sharding: {{preset: {name}}}\n", cluster=GPUS)
    assert says in str(caught.value)


def test_a_preset_of_another_strategy_is_refused(tmp_path):
    """Two keys that say different things."""
    (tmp_path / "p.json").write_text('{"zero_optimization": {"stage": 3}}')
    text = planning.RECIPE + "sharding: {strategy: zero2, preset: p.json}\n"
    with pytest.raises(LauncherError, match="is a preset of `zero3`, not of `zero2`"):
        planning.plan(tmp_path, text=text, cluster=GPUS)


def test_fsdp2_on_a_cpu_is_refused(tmp_path):
    """accelerate would run ddp and say nothing (stack facts: the wrapper is DistributedDataParallel)."""
    with pytest.raises(RecipeErrors) as caught:
        planning.plan(tmp_path, "sharding.strategy=fsdp2", "launch.processes=2")
    assert [error.key for error in caught.value.errors] == ["sharding.strategy"]


FEATURES = {
    "model.add_tokens": (("model.add_tokens=[<a>]",), "zero2"),
    "peft.init_lora_weights": (("peft.init_lora_weights=pissa",), "fsdp2"),
    "peft.modules_to_save": (("peft.modules_to_save=[lm_head]",), "zero3"),
    "peft.use_dora": (("peft.use_dora=true", "quantization={load_in_4bit: true}"), "zero2"),
}


@pytest.mark.parametrize("feature", compatibility.FEATURES, ids=lambda each: each.key)
def test_what_a_strategy_cannot_do_with_an_adapter_is_refused_and_done_by_the_one_that_is_named(tmp_path, feature):
    """Seen to fail in the first step; refused before the queue."""
    lines, instead = FEATURES[feature.key]
    for strategy in feature.strategies:
        with pytest.raises(RecipeErrors) as caught:
            planning.plan(tmp_path, f"sharding.strategy={strategy}", *lines, cluster=GPUS)
        assert [error.key for error in caught.value.errors] == [feature.key]
    assert instead in feature.hint
    assert planning.plan(tmp_path, f"sharding.strategy={instead}", *lines, cluster=GPUS).jobs


@pytest.mark.parametrize(
    ("strategy", "optim"),
    [("fsdp2", "paged_adamw_8bit"), ("fsdp2", "adafactor"), ("zero2", "adafactor"), ("zero3", "adagrad")],
)
def test_optimizers_that_cannot_step_what_is_shared_out_are_refused(tmp_path, strategy, optim):
    """The hint's optimizer plans."""
    sharding = f"sharding.strategy={strategy}"
    with pytest.raises(LauncherError) as caught:
        planning.plan(tmp_path, sharding, f"training.optim={optim}", cluster=GPUS)
    assert "training.optim: " in planning.faults(caught.value)[0]
    assert planning.plan(tmp_path, sharding, "training.optim=adamw_torch_fused", cluster=GPUS).jobs


def test_what_a_preset_and_the_recipe_say_of_offload_agrees(tmp_path):
    """Neither wins in silence; what a preset moves is a decision that the plan shows."""
    (tmp_path / "ds.json").write_text('{"zero_optimization": {"stage": 3, "offload_param": {"device": "cpu"}}}')
    with pytest.raises(RecipeErrors) as caught:
        planning.plan(
            tmp_path, text=planning.RECIPE + "sharding: {preset: ds.json, offload: optimizer}\n", cluster=GPUS
        )
    assert [error.key for error in caught.value.errors] == ["sharding.offload"]
    plan = planning.plan(tmp_path, text=planning.RECIPE + "sharding: {preset: ds.json}\n", cluster=GPUS)
    assert plan.recipe["sharding"]["offload"] == plan.offload == "params"
    assert ("sharding.offload", "params") in [(each.key, each.value) for each in plan.decisions]


def test_a_device_of_none_in_a_preset_gives_way_to_the_recipe(tmp_path):
    """The recipe asks for it by name."""
    (tmp_path / "ds.json").write_text('{"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "none"}}}')
    text = planning.RECIPE + "sharding: {preset: ds.json, offload: optimizer}\n"
    zero = planning.plan(tmp_path, text=text, cluster=GPUS).trainer["deepspeed"]["zero_optimization"]
    assert zero["offload_optimizer"]["device"] == "cpu"


def test_forms_of_checkpointing_that_fsdp2_does_not_read_are_refused(tmp_path):
    """They would be dropped in silence."""
    with pytest.raises(RecipeErrors) as caught:
        planning.plan(
            tmp_path,
            "sharding.strategy=fsdp2",
            "training.activation_checkpointing_kwargs={every_n_layers: 2}",
            cluster=GPUS,
        )
    assert [error.key for error in caught.value.errors] == ["training.activation_checkpointing_kwargs"]
