"""Floating-point operations against torch's own counter on real models of many architectures, and by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import peft
import pytest
import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode
from trl.trainer.utils import add_fused_lm_head

from benchmarks.predictor.published import points
from launcher.predict.architecture import Architecture
from launcher.predict.flops import forward_flops, hardware_flops, model_flops
from launcher.predict.setup import Adapter, Checkpointing, Setup
from tests.predict.by_hand import LLAMA_8B

ROWS, LENGTH = 2, 48
SMALL = {
    "vocab_size": 256, "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
}  # fmt: skip
BERT = {
    "vocab_size": 256, "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 3, "num_attention_heads": 4,
    "type_vocab_size": 2,
}  # fmt: skip
T5 = {
    "vocab_size": 256, "d_model": 64, "d_kv": 16, "d_ff": 160, "num_layers": 3, "num_heads": 4,
    "decoder_start_token_id": 0, "pad_token_id": 0,
}  # fmt: skip
MODELS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "dense, grouped queries": ("llama", {**SMALL, "tie_word_embeddings": False}),
    "norms on queries and keys": ("qwen3", {**SMALL, "tie_word_embeddings": False}),
    "tied embeddings": ("qwen3", {**SMALL, "tie_word_embeddings": True}),
    "tied, norms behind": ("gemma3_text", {**SMALL, "sliding_window": 512}),
    "mixture of experts": (
        "qwen3_moe",
        {
            **SMALL,
            "moe_intermediate_size": 32,
            "num_experts": 8,
            "num_experts_per_tok": 2,
            "tie_word_embeddings": False,
        },
    ),
    "mixtral": ("mixtral", {**SMALL, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "biases, one matrix for q, k and v": (
        "gpt2",
        {"vocab_size": 256, "n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 128},
    ),
    "encoder": ("bert", BERT),
    "encoder-decoder": ("t5", T5),
}
DENSE = "norms on queries and keys"


def made(name: str) -> tuple[torch.nn.Module, Architecture]:
    """A real model and what is known of it. Attention is eager: the counter knows no fused kernel of the CPU."""
    kind, config = MODELS[name]
    full = transformers.AutoConfig.for_model(kind, **config)
    auto = {"bert": transformers.AutoModelForMaskedLM, "t5": transformers.AutoModelForSeq2SeqLM}
    torch.manual_seed(0)
    model = auto.get(kind, transformers.AutoModelForCausalLM).from_config(full, attn_implementation="eager")
    if "num_experts_per_tok" in config:
        model.set_experts_implementation("eager")
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    heads, head_dim = (
        (full.num_heads, full.d_kv) if kind == "t5" else (full.num_attention_heads, getattr(full, "head_dim", 16) or 16)
    )
    return model.train(), Architecture(
        kind=kind,
        hidden=full.hidden_size,
        ffn=160,
        layers=3,
        heads=heads,
        kv_heads=getattr(full, "num_key_value_heads", heads),
        head_dim=head_dim,
        vocabulary=256,
        tied=bool(full.tie_word_embeddings),
        tensors={name: tuple(weight.shape) for name, weight in model.named_parameters()},
        experts=config.get("num_experts", config.get("num_local_experts", 0)),
        experts_per_token=config.get("num_experts_per_tok", 0),
        causal=kind not in ("bert", "t5"),
        decoder_layers=3 if kind == "t5" else 0,
    )


def _added(into: Any, left: list[int], right: list[int], *_: Any, **__: Any) -> int:
    return 2 * left[0] * left[1] * right[1]


def counted(model: torch.nn.Module, *, backward: bool = False, **more: Any) -> int:
    """torch's count of a pass over full rows of random tokens."""
    ids = torch.randint(0, 256, (ROWS, LENGTH))
    # TRL's head adds up its gradients in place on a CPU, which the counter does not know.
    with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: _added}) as counter:
        loss = model(input_ids=ids, labels=ids, **more).loss
        if backward:
            loss.backward()
    return int(counter.get_total_flops())


