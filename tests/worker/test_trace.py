"""A step counted on fake tensors is what an allocator gives out for a real one, and small copies tell what a whole model needs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from launcher.plan import codec
from launcher.worker import attention
from launcher.worker.trace import extrapolate, layers
from launcher.worker.trace.__main__ import answer
from launcher.worker.trace.layers import Pattern, pattern
from launcher.worker.trace.live import LiveBytes
from launcher.worker.trace.tracing import configuration, trace, traced
from tests.worker.trace_cases import config, plan_of

MIB = 2**20
LORA = ("peft.r=8", "peft.target_modules=all-linear")
WIDE = ("data.max_length=256",)
MOE = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 64}


def test_a_storage_is_counted_once_and_until_it_is_freed() -> None:
    """1,000 floats and a view of them are 4,000 bytes; their sum is 4 more; freed, nothing is left."""
    live = LiveBytes()
    with live:
        live.enter_place("here")
        numbers = torch.zeros(1000)
        view = numbers[:10]
        total = numbers.sum()
        assert sum(live.now.values()) == 4004
        del numbers, view, total

    assert sum(live.now.values()) == 0
    assert live.peaks["here"].total == 4004


def test_sizes_are_rounded_up_as_cuda_does() -> None:
    """CUDA gives out blocks of 512 bytes: 4,000 bytes take 4,096."""
    live = LiveBytes(block=512)
    with live:
        numbers = torch.zeros(1000)

    assert sum(live.now.values()) == 4096
    del numbers


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ("aaaaaa", (Pattern(6, 0, 1), (2, 3))),
        ("dddmmmmm", (Pattern(8, 3, 1), (5, 6))),
        ("lllllglllllgll", (Pattern(14, 0, 6), (8, 14))),
        ("ababababa", (Pattern(9, 0, 2), (3, 5))),
    ],
)
def test_layers_repeat_by_their_kinds(kinds: str, expected: tuple[Pattern, tuple[int, int]]) -> None:
    """The copies end within a period as the model does: 14 layers of a period of 6 end after two, and so do 8."""
    found = pattern([(each,) for each in kinds])

    assert (found, found.copies) == expected


def test_every_second_layer_checkpointed_makes_a_period_of_two() -> None:
    """Layers that are alike are not, where every second one keeps its activations."""
    assert pattern([("a",)] * 8, every=2) == Pattern(8, 0, 2)


@pytest.mark.parametrize(
    ("sets", "made"),
    [
        ((), config("qwen3", 4)),
        (("training.activation_checkpointing=true",), config("qwen3", 4, tie_word_embeddings=True)),
        (LORA, config("qwen3_moe", 4, **MOE)),
        (("model.attn_implementation=eager",), config("gemma2", 7, sliding_window=32)),
        (
            ("training.activation_checkpointing=true", "training.activation_checkpointing_kwargs={every_n_layers: 2}"),
            config("llama", 7),
        ),
        ((*LORA, "quantization.load_in_4bit=true"), config("mistral", 4)),
    ],
    ids=["full", "checkpointed-tied", "experts-lora", "windows", "every-second", "4-bit"],
)
def test_small_copies_tell_the_whole_to_the_byte(sets: tuple[str, ...], made: dict[str, Any]) -> None:
    """Each moment's peak and the operations, from two small copies, are those of the whole model traced."""
    plan = plan_of(*sets)
    found = trace(plan, made)
    whole = traced(plan, configuration(plan, made))
    peaks = {moment: peak.total for moment, peak in extrapolate.moments(whole.peaks).items()}

    assert len(found["copies"]) == 2
    assert {moment: sum(terms.values()) for moment, terms in found["peaks"].items()} == peaks
    assert found["flops"] == extrapolate.by_phase(whole.flops)


