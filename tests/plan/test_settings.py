"""Settings against hardware and model: what fails in the first step is refused, what costs more than expected is said."""

import json

import pytest

from launcher.catalog.gpus import gpu
from launcher.catalog.lacking import lacks
from launcher.cluster.schema import Cluster, Gpu
from launcher.errors import LauncherError
from tests.support import planning, tiny
from tests.support.planning import CPU


def node(name: str, *, wsl: bool = False) -> Cluster:
    row = gpu(name)
    kind = Gpu(row.name, round(row.memory_gib, 1), round(row.memory_gib, 1), row.bf16, row.capability)
    return Cluster("local", kind, 1, 16, 64.0, wsl=wsl)


H100, A100, T4 = node("H100"), node("A100"), node("T4")
FULL = planning.RECIPE.replace("peft: {r: 8}\n", "")
FULL_8B = FULL.replace("Qwen3-0.6B", "Qwen3-8B")


def refused(folder, *sets: str, **more) -> list[tuple[str, str, str]]:
    """Key, message and hint of each fault."""
    with pytest.raises(LauncherError) as caught:
        planning.plan(folder, *sets, **more)
    return [(error.key, error.message, error.hint) for error in caught.value.errors]


def built(**config) -> str:
    """A recipe for a model with this configuration."""
    values = json.dumps({**tiny.CONFIG, **config})
    return FULL.replace(
        "model_name_or_path: Qwen/Qwen3-0.6B", f"from_config: {values}, tokenizer_name_or_path: Qwen/Qwen3-0.6B"
    )


@pytest.mark.parametrize(
    ("cluster", "text", "sets", "optim"),
    [
        (CPU, FULL_8B, (), "adamw_torch_fused"),
        (H100, planning.RECIPE, (), "adamw_torch_fused"),
        (H100, FULL, (), "adamw_torch_fused"),  # 0.6e9 × 16 B = 8.9 GiB of 79.6
        (
            node("H200"),
            FULL_8B,
            (),
            "paged_adamw_8bit",
        ),  # 8.19e9 × (4 + 4 + 8) B = 122.0 GiB, and a tenth: 134.2 of 138.8
        (H100, FULL_8B, ("model.dtype=bfloat16",), "adamw_torch_fused"),  # 8.19e9 × (2 + 2 + 4) B = 61.0 GiB of 78.6
        (node("B200"), FULL_8B, (), "adamw_torch_fused"),  # 122.0 of 177
        (H100, FULL_8B, ("training.optim=sgd",), "sgd"),
    ],
)
def test_the_optimizer_follows_what_the_gpu_can_hold(tmp_path, cluster, text, sets, optim):
    """Weights, gradients and 8 bytes of AdamW's state per parameter beside one another; 8 bits only where they do not fit."""
    assert planning.plan(tmp_path, *sets, cluster=cluster, text=text).trainer["optim"] == optim


def test_the_reason_for_8_bits_names_the_bytes(tmp_path):
    """A reader can check it."""
    decisions = {each.key: each for each in planning.plan(tmp_path, cluster=node("H200"), text=FULL_8B).decisions}
    reason = decisions["training.optim"].reason
    assert "8 bytes of state per parameter" in reason
    assert "2 bytes, paged" in reason


def test_of_an_adapter_the_optimizer_is_not_made_small(tmp_path):
    """What its state takes stands under MEMORY; 8 bits would save nothing one would notice."""
    decisions = {each.key: each for each in planning.plan(tmp_path, cluster=H100).decisions}
    assert "of an adapter its state is small" in decisions["training.optim"].reason


def test_paging_on_a_cpu_is_said_to_do_nothing(tmp_path):
    """bitsandbytes falls back without it."""
    plan = planning.plan(tmp_path, "training.optim=paged_adamw_8bit")
    assert any("nothing to page" in warning for warning in plan.warnings)
    plan = planning.plan(tmp_path, "training.optim=paged_adamw_8bit", cluster=H100)
    assert not any("page" in warning for warning in plan.warnings)


