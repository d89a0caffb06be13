"""The arithmetic of the GPU suite against published sizes and figures worked out by hand."""

from dataclasses import replace

import pytest

from benchmarks.gpu.arithmetic import GIB, expected_memory_gib, flops_per_token, predicted_setup
from benchmarks.gpu.setup import Scale, Setup
from benchmarks.gpu.shapes import LLAMA31_8B, QWEN3_8B, QWEN3_14B, QWEN3_32B, QWEN25_72B, TINY
from launcher.predict.setup import Checkpointing


@pytest.mark.parametrize(
    ("shape", "published"),
    [(LLAMA31_8B, 8_030_261_248), (QWEN3_8B, 8_190_735_360), (QWEN3_14B, 14_768_307_200), (QWEN25_72B, 72_706_203_648)],
    ids=lambda value: getattr(value, "name", ""),
)
def test_matrices_are_all_but_a_ten_thousandth_of_a_model(shape, published):
    """Norms and biases are left out of the arithmetic; the rest is what the hub's safetensors totals count."""
    assert shape.linear + shape.embeddings == pytest.approx(published, rel=1e-4)


@pytest.mark.parametrize(
    ("shape", "millions"), [(LLAMA31_8B, 41.9), (QWEN3_8B, 43.6), (QWEN3_14B, 64.2), (QWEN3_32B, 134.2)]
)
def test_rank_16_on_all_linear_layers_has_the_known_number_of_parameters(shape, millions):
    """41.9 M for Llama-3.1-8B is what peft prints for r 16 on the seven projections (16 × 32 × 81,920)."""
    assert shape.adapter(16) / 1e6 == pytest.approx(millions, abs=0.05)


def test_training_flops_are_six_or_four_per_parameter_and_causal_attention():
    """Llama-3.1-8B by hand: 6.979 G linear + 0.525 G head; attention 6 × 32 layers × 4,096 wide × 4,096 of context."""
    attention = 6 * 32 * 4096 * 4096
    matrices = 6_979_321_856 + 128_256 * 4096

    assert flops_per_token(Setup(LLAMA31_8B, "full"), 4096) == 6 * matrices + attention
    assert flops_per_token(Setup(LLAMA31_8B, "lora"), 4096) == 4 * matrices + 6 * 41_943_040 + attention


def test_the_memory_that_is_expected_is_the_planners():
    """4 + 0.127 bits for a weight (QLoRA, section 3), embedding and head in bfloat16: 5.31 GiB for Llama-3.1-8B, and its adapters."""
    found = expected_memory_gib(Setup(LLAMA31_8B, "qlora"))
    adapter = 2 * 41_943_040 / GIB

    assert found["weights"] + found["quantization"] - adapter == pytest.approx(5.31, abs=0.01)
    assert found["total"] == pytest.approx(sum(size for term, size in found.items() if term != "total"), abs=0.01)
    assert not {"context", "fragmentation"} & set(found)


def test_the_suites_settings_reach_the_planners_formula():
    """Checkpointing's form, adapters of bfloat16 on a 4-bit base, and the smoke mode's CPU."""
    setup = Setup(LLAMA31_8B, "qlora", packing=True, checkpointing_kwargs=(("every_n_layers", 2),), rank=8)
    found, small = predicted_setup(setup), predicted_setup(setup, smoke=True)

    assert found.checkpointing == Checkpointing(every_n_layers=2)
    assert found.adapter is not None
    assert (set(found.adapter.ranks.values()), found.adapter.dtype) == ({8}, "bfloat16")
    assert (found.device, found.precision, small.device, small.precision) == ("cuda", "bfloat16", "cpu", "float32")
    assert predicted_setup(replace(setup, checkpointing=False)).checkpointing is None


def test_the_smoke_mode_changes_sizes_and_nothing_else():
    """It is worth something only while it takes the same way through the code."""
    setup = Setup(QWEN3_8B, "qlora", packing=True, attention="sdpa_documents", checkpointing=False, optim="adamw_8bit")
    small = Scale(smoke=True).fit(setup)

    assert (small.shape, small.dtype) == (TINY, "float32")
    changed = {name for name, value in vars(setup).items() if getattr(small, name) != value}
    assert changed == {"shape", "dtype", "rows", "max_length", "rank"}
    assert Scale(smoke=False).fit(setup) is setup