def test_three_layers_follow_from_two_and_four() -> None:
    """Any two copies tell the layers in between."""
    plan, made = plan_of(), config("qwen3", 6)
    whole = configuration(plan, made)
    two, three, four = (traced(plan, layers.shortened(whole, number)).peaks for number in (2, 3, 4))

    class Between(Pattern):
        copies = (2, 4)

    found = extrapolate.moments(extrapolate.peaks(two, four, Between(3, 0, 1)))
    assert {name: peak.total for name, peak in found.items()} == {
        name: peak.total for name, peak in extrapolate.moments(three).items()
    }


def test_fake_and_real_tensors_are_counted_alike() -> None:
    """The count does not depend on whether there is memory behind a tensor."""
    plan, made = plan_of(*LORA), config("qwen3", 2)
    fake = extrapolate.moments(traced(plan, configuration(plan, made)).peaks)
    real = extrapolate.moments(traced(plan, configuration(plan, made), fake=False).peaks)

    assert {name: peak.total for name, peak in real.items()} == pytest.approx(
        {name: peak.total for name, peak in fake.items()}, rel=0.01
    )


def test_operations_are_those_of_torchs_counter() -> None:
    """torch's FlopCounterMode over the same step of a real model; with eager attention it misses the loss's sums alone.

    Those are the gradients of 2 × 127 hidden states and of the head, each a product of 64 by 1,024 for each of them.
    """
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import AutoModelForCausalLM
    from trl.trainer.utils import add_fused_lm_head

    plan, made = plan_of("model.attn_implementation=eager"), config("qwen3", 2)
    model = AutoModelForCausalLM.from_config(configuration(plan, made))
    add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))
    ids = torch.randint(0, 1024, (2, 128))
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids, labels=ids, fused_lm_head=True).loss.backward()

    assert sum(trace(plan, made)["flops"].values()) == counter.get_total_flops() + 2 * (2 * 254 * 64 * 1024)


def test_four_bits_hold_what_bitsandbytes_holds() -> None:
    """An adapter's base of 2 layers: 7 matrices each, 64 weights a scale, 256 scales a scale of theirs.

    A layer of 64 wide has q 64×64, k and v 32×64, o 64×64, gate and up 192×64, down 64×192: 49,152 weights in 768 scales.
    Per matrix besides: a float32 for each 256 scales (at least one), an offset, 16 values; the 256 values of a scale once.
    """
    plan = plan_of(*LORA, "quantization.load_in_4bit=true", "quantization.bnb_4bit_use_double_quant=true")
    found = trace(plan, config("llama", 2))

    scales_of_scales = 7 * 4
    expected = 2 * (768 + scales_of_scales + 7 * 4 + 7 * 16 * 4) + 256 * 4
    assert found["peaks"]["step"]["quantization"] == expected


def test_on_a_gpu_the_loss_takes_one_tile_and_no_copies_of_it() -> None:
    """LoRA on a GPU, 255 positions of 2 × 128 tokens scored: a tile of 32,768 logits each in bfloat16, hidden states (kept,
    and both gradients: float32 and bfloat16); torch's own tile of a CPU would take three times as much in float32.
    """
    plan = plan_of(*LORA, "data.packing=true", "model.dtype=bfloat16", on="H100x1")
    found = trace(plan, config("llama", 2))

    tile, hidden = 255 * 32768 * 2, 255 * 64
    assert found["peaks"]["loss"]["loss"] == pytest.approx(tile + hidden * (2 + 4 + 2), rel=0.005)


def test_an_adapter_that_exists_leaves_its_base_frozen() -> None:
    """Its sizes are not in the plan: rank 16 beside all 7 matrices of 64 and 192 (o, q: 64×64; k, v: 32×64; the rest 192×64)."""
    plan = replace(plan_of(*LORA), peft=None)
    found = trace(plan, config("llama", 2))

    trained = 2 * 16 * (2 * (64 + 64) + 2 * (32 + 64) + 3 * (192 + 64))
    assert found["peaks"]["step"]["gradients"] == 4 * trained