@pytest.mark.parametrize(
    ("sets", "key"),
    [
        (("training.activation_offloading=true",), "training.activation_offloading"),
        (("training.optim=paged_ademamix_8bit",), "training.optim"),
        (
            ("training.activation_checkpointing_kwargs={offload: true}",),
            "training.activation_checkpointing_kwargs.offload",
        ),
        (("model.model_init_kwargs={use_kernels: true}",), "model.model_init_kwargs.use_kernels"),
        *(
            ((f"model.attn_implementation={name}",), "model.attn_implementation")
            for name in ("flash_attention_4", "kernels-community/flash-attn2", "sdpa_varlen", "flex_attention")
        ),
    ],
)
def test_what_only_a_gpu_can_do_is_refused_on_a_cpu(tmp_path, sets, key):
    """Upstream: an AttributeError, a RuntimeError about pinned memory, a missing package, no backward pass."""
    assert [each[0] for each in refused(tmp_path, *sets)] == [key]
    planning.plan(tmp_path, *sets, cluster=H100)


@pytest.mark.parametrize(
    ("name", "cluster", "says"),
    [
        ("flash_attention_2", T4, "capability 8.0 or more; T4 is older"),
        ("kernels-community/flash-attn2", node("V100"), "capability 8.0 or more; V100-32GB is older"),
        ("sdpa_varlen", T4, "capability 8.0 or more; T4 is older"),
        ("flash_attention_4", A100, "capability 9.0 or more; A100-80GB has 8.0"),
    ],
)
def test_kernels_for_newer_gpus_are_refused(tmp_path, name, cluster, says):
    """They fail at the first forward pass, after the model was loaded."""
    ((key, message, hint),) = refused(tmp_path, f"model.attn_implementation={name}", cluster=cluster)
    assert key == "model.attn_implementation"
    assert says in message
    assert "auto" in hint


def test_16_bit_kernels_are_refused_in_32_bits(tmp_path):
    """A flash kernel has no float32."""
    ((key, message, _),) = refused(
        tmp_path, "model.attn_implementation=sdpa_varlen", "model.dtype=float32", cluster=H100
    )
    assert key == "model.attn_implementation"
    assert "computes in 16 bits" in message


@pytest.mark.parametrize(
    ("name", "config", "says"),
    [
        ("sdpa", {"model_type": "gemma2"}, "no `sdpa` for models of type `gemma2`"),
        ("sdpa_varlen", {"model_type": "gemma2"}, "no `sdpa_varlen` for models of type `gemma2`"),
        ("flex_attention", {"model_type": "gpt2"}, "no `flex_attention` for models of type `gpt2`"),
        ("flash_attention_2", {"model_type": "mpt"}, "no `flash_attention_2` for models of type `mpt`"),
        ("flex_attention", {"attention_dropout": 0.1}, "has no dropout, and the model's configuration asks for 0.1"),
        ("sdpa_varlen", {"attention_dropout": 0.1}, "has no dropout"),
        ("flash_attention_3", {"attention_dropout": 0.1}, "has no dropout"),
    ],
)
def test_what_a_model_rules_out_is_refused(tmp_path, name, config, says):
    """Soft caps, sinks and biases are not in every kernel; dropout would be left out in silence."""
    text = built(**config)
    found = refused(tmp_path, f"model.attn_implementation={name}", cluster=H100, text=text)
    assert [says in message for _, message, _ in found] == [True]


def test_auto_takes_what_the_model_has(tmp_path):
    """transformers refuses sdpa for a model with soft caps, and so would any run of it."""
    plan = planning.plan(tmp_path, text=built(model_type="gemma2"))
    assert plan.model.attn_implementation == "eager"
    assert any("gemma2" in decision.reason for decision in plan.decisions)


def test_a_packed_gpu_run_keeps_to_what_was_tried(tmp_path):
    """The faster kernels are named, and are no default before the GPU suite has confirmed them."""
    plan = planning.plan(tmp_path, "data.packing=true", cluster=H100)
    assert plan.model.attn_implementation == "sdpa"
    assert any("sdpa_varlen" in decision.reason for decision in plan.decisions)


