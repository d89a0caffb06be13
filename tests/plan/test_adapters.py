"""What an adapter cannot be on its base is refused before anything runs, and what the hint says to write is not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from launcher.cluster.schema import Cluster, Gpu
from launcher.errors import LauncherError
from tests.support import golden, planning, tiny

GPU = Cluster("local", Gpu("H100", 79.6, 79.6), gpus_per_node=1, cpus_per_node=8, memory_gib=64.0)
NF4, INT8 = "quantization={load_in_4bit: true}", "quantization={load_in_8bit: true}"


@dataclass(frozen=True)
class Case:
    """Keys that are refused together, and the keys that the hint says to write on top of them."""

    sets: tuple[str, ...]
    follows: tuple[str, ...]


START = "peft.init_lora_weights"
ENDS = "peft.modules_to_save=[embed_tokens, lm_head]"
CASES = {
    "start misspelt": Case((f"{START}=pisa",), (f"{START}=pissa",)),
    "start of another tool": Case((f"{START}=pissa_niter",), (f"{START}=pissa_niter_4",)),
    "eva": Case((f"{START}=eva",), (f"{START}=true",)),
    "corda": Case((f"{START}=corda",), (f"{START}=gaussian",)),
    "loftq": Case((f"{START}=loftq", NF4), (f"{START}=true",)),
    "lora_ga": Case((f"{START}=lora_ga",), (f"{START}=true",)),
    "orthogonal, odd rank": Case((f"{START}=orthogonal", "peft.r=5"), ("peft.r=6",)),
    "mica with dora": Case((f"{START}=mica", "peft.use_dora=true"), ("peft.use_dora=false",)),
    "pissa on nf4": Case((f"{START}=pissa", NF4), (f"{START}=gaussian",)),
    "pissa on int8": Case((f"{START}=pissa_niter_4", INT8), ("quantization=null",)),
    "olora on nf4": Case((f"{START}=olora", NF4), (f"{START}=true",)),
    "orthogonal on nf4": Case((f"{START}=orthogonal", NF4), (f"{START}=true",)),
    "mica on int8": Case((f"{START}=mica", INT8), (f"{START}=true",)),
    "pissa, rank past the narrowest layer": Case((f"{START}=pissa", "peft.r=2048"), ("peft.r=1024",)),
    "pissa on embeddings": Case(
        (f"{START}=pissa", "peft.target_modules=[q_proj, embed_tokens]"), ("peft.target_modules=[q_proj]",)
    ),
    "dora on int8, CPU": Case(("peft.use_dora=true", INT8), (NF4,)),
    "quantized layers trained whole": Case(("peft.modules_to_save=[q_proj, mlp]", NF4), ("peft.modules_to_save=[]",)),
    "head on a quantized base, CPU": Case(("peft.modules_to_save=[lm_head]", NF4), ("model.dtype=bfloat16",)),
    "bias on a quantized base, CPU": Case(("peft.bias=all", INT8), ("peft.bias=none",)),
    "tokens, one end trained whole": Case(("model.add_tokens=[<a>]", "peft.modules_to_save=[lm_head]"), (ENDS,)),
    "tokens, adapter on the embedding": Case(
        ("model.add_tokens=[<a>]", "peft.target_modules=[q_proj, embed_tokens]"), ("peft.target_modules=[q_proj]",)
    ),
    "rank of no layer": Case(("peft.rank_pattern={q_porj: 4}",), ("peft.rank_pattern={q_proj: 4}",)),
    "scale of no pattern": Case(('peft.alpha_pattern={"(": 4}',), ("peft.alpha_pattern={q_proj: 4}",)),
    "blocks of any layer": Case(("peft.layers_to_transform=[0]",), ("peft.target_modules=[q_proj, v_proj]",)),
    "block past the last": Case(
        ("peft.layers_to_transform=[0, 28]", "peft.target_modules=[q_proj]"), ("peft.layers_to_transform=[0, 27]",)
    ),
    "nothing left to adapt": Case(
        ("peft.target_modules=[q_proj]", "peft.exclude_modules=[q_proj]"), ("peft.exclude_modules=[]",)
    ),
    "all of it trained whole": Case(("peft.modules_to_save=[layers]",), ("peft.modules_to_save=[norm]",)),
}


def refused(folder, *sets: str, cluster: Cluster = planning.CPU) -> list[str]:
    try:
        planning.plan(folder, *sets, cluster=cluster)
    except LauncherError as fault:
        return [each.replace(str(folder), "DIR") for each in planning.faults(fault)]
    return []


def test_the_refusals_are_as_reviewed(tmp_path):
    """One paragraph for each case: what is wrong, and what to write."""
    told = [(name, refused(tmp_path, *case.sets)) for name, case in CASES.items()]
    assert [name for name, faults in told if not faults] == []
    golden.check("plan_errors/adapters.txt", "\n".join(f"{name}\n" + "\n".join(faults) + "\n" for name, faults in told))


@pytest.mark.parametrize("case", CASES)
def test_what_the_hint_says_is_not_refused(tmp_path, case):
    """A hint that leads to the next error is none."""
    assert refused(tmp_path, *CASES[case].sets, *CASES[case].follows) == []


@pytest.mark.parametrize("sets", [("peft.modules_to_save=[lm_head]", NF4), ("peft.bias=all", INT8), (ENDS, INT8)])
def test_a_bfloat16_base_takes_layers_trained_whole(tmp_path, sets):
    """On such GPUs TRL's bfloat16 is the type that the base computes in."""
    assert refused(tmp_path, *sets, cluster=GPU) == []
    assert refused(tmp_path, *sets) != []