def setup(model: Architecture, **more: Any) -> Setup:
    """A training of full rows with eager attention."""
    plain: dict[str, Any] = {
        "method": "full", "dtype": "float32", "precision": "float32", "optim": "adamw_torch",
        "rows": ROWS, "length": LENGTH, "attention": "eager", "device": "cpu",
    }  # fmt: skip
    return Setup(model=model, **{**plain, **more})


def all_pairs(model: Architecture) -> Architecture:
    """The same, but that its tokens need all others of their row: what eager attention computes anyway."""
    return replace(model, causal=False)


def with_plain_head(whole: Setup) -> float:
    """What is computed where the head is not TRL's, which has a test of its own."""
    flops = hardware_flops(whole)
    return flops.matrices + flops.attention + model_flops(whole).head


def with_adapter(model: torch.nn.Module, **more: Any) -> tuple[torch.nn.Module, Adapter]:
    """peft's adapter, and what is known of it."""
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=8, **{"target_modules": "all-linear", **more}))
    layers = {}
    for name, module in adapted.named_modules():
        layer = name.removeprefix("base_model.model.")
        if isinstance(module, peft.tuners.lora.ParamWrapper):  # nested, one for each parameter of the module
            layer = f"{layer.removesuffix('.base_layer')}.{module.parameter_name}".removesuffix(".weight")
        elif not isinstance(module, peft.tuners.lora.Linear):
            continue
        layers[layer] = module.r["default"]
    return adapted, Adapter(layers, "float32")


@pytest.mark.parametrize("name", MODELS)
def test_forward_pass_is_what_torch_counts(name: str) -> None:
    """Nine architectures, among them experts, tied embeddings, an encoder and an encoder-decoder.

    The counter sees that eager attention computes all pairs, so the model is asked for all of them here.
    """
    model, architecture = made(name)
    if architecture.decoder_layers:
        pairs = 3 * 4 * 64 * ROWS * LENGTH * (LENGTH - 1) / 2  # of three decoder layers: pairs that are not needed
        expected = forward_flops(architecture, ROWS, LENGTH).total + pairs
    else:
        expected = forward_flops(all_pairs(architecture), ROWS, LENGTH).total
    assert expected == pytest.approx(counted(model), rel=0.01)


@pytest.mark.parametrize("name", MODELS)
def test_training_of_all_weights_is_what_torch_counts(name: str) -> None:
    """Forward and backward: three products for each weight, six for each attention."""
    model, architecture = made(name)
    if architecture.decoder_layers:
        pairs = 3 * 12 * 64 * ROWS * LENGTH * (LENGTH - 1) / 2
        expected = model_flops(setup(architecture)).total + pairs
    else:
        expected = model_flops(setup(all_pairs(architecture))).total
    assert expected == pytest.approx(counted(model, backward=True), rel=0.01)


@pytest.mark.parametrize(
    "name", [DENSE, "dense, grouped queries", "tied embeddings", "tied, norms behind", "mixture of experts"]
)
def test_an_adapter_is_what_torch_counts(name: str) -> None:
    """Frozen weights need no gradient of their own, and the first block's no gradient of its input.

    Experts and routers are adapted as parameters: peft adds B·A to all of them, whatever the tokens.
    """
    model, architecture = made(name)
    adapted, adapter = with_adapter(model)
    assert set(adapter.ranks) == set(architecture.all_linear)
    counts = counted(adapted, backward=True)
    assert with_plain_head(setup(architecture, method="lora", adapter=adapter)) == pytest.approx(counts, rel=0.01)
    if not architecture.experts:
        needed = model_flops(setup(all_pairs(architecture), method="lora", adapter=adapter)).total
        assert needed == pytest.approx(counts, rel=0.01)


@pytest.mark.parametrize("targets", [["q_proj", "v_proj"], ["down_proj"], ["up_proj", "o_proj"]])
def test_an_adapter_on_few_layers_is_what_torch_counts(targets: list[str]) -> None:
    """The gradient stops before the first layer that is adapted."""
    model, architecture = made(DENSE)
    adapted, adapter = with_adapter(model, target_modules=targets)
    expected = model_flops(setup(all_pairs(architecture), method="lora", adapter=adapter)).total
    assert expected == pytest.approx(counted(adapted, backward=True), rel=0.01)


