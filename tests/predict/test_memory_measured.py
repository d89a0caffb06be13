"""Predicted against counted: real trainings through the worker, every byte of the allocator."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.predictor import cases, table
from benchmarks.predictor.cases import Case
from launcher.predict.memory import memory

pytestmark = [pytest.mark.slow, pytest.mark.train]

SIZES = {"hidden_size": 128, "intermediate_size": 512, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "vocab_size": 512}  # fmt: skip
CHECKPOINTED = ("training.activation_checkpointing=true",)
CASES = {
    "full": Case(model=SIZES, length=128),
    "lora, checkpointed": Case("lora", model=SIZES, length=256, sets=CHECKPOINTED),
    "qlora": Case("qlora", model=SIZES, length=128),
    "int8, checkpointed": Case("int8", model=SIZES, length=128, sets=CHECKPOINTED),
    "padded": Case(model=SIZES, length=128, rows=2),
    "packed": Case(model=SIZES, length=128, packed=4),
    "fsdp2": Case(model=SIZES, length=64, strategy="fsdp2", ranks=2),
    "zero2": Case(model=SIZES, length=64, strategy="zero2", ranks=2),
    "zero3": Case(model=SIZES, length=64, strategy="zero3", ranks=2),
}


@pytest.mark.parametrize("name", CASES)
def test_a_real_training_takes_what_was_predicted(name: str, tmp_path: Path) -> None:
    """Within a tenth, which is the margin that `fits` asks for, and never more than a twentieth above the prediction."""
    case = CASES[name]
    peak = max(rank["peak"] for rank in cases.measured(case, tmp_path))
    predicted = memory(table.setup(case)).total
    assert -0.05 < predicted / peak - 1 < 0.10, f"predicted {predicted:,}, took {peak:,}"
