"""What is predicted of a plan is what its trainer will really have."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher.plan.setups import setup_of
from launcher.plan.types import Batch, Plan
from launcher.predict.setup import Checkpointing, Setup
from tests.predict.sizes import SMALL, model
from tests.support import tiny

LLAMA = model(SMALL)


def of(**changes: Any) -> Setup:
    """The setup of a hand-made plan."""
    return setup_of(tiny.plan(**changes), LLAMA, None)


def with_trainer(plan: Plan, **trainer: Any) -> Plan:
    return replace(plan, trainer={**plan.trainer, **trainer})


def test_rows_length_and_ranks_come_from_the_batch_and_the_data():
    """Sizes of one rank's forward pass."""
    plan = replace(tiny.plan(data={"max_length": 48, "packing": True}), batch=Batch(24, 3, 4, 2))
    found = setup_of(plan, LLAMA, None)
    assert (found.rows, found.length, found.accumulation, found.ranks, found.packing) == (3, 48, 4, 2, True)
    assert found.tokens == 3 * 48


def test_rows_are_as_long_as_the_longest_that_was_counted():
    """A packed row is always as long as `max_length`; another as the longest of its batch, padded up to a multiple."""
    counted = replace(tiny.plan().estimate, longest=300, lengths=((90, 2.0), (300, 1.0)))
    padded = replace(tiny.plan(data={"max_length": 2048}), estimate=counted)
    packed = replace(tiny.plan(data={"max_length": 2048, "packing": True}), estimate=counted)
    multiple = with_trainer(padded, pad_to_multiple_of=128)
    found = [setup_of(plan, LLAMA, None) for plan in (tiny.plan(data={"max_length": 2048}), packed, padded, multiple)]
    assert [each.length for each in found] == [2048, 2048, 300, 384]
    assert [each.lengths for each in found] == [(), (), counted.lengths, counted.lengths]


def test_documents_of_a_packed_row_are_weighted_by_their_tokens():
    """3 of 100 tokens and 1 of 300: half of the 600 tokens are in each kind, so that the mean token's document has 200."""
    counted = replace(tiny.plan().estimate, longest=300, lengths=((100, 3.0), (300, 1.0)))
    plan = replace(tiny.plan(data={"max_length": 2048, "packing": True}), estimate=counted)
    assert setup_of(plan, LLAMA, None).document == 200


@pytest.mark.parametrize(
    ("trainer", "expected"),
    [({}, "float32"), ({"bf16": True}, "bfloat16"), ({"fp16": True}, "float16")],
)
def test_the_products_type_is_the_trainers(trainer, expected):
    """`bf16` and `fp16` of the trainer switch autocast on, whatever the weights are."""
    assert setup_of(with_trainer(tiny.plan(), **trainer), LLAMA, None).precision == expected


def test_forms_of_checkpointing():
    """By the trainer's own keys; FSDP2 has a key of its own."""
    plain = tiny.plan()
    on = {"activation_checkpointing": True}
    how = {"activation_checkpointing_kwargs": {"every_n_layers": 3}}
    select = {"activation_checkpointing_kwargs": {"selective": True}}
    assert setup_of(plain, LLAMA, None).checkpointing is None
    assert setup_of(with_trainer(plain, **on), LLAMA, None).checkpointing == Checkpointing()
    assert setup_of(with_trainer(plain, **on, **how), LLAMA, None).checkpointing == Checkpointing(every_n_layers=3)
    assert setup_of(with_trainer(plain, **on, **select), LLAMA, None).checkpointing == Checkpointing(selective=True)
    sharded = with_trainer(plain, fsdp_config={"activation_checkpointing": True})
    assert setup_of(sharded, LLAMA, None).checkpointing == Checkpointing()


@pytest.mark.parametrize(
    ("settings", "layers"),
    [
        ({}, 4 * 7),
        ({"target_modules": ["q_proj", "v_proj"]}, 4 * 2),
        ({"exclude_modules": ["down_proj"]}, 4 * 6),
        ({"target_modules": ["q_proj"], "layers_to_transform": [0, 2]}, 2),
        ({"target_modules": r".*\.1\.mlp\..*"}, 3),
    ],
)
def test_adapted_layers_are_those_that_peft_adapts(settings, layers):
    """`all-linear`, lists of last names, exclusions, numbers of blocks, a regular expression."""
    found = of(peft={**tiny.LORA, **settings}).adapter
    assert found is not None
    assert len(found.ranks) == layers


def test_ranks_of_their_own():
    """`rank_pattern` matches the end of a name, as in peft."""
    found = of(peft={**tiny.LORA, "rank_pattern": {"q_proj": 32, r"2\.mlp\.up_proj": 64}}).adapter
    assert found is not None
    ranks = found.ranks
    assert {ranks[f"model.layers.{block}.self_attn.q_proj"] for block in range(4)} == {32}
    assert ranks["model.layers.2.mlp.up_proj"] == 64
    assert ranks["model.layers.1.mlp.up_proj"] == 4


def test_adapters_are_float32_but_on_quantized_bases_and_under_zero3():
    """peft casts them up; TRL casts them down on a quantized base; ZeRO-3 leaves them as the base is."""
    half = {"model_plan": {"dtype": "bfloat16"}}
    plain = tiny.plan(peft=tiny.LORA, **half)
    kinds = [
        setup_of(plain, LLAMA, None),
        setup_of(tiny.plan(peft=tiny.LORA, quantization=tiny.NF4), LLAMA, None),
        setup_of(replace(plain, strategy="zero3"), LLAMA, None),
    ]
    assert [each.adapter.dtype for each in kinds if each.adapter] == ["float32", "bfloat16", "bfloat16"]


def test_constants_and_codes_of_a_quantized_base():
    """Whether constants are quantized, and whether codes can be shared out (only in a float type)."""
    plan = replace(tiny.plan(peft=tiny.LORA, quantization=tiny.NF4), strategy="fsdp2")
    shared = replace(plan, quantization={**tiny.NF4, "bnb_4bit_quant_storage": "bfloat16"})
    single = replace(plan, quantization={**tiny.NF4, "bnb_4bit_use_double_quant": False})
    assert setup_of(plan, LLAMA, None).settings["shared_codes"] is False
    assert setup_of(shared, LLAMA, None).settings["shared_codes"] is True
    assert setup_of(plan, LLAMA, None).double_quant
    assert not setup_of(single, LLAMA, None).double_quant


def test_buckets_of_a_preset_are_handed_on():
    """DeepSpeed takes its buckets whole, so their sizes are part of what is predicted."""
    plan = with_trainer(tiny.plan(), deepspeed={"zero_optimization": {"stage": 2, "reduce_bucket_size": 1000}})
    assert setup_of(replace(plan, strategy="zero2"), LLAMA, None).settings["reduce_bucket_size"] == 1000


def test_what_is_trained_beside_an_adapter(tmp_path: Path):
    """Whole modules by their last names, and a row for each added token."""
    plan = tiny.plan(peft={**tiny.LORA, "modules_to_save": ["lm_head"]}, model_plan={"add_tokens": ("<a>", "<b>")})
    found = setup_of(plan, LLAMA, None).adapter
    assert found is not None
    assert (found.whole, found.new_rows) == (("lm_head",), 2)
