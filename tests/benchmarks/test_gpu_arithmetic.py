"""The arithmetic of the GPU suite against published sizes and figures worked out by hand."""

import pytest

from benchmarks.gpu.arithmetic import GIB, expected_memory_gib, flops_per_token
from benchmarks.gpu.setup import Scale, Setup
from benchmarks.gpu.shapes import LLAMA31_8B, QWEN3_8B, QWEN3_14B, QWEN3_32B, QWEN25_72B, TINY


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


def test_four_bit_weights_take_half_a_byte_and_their_constants():
    """QLoRA, section 3: 4 + 0.127 bits per weight; Llama-3.1-8B's embedding and head stay in bfloat16: 5.31 GiB in all."""
    weights = expected_memory_gib(Setup(LLAMA31_8B, "qlora"))["weights"]
    adapter = 2 * 41_943_040 / GIB

    assert weights - adapter == pytest.approx(5.31, abs=0.01)


def test_full_fine_tuning_in_float32_takes_sixteen_bytes_a_parameter_and_autocasts_copy():
    """4 weights + 4 gradients + 8 moments, and 2 for the copy in bfloat16."""
    expected = expected_memory_gib(Setup(QWEN3_8B, "full", dtype="float32"))
    states = expected["weights"] + expected["gradients"] + expected["optimizer"]

    assert states * GIB / (QWEN3_8B.linear + QWEN3_8B.embeddings) == pytest.approx(18, rel=1e-3)


def test_eight_bit_moments_take_two_bytes_but_for_the_embedding():
    """transformers registers input embeddings for 32-bit states; the rest is 2 codes, and a constant per 256 of them."""
    eight = expected_memory_gib(Setup(QWEN3_8B, "full", optim="adamw_8bit"))["optimizer"]
    embedding = 151_936 * 4096

    assert eight * GIB == pytest.approx(8 * embedding + 2.03125 * (8_190_735_360 - embedding), rel=1e-3)


def test_kept_activations_are_those_of_a_trace():
    """A fake-tensor trace of Llama-3.1-8B's layers in autocast keeps 224 KiB per token and layer."""
    setup = Setup(
        LLAMA31_8B, "full", packing=True, rows=1, max_length=1024, checkpointing=False, attention="sdpa_varlen"
    )

    assert expected_memory_gib(setup)["saved_activations"] == pytest.approx(224 * 1024 * 1024 * 32 / GIB, abs=1e-3)


def test_checkpoints_are_one_hidden_state_a_layer():
    """2 bytes × 4,096 × 32 layers per token: 262 kB for an 8B model; every second layer keeps half of that and more."""
    setup = Setup(LLAMA31_8B, "lora", packing=True, rows=1, max_length=1024)
    half = Setup(
        LLAMA31_8B, "lora", packing=True, rows=1, max_length=1024, checkpointing_kwargs=(("every_n_layers", 2),)
    )

    assert expected_memory_gib(setup)["saved_activations"] == pytest.approx(2 * 4096 * 32 * 1024 / GIB, abs=1e-3)
    assert expected_memory_gib(half)["saved_activations"] == pytest.approx(
        (2 * 4096 * 16 + 224 * 1024 * 16) * 1024 / GIB, abs=1e-3
    )


def test_the_smoke_mode_changes_sizes_and_nothing_else():
    """It is worth something only while it takes the same way through the code."""
    setup = Setup(QWEN3_8B, "qlora", packing=True, attention="sdpa_documents", checkpointing=False, optim="adamw_8bit")
    small = Scale(smoke=True).fit(setup)

    assert (small.shape, small.dtype) == (TINY, "float32")
    changed = {name for name, value in vars(setup).items() if getattr(small, name) != value}
    assert changed == {"shape", "dtype", "rows", "max_length", "rank"}
    assert Scale(smoke=False).fit(setup) is setup