@pytest.mark.parametrize(
    ("sets", "cluster", "says"),
    [
        (("model.attn_implementation=eager", "data.packing=true"), CPU, "each pair of tokens of a packed row"),
        (("model.attn_implementation=flash_attention_2",), H100, "its own package, or `kernels`"),
        (("model.attn_implementation=kernels-community/flash-attn2",), H100, "needs the package `kernels`"),
        (("model.attn_implementation=sdpa_varlen", "data.packing=true"), H100, "has not been measured"),
        (("model.model_init_kwargs={use_kernels: true}",), H100, "needs the package `kernels`"),
        (("training.torch_compile=true",), CPU, "takes minutes before the first step"),
        (("training.torch_compile=true",), H100, "`pad_to_multiple_of: 128` leaves few lengths"),
        (("training.torch_compile=true", "quantization={load_in_4bit: true}"), H100, "a quantized base has not been"),
        (("training.torch_compile=true", "training.torch_compile_mode=reduce-overhead"), H100, "known to fail with"),
        (("training.torch_compile=true", "model.attn_implementation=sdpa_documents"), CPU, "torch.compile stops"),
    ],
)
def test_what_costs_more_than_expected_is_said(tmp_path, sets, cluster, says):
    """A warning of the plan, before the hour is spent."""
    assert any(says in warning for warning in planning.plan(tmp_path, *sets, cluster=cluster).warnings)


@pytest.mark.parametrize("sets", [("data.packing=true",), ("training.pad_to_multiple_of=128",)])
def test_few_shapes_are_compiled_without_a_word(tmp_path, sets):
    """Packed rows and rounded lengths leave few."""
    plan = planning.plan(tmp_path, "training.torch_compile=true", *sets, cluster=H100)
    assert not any("torch_compile" in warning for warning in plan.warnings)


def test_reentrant_checkpoints_of_an_adapter_are_refused_on_several_ranks(tmp_path):
    """DDP: `Expected to mark a variable ready only once`; on one rank, and without an adapter, they train."""
    form = "training.activation_checkpointing_kwargs={use_reentrant: true}"
    ((key, _, _),) = refused(tmp_path, form, "launch.processes=2")
    assert key == "training.activation_checkpointing_kwargs.use_reentrant"
    planning.plan(tmp_path, form)
    planning.plan(tmp_path, form, "launch.processes=2", text=FULL)


def test_a_form_of_checkpointing_turns_it_on(tmp_path):
    """On a CPU `auto` is off: the kwargs would do nothing there."""
    plan = planning.plan(tmp_path, "training.activation_checkpointing_kwargs={every_n_layers: 2}")
    assert plan.trainer["activation_checkpointing"] is True
    assert plan.trainer["activation_checkpointing_kwargs"] == {"every_n_layers": 2}


def test_a_model_that_cannot_recompute_is_not_asked_to(tmp_path):
    """transformers raises when it is; `auto` is on for other models on a GPU."""
    text = built(model_type="openai-gpt")
    assert planning.plan(tmp_path, cluster=H100, text=text).trainer["activation_checkpointing"] is False
    ((key, _, _),) = refused(tmp_path, "training.activation_checkpointing=true", cluster=H100, text=text)
    assert key == "training.activation_checkpointing"


def test_the_form_of_checkpointing_is_no_part_of_what_is_trained(tmp_path):
    """A run may go on with another one: the numbers are the same."""
    forms = ("{every_n_layers: 2}", "{use_reentrant: false}")
    plans = [planning.plan(tmp_path, f"training.activation_checkpointing_kwargs={form}") for form in forms]
    assert plans[0].identity == plans[1].identity == planning.plan(tmp_path).identity


@pytest.mark.parametrize(
    ("cluster", "expected"), [(CPU, None), (H100, "expandable_segments:True"), (node("H100", wsl=True), None)]
)
def test_gpu_memory_grows_in_place(tmp_path, cluster, expected):
    """Fewer holes where lengths differ; under WSL2 the first allocation was seen to fail with it (pytorch#192330, #112957)."""
    plan = planning.plan(tmp_path, cluster=cluster)
    assert plan.jobs[-1].env.get("PYTORCH_ALLOC_CONF") == expected
    assert "PYTORCH_ALLOC_CONF" not in plan.jobs[0].env
    assert ("PYTORCH_ALLOC_CONF" in {each.key for each in plan.decisions}) is (expected is not None)


def test_a_type_that_transformers_does_not_know_is_not_judged():
    """Its own code decides."""
    assert not lacks("qwen3", "sdpa")
    assert not lacks("my-own", "sdpa")
    assert not lacks(None, "flex")
