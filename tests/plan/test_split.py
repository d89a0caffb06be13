"""The split of an optimizer step into forward passes, and what is advised when memory does not suffice."""

import pytest

from launcher.errors import UsageError
from launcher.plan import codec, split
from launcher.plan.types import Batch
from tests.support import tiny


@pytest.mark.parametrize(
    ("per_device", "accumulation", "rows"),
    [(8, 1, 4), (2, 8, 1), (6, 1, 3), (3, 1, 1), (5, 4, 2), (9, 1, 3), (7, 1, 1), (1, 16, None)],
)
def test_half_the_rows_or_the_next_number_below_that_divides(per_device, accumulation, rows):
    """What one device takes per step stays: 5 × 4 rows are 2 × 10, and 3 × 1 only 1 × 3."""
    assert split.smaller(Batch(per_device * accumulation, per_device, accumulation, 1)) == rows


def test_the_same_rows_per_step_in_smaller_passes():
    """Batch, trainer and resolved recipe say the same; all else of the plan stays, and it survives its file."""
    before = tiny.plan(global_size=16, world_size=2)
    after = split.with_rows(before, 2, "because")
    assert after.batch == Batch(16, 2, 4, 2)
    assert (after.trainer["per_device_train_batch_size"], after.trainer["gradient_accumulation_steps"]) == (2, 4)
    assert after.recipe["training"] == {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}
    assert [(each.key, each.value, each.reason) for each in after.decisions] == [
        ("training.per_device_train_batch_size", 2, "because"),
        ("training.gradient_accumulation_steps", 4, "global batch 16 / (2 per device × 2 ranks)"),
    ]
    assert split.with_rows(after, 1, "again").decisions[0].value == 1
    assert len(split.with_rows(after, 1, "again").decisions) == 2
    assert (after.identity, after.data, after.estimate) == (before.identity, before.data, before.estimate)
    assert codec.loads(codec.dumps(after)) == after


@pytest.mark.parametrize("rows", [0, 3, 16])
def test_rows_that_do_not_divide_are_refused_with_those_that_do(rows):
    with pytest.raises(UsageError) as caught:
        split.with_rows(tiny.plan(global_size=16, world_size=2), rows, "because")
    assert f"per_device_train_batch_size={rows}" in caught.value.message
    assert caught.value.hint == "rows that do: 1, 2, 4, 8"


def advice(**plan):
    return split.advice(tiny.plan(**plan), "demo")


def test_the_advice_is_the_smallest_change_at_the_same_result():
    """A line to type; only where nothing smaller is left does the advice cost compute, and then another training."""
    assert advice(global_size=16, world_size=2).startswith(
        "`launcher run demo --set training.per_device_train_batch_size=4` goes on with 4 rows at a time, 2 passes per step: "
        "the same 16 rows per step"
    )
    one = {"global_size": 4, "per_device": 1}
    assert "`launcher run RECIPE --set training.activation_checkpointing=true` goes on" in advice(**one)
    last = advice(**one, trainer={"activation_checkpointing": True})
    assert "in a run of its own" in last
    assert "`launcher run RECIPE --set name=tiny-short --set data.max_length=32`" in last
    assert "QLoRA" in last
    quantized = {"peft": tiny.LORA, "quantization": tiny.NF4, "trainer": {"activation_checkpointing": True}}
    assert "QLoRA" not in advice(**one, **quantized)