def test_dora_on_int8_is_refused_on_a_cpu_alone(tmp_path):
    """There peft moves the weights to where they are, which drops their scales."""
    assert refused(tmp_path, "peft.use_dora=true", INT8, cluster=GPU) == []


def test_an_adapter_that_exists_is_judged_by_its_own_settings(tmp_path):
    """Its start would be computed from the base again when it is loaded, and then from quantized weights."""
    folder = tmp_path / "mine"
    tiny.jsonl(folder / "adapter_config.json", [{"peft_type": "LORA", "init_lora_weights": "pissa", "use_dora": True}])
    sets = (f"model.adapter_name_or_path={folder}", "peft=null")
    told = [each for each in refused(tmp_path, *sets, INT8) if "adapter_model" not in each]
    assert [each.partition(": ")[2].partition("\n")[0] for each in told] == [
        "model.adapter_name_or_path: `pissa` would change the base, and the base it leaves cannot be loaded again",
        "model.adapter_name_or_path: DoRA on an int8 base fails on a CPU: peft loses the scales of its weights",
    ]


def test_names_that_end_alike_are_told(tmp_path):
    """peft trains `input_layernorm` for `norm`, as it compares the last letters."""
    plan = planning.plan(tmp_path, "peft.modules_to_save=[norm]")
    assert (
        "peft.modules_to_save `norm` trains `input_layernorm`, `k_norm`, `post_attention_layernorm`, `q_norm` too, "
        "whose names end alike: `model.norm` is that one alone" in plan.warnings
    )
    plan = planning.plan(tmp_path, "peft.modules_to_save=[model.norm]")
    assert not [each for each in plan.warnings if "modules_to_save" in each]


def test_added_tokens_say_how_they_are_trained_and_what_it_costs(tmp_path):
    """151,936 rows of 1,024 numbers, 8 bytes for each: 1.16 GiB."""
    plan = planning.plan(tmp_path, "model.add_tokens=[<a>, <b>]")
    (decision,) = [each for each in plan.decisions if each.key == "peft.trainable_token_indices"]
    assert decision.value == "rows of 2 added tokens"
    assert decision.reason.endswith("training them takes about 1.2 GiB")


def test_arguments_of_int8_hold_nothing_of_4_bits(tmp_path):
    """BitsAndBytesConfig would keep them, and a report would show them."""
    plan = planning.plan(tmp_path, INT8)
    assert (plan.method, plan.quantization) == ("int8", {"load_in_8bit": True})


def test_layer_names_of_a_hub_model_come_from_the_weights_in_the_cache(tmp_path, monkeypatch):
    """Of a type for which nothing else tells them; what a quantizer stores beside a weight is no layer."""
    snapshot = tmp_path / "hub" / "models--me--mine" / "snapshots" / "abc"
    tiny.model(snapshot, model_type="helium")
    tensors = load_file(snapshot / "model.safetensors")
    name = "model.layers.0.self_attn.q_proj.weight"
    save_file({**tensors, f"{name}.absmax": np.zeros(4, np.float32)}, snapshot / "model.safetensors")
    tiny.jsonl(snapshot.parent.parent / "refs" / "main", []).write_text("abc")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))

    sets = ("model.model_name_or_path=me/mine", "peft.target_modules=[q_porj]", "peft.exclude_modules=[weight]")
    told = refused(tmp_path, *sets)
    assert [each.partition(": ")[2].split("\nhint: ")[0].partition(": ")[2] for each in told] == [
        "`q_porj` names no layer of this model",
        "`weight` is no module of this model",
    ]
    assert "did you mean `q_proj`?" in told[0]


def test_weights_of_a_hub_model_that_lack_biases_are_told_by_its_name(tmp_path, monkeypatch):
    """A qwen2 model has biases on q, k and v: six in two blocks, which these weights have not."""
    snapshot = tmp_path / "hub" / "models--me--mine" / "snapshots" / "abc"
    tiny.model(snapshot, model_type="qwen2")
    tiny.jsonl(snapshot.parent.parent / "refs" / "main", []).write_text("abc")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    (told,) = refused(tmp_path, "model.model_name_or_path=me/mine")
    assert (
        "me/mine lacks 6 of the weights its config.json asks for, first `model.layers.0.self_attn.q_proj.bias`" in told
    )


def test_adapters_of_experts_have_no_dropout_and_no_magnitudes(tmp_path):
    """peft 0.21 stops at both, which tests/predict/test_adapter.py holds it to; attention alone has them."""
    model = "model.model_name_or_path=Qwen/Qwen3-30B-A3B"
    told = refused(tmp_path, model, "peft.lora_dropout=0.1", "peft.use_dora=true")
    assert [each.partition(": `all")[0].rpartition(": ")[2] for each in told] == ["peft.lora_dropout", "peft.use_dora"]
    attention = "peft.target_modules=[q_proj, k_proj, v_proj, o_proj]"
    assert planning.plan(tmp_path, model, "peft.lora_dropout=0.1", "peft.use_dora=true", attention)