def test_an_adapter_on_late_blocks_is_what_torch_counts() -> None:
    """Blocks before the first adapted one are only passed forward."""
    model, architecture = made(DENSE)
    adapted, adapter = with_adapter(model, target_modules=["q_proj", "k_proj", "v_proj"], layers_to_transform=[2])
    expected = model_flops(setup(all_pairs(architecture), method="lora", adapter=adapter)).total
    assert expected == pytest.approx(counted(adapted, backward=True), rel=0.01)


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize("name", [DENSE, "tied, norms behind", "mixture of experts"])
def test_checkpointing_is_what_torch_counts(name: str, adapted: bool, every: int) -> None:
    """torch stops early: the last product of a block is computed again only where something behind it is saved."""
    model, architecture = made(name)
    model.activation_checkpointing_enable({"use_reentrant": False}, every_n_layers=every)
    adapter = None
    if adapted:
        model, adapter = with_adapter(model)
        model.enable_input_require_grads()
    whole = setup(
        architecture,
        method="lora" if adapted else "full",
        adapter=adapter,
        checkpointing=Checkpointing(every_n_layers=every),
    )
    assert with_plain_head(whole) == pytest.approx(counted(model, backward=True), rel=0.01)


@pytest.mark.parametrize("adapted", [False, True])
def test_the_fused_head_is_what_torch_counts(adapted: bool) -> None:
    """TRL's head computes its logits twice and leaves out the last token of each row."""
    model, architecture = made(DENSE)
    add_fused_lm_head(model)
    adapter = None
    if adapted:
        model, adapter = with_adapter(model)
    expected = hardware_flops(setup(architecture, method="lora" if adapted else "full", adapter=adapter)).total
    assert expected == pytest.approx(counted(model, backward=True, fused_lm_head=True), rel=0.01)


def test_dora_is_what_torch_counts() -> None:
    """Its norm needs the whole update B·A in each pass, however few tokens there are."""
    model, architecture = made(DENSE)
    adapted, adapter = with_adapter(model, use_dora=True)
    whole = setup(architecture, method="lora", adapter=replace(adapter, dora=True))
    assert with_plain_head(whole) == pytest.approx(counted(adapted, backward=True), rel=0.01)


def test_llama_8b_by_hand() -> None:
    """The figure that the field quotes: 6 × parameters that multiply + causal attention.

    Per layer: 4096 · (4096 + 2 · 1024 + 4096) + 3 · 4096 · 14336 = 218,103,808 parameters; 32 layers 6,979,321,856;
    head 128,256 · 4096 = 525,336,576. Times 6: 45.028 GFLOP a token.
    Attention, forward and backward: 32 layers · 12 · 4096 · (8192 + 1) / 2 = 6.443 GFLOP a token. Together 51.471 GFLOP.
    """
    whole = setup(LLAMA_8B, rows=1, length=8192, attention="flash_attention_2", device="cuda")
    assert model_flops(whole).total / 8192 == pytest.approx(51.471e9, rel=1e-4)
    # A flash kernel computes the scores again (14 instead of 12), the fused head its logits (8 instead of 6 operations).
    more = 32 * 2 * 4096 * 8193 / 2 + 2 * 525_336_576
    assert hardware_flops(whole).total / 8192 == pytest.approx(51.471e9 + more, rel=1e-3)