@pytest.mark.parametrize("name", ["flash_attention_2", "sdpa_varlen"])
def test_flash_kernels_are_traced_without_a_mask(name: str) -> None:
    """Packed on a GPU, `sdpa` keeps a mask of the whole row: 256 × 256 flags; a flash kernel keeps none."""
    plan = plan_of(*LORA, "data.packing=true", "model.dtype=bfloat16", on="H100x1")
    flash = replace(plan, model=replace(plan.model, attn_implementation=name))
    masked, without = (trace(each, config("llama", 2))["peaks"]["backward"]["activations"] for each in (plan, flash))

    assert without <= masked - 256 * 256


@pytest.mark.parametrize(
    ("made", "changed", "expected"),
    [
        (config("qwen9", 2), {}, f"transformers {transformers.__version__} cannot read this `qwen9`"),
        (config("llama", 2, num_attention_heads=3), {}, "a step of `llama` cannot be traced: "),
        (config("llama", 2), {"activation_offloading": True}, "activations in host memory are not traced"),
        (config("llama", 2, auto_map={}), {}, "a model with code of its own is not traced"),
    ],
)
def test_what_cannot_be_traced_is_told_with_its_reason(
    made: dict[str, Any], changed: dict[str, Any], expected: str
) -> None:
    """Types that are not known, steps that the model's own code refuses, and what a count of one device leaves out."""
    plan = plan_of()
    model = replace(plan.model, trust_remote_code="auto_map" in made)
    code, told = answer(
        {"plan": codec.dumps(replace(plan, model=model, trainer={**plan.trainer, **changed})), "config": made}
    )

    assert code == 4
    assert told["error"].startswith(expected)
    assert "\n" not in told["error"]
    if made.get("num_attention_heads") == 3:
        assert "is not a multiple of the number of attention heads (3)" in told["error"]  # told behind the first line


CASES: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "full": ((), {}),
    "two passes": (("training.global_batch_size=4", "training.gradient_accumulation_steps=2"), {}),
    "checkpointed": (("training.activation_checkpointing=true",), {}),
    "every second": (
        ("training.activation_checkpointing=true", "training.activation_checkpointing_kwargs={every_n_layers: 2}"),
        {},
    ),
    "packed": (("data.packing=true",), {}),
    "packed, sdpa": (("data.packing=true", "model.attn_implementation=sdpa"), {}),
    "eager": (("model.attn_implementation=eager",), {}),
    "lora": (LORA, {}),
    "lora, checkpointed": ((*LORA, "training.activation_checkpointing=true"), {}),
    "4 bits": ((*LORA, "quantization.load_in_4bit=true"), {}),
    "4 bits, checkpointed": ((*LORA, "quantization.load_in_4bit=true", "training.activation_checkpointing=true"), {}),
    "8 bits": ((*LORA, "quantization.load_in_8bit=true"), {}),
    "8-bit optimizer": (("training.optim=adamw_8bit",), {}),
    "plain adam": (("training.optim=adamw_torch",), {}),
    "sgd": (("training.optim=sgd",), {}),
    "adafactor": (("training.optim=adafactor",), {}),
    "tied": ((), {"tie_word_embeddings": True}),
    "experts": ((), {"model_type": "qwen3_moe", **MOE}),
    "gpt2": ((), {"model_type": "gpt2", "n_layer": 8, "n_embd": 256, "n_head": 4}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_peak_is_what_the_allocator_gave_out(name: str, tmp_path: Path) -> None:
    """Within 1 % of torch's CPU allocator in the second step of TRL's trainer, on a model whose layers weigh more than its head."""
    from tests.worker.allocator import measured

    attention.register()
    sets, more = CASES[name]
    plan = plan_of(*WIDE, *sets)
    made = {
        **config("qwen3", 8, hidden_size=256, intermediate_size=2048, vocab_size=2048, tie_word_embeddings=False),
        **more,
    }
    found = trace(plan, made)
    counted = max(sum(terms.values()) for terms in found["peaks"].values())
    given = measured(plan, made, tmp_path)

    print(f"{name}: {counted / MIB:.2f} MiB counted, {given / MIB:.2f} given out, {100 * (counted / given - 1):+.2f} %")
    assert counted == pytest.approx(given, rel=0.01)