def test_frozen_weights_cost_two_thirds() -> None:
    """LoRA on all linear layers of Llama-3.1-8B, rank 16: 41,943,040 adapter parameters at 6, the rest at 4.

    4 · 7,504,658,432 + 6 · 41,943,040 = 30.270 GFLOP a token, and 32 · 12 · 4096 · (4096 + 1) / 2 = 3.222 for attention:
    33.49. Without the gradient of the first block's input: 2 · 4096 · 6144 and 2 · 16 · 3 · 4096 less.
    """
    ranks = dict.fromkeys(LLAMA_8B.linear, 16)
    whole = setup(
        LLAMA_8B, method="lora", adapter=Adapter(ranks, "float32"), rows=1, length=4096, attention="flash_attention_2"
    )
    by_hand = 4 * 7_504_658_432 + 6 * 41_943_040 + 32 * 12 * 4096 * 4097 / 2 - 2 * 4096 * 6144 - 2 * 16 * 3 * 4096
    assert model_flops(whole).total / 4096 == pytest.approx(by_hand, rel=1e-6)
    assert by_hand == pytest.approx(33.44e9, rel=1e-3)


def test_a_packed_row_with_a_mask_computes_all_pairs() -> None:
    """Four packed rows of 4096 are one row of 16,384: 16,384 keys for each query instead of 512 on average."""
    packed = {"rows": 4, "length": 4096, "packing": True, "document": 1023, "device": "cuda"}
    masked, apart = (hardware_flops(setup(LLAMA_8B, attention=name, **packed)) for name in ("sdpa", "sdpa_varlen"))
    assert masked.attention / apart.attention == pytest.approx(16_384 / 512)
    assert masked.matrices == apart.matrices
    assert model_flops(setup(LLAMA_8B, attention="sdpa", **packed)).attention == pytest.approx(
        32 * 12 * 4096 * 16_384 * 512
    )


def test_one_row_without_padding_is_causal_without_a_mask() -> None:
    """`sdpa` computes half of the pairs of a row that is alone; of two rows, which are padded, all."""
    one, two = (hardware_flops(setup(LLAMA_8B, attention="sdpa", rows=rows, length=1023)).attention for rows in (1, 2))
    assert two / one == pytest.approx(2 * 1023 / 512)


def test_a_window_bounds_what_a_token_looks_at() -> None:
    """Of 1,000 tokens with a window of 100, the first 100 see 1 to 100, the others 100: 100 · 101 / 2 + 900 · 100 pairs."""
    windowed = replace(LLAMA_8B, windows=(100,) * 32)
    whole = setup(windowed, attention="flash_attention_2", rows=1, length=1000)
    assert model_flops(whole).attention == pytest.approx(32 * 12 * 4096 * (5050 + 90_000))
    assert hardware_flops(whole).attention == pytest.approx(32 * 14 * 4096 * (5050 + 90_000))


def test_selective_checkpointing_keeps_attention() -> None:
    """Its result is saved, so its 4 operations a pair are not done again."""
    kinds = (Checkpointing(), Checkpointing(selective=True))
    all_again, kept = (
        hardware_flops(setup(LLAMA_8B, attention="sdpa", rows=1, length=4096, checkpointing=kind)) for kind in kinds
    )
    assert all_again.attention - kept.attention == pytest.approx(32 * 4 * 4096 * 4096 * 4097 / 2)
    assert all_again.matrices == kept.matrices


def test_the_published_count_of_another_program() -> None:
    """llm-foundry: MPT-7B at 10,643 tokens/s of a GPU and 2,048 tokens a row is 459.5 model TFLOP/s, all pairs counted.

    Its formula: 6 · parameters + 12 · layers · width · length for each token.
    """
    mpt = next(point for point in points() if point.tokens_per_s == 10643)
    needed = model_flops(replace(mpt.setup, model=all_pairs(mpt.setup.model))).total / mpt.setup.tokens
    assert needed * 10643 == pytest.approx(459.5e12, rel=0.005)


def test_an_adapter_by_the_count_of_another_program() -> None:
    """NeMo AutoModel: Llama-3-8B with LoRA at 12,473 tokens/s is 402 TFLOP/s, by two thirds of full training and all pairs.

    (6 · 7,504,658,432 + 12 · 32 · 4096 · 4096) · 2/3 = 34.3 GFLOP a token would be 428; ours, with half of the pairs, is 417.
    """
    nemo = next(point for point in points() if point.tokens_per_s == 12473)
    assert model_flops(nemo.setup).total / nemo.setup.tokens * 12473 == pytest.approx(402e12, rel=0.05)
