"""Weights, constants and optimizer state against arithmetic written out here."""

from __future__ import annotations

import pytest

from launcher.predict import memory_states as states
from launcher.predict.setup import Adapter
from launcher.recipe.optimizers import OPTIMIZERS
from tests.predict.sizes import LLAMA_8B, SMALL, model, setup

GIB = 2**30
LINEAR_8B = 32 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336)
REST_8B = 2 * 128256 * 4096 + (2 * 32 + 1) * 4096


def test_eight_billion_parameters_in_four_bits_take_what_the_codes_and_the_rest_take():
    """Half a byte for each element of a linear layer, two bytes for embeddings, head and norms."""
    run = setup(model(LLAMA_8B), method="qlora", dtype="bfloat16")
    adapters = 2 * 16 * 32 * (2 * (4096 + 4096) + 2 * (4096 + 1024) + 3 * (4096 + 14336))

    assert states.weight_bytes(run) == LINEAR_8B // 2 + 2 * REST_8B + adapters
    assert round((LINEAR_8B // 2 + 2 * REST_8B) / GIB, 2) == 5.21


def test_double_quantization_costs_an_eighth_of_a_bit_and_plain_constants_half_a_bit():
    """8/64 + 32/(64·256) = 0.127 bits and 32/64 = 0.5 bits for each parameter (QLoRA, section 3)."""
    double = states.constant_bytes(setup(model(LLAMA_8B), method="qlora"))
    plain = states.constant_bytes(setup(model(LLAMA_8B), method="qlora", double_quant=False))

    assert double * 8 / LINEAR_8B == pytest.approx(0.127, abs=0.0005)
    assert plain * 8 / LINEAR_8B == pytest.approx(0.5, abs=0.0005)


def test_codes_and_constants_of_an_8b_model_take_the_published_5_31_gib():
    """Weights and constants together, as shared/performance tables have them for Llama-3-8B's shape."""
    run = setup(model(LLAMA_8B), method="qlora", dtype="bfloat16")
    without_adapters = LINEAR_8B // 2 + 2 * REST_8B + states.constant_bytes(run)
    assert without_adapters / GIB == pytest.approx(5.31, abs=0.01)


def test_int8_keeps_a_byte_for_each_element_and_a_scale_for_each_row():
    """LLM.int8: one float32 for each row of a matrix."""
    run = setup(method="int8", rank=8)
    rows = 4 * (256 + 128 + 128 + 256 + 768 + 768 + 256)
    assert states.constant_bytes(run) == 4 * rows


PARAMETERS = 2 * 1024 * 256 + 4 * (2 * 256 * 256 + 2 * 256 * 128 + 3 * 256 * 768 + 2 * 256) + 256


@pytest.mark.parametrize(
    ("optim", "expected"),
    [
        ("adamw_torch_fused", 8 * PARAMETERS),
        ("adamw_torch", 8 * PARAMETERS),
        ("sgd", 0),
        ("lion_32bit", 4 * PARAMETERS),
    ],
)
def test_state_of_all_parameters(optim, expected):
    """Adam keeps two copies, Lion one, plain SGD none."""
    assert states.state_bytes(setup(optim=optim)) == expected


def test_eight_bit_state_leaves_small_tensors_and_the_embedding_in_32_bits():
    """Two codes of a byte with a float32 for each 256; nine norms of 256 elements and the embedding keep eight bytes each."""
    embedding, norms = 1024 * 256, 9 * 256
    eight = PARAMETERS - embedding - norms
    tables = 2 * 256 * 4

    assert states.state_bytes(setup(optim="adamw_8bit")) == 8 * (embedding + norms) + 2 * (eight + eight // 64) + tables


def test_adafactor_keeps_a_row_and_a_column():
    """Of a matrix of m × n, m + n float32; of a vector, itself (Shazeer and Stern, 2018)."""
    layer = 2 * (256 + 256) + 2 * (256 + 128) + 3 * (256 + 768) + 2 * 256
    assert states.state_bytes(setup(optim="adafactor")) == 4 * (2 * (1024 + 256) + 4 * layer + 256)


def test_an_adapters_state_follows_rank_times_in_and_out():
    """r · (in + out) parameters beside each layer, eight bytes of Adam for float32 ones."""
    layer = 2 * (256 + 256) + 2 * (256 + 128) + 3 * (256 + 768)
    assert states.state_bytes(setup(method="lora", rank=8)) == 8 * 8 * 4 * layer


def test_foreach_needs_a_copy_of_the_state_on_a_gpu_and_two_of_a_tensor_on_a_cpu():
    """torch's AdamW without `fused`: √v of all tensors at once, or of one; the last one's result still lives then."""
    biggest = 4 * 1024 * 256
    assert states.temporary_bytes(setup(optim="adamw_torch", device="cuda")) == 4 * PARAMETERS
    assert 2 * biggest <= states.temporary_bytes(setup(optim="adamw_torch")) <= 3 * biggest
    assert states.temporary_bytes(setup()) == 0


def test_a_tied_head_is_counted_once():
    """The embedding's bytes serve both."""
    tied, untied = (states.weight_bytes(setup(model(SMALL, tie_word_embeddings=each))) for each in (True, False))
    assert untied - tied == 4 * 1024 * 256


def test_every_optimizer_that_is_offered_has_a_rule_that_agrees_with_its_row():
    """The recipe's table says bytes for each trained parameter in float32; Adafactor's rows and columns are next to nothing."""
    assert set(states.RULES) == set(OPTIMIZERS)
    for name, row in OPTIMIZERS.items():
        rule = states.RULES[name]
        assert rule.states * (rule.bits or 32) // 8 == row.state_bytes, name
        assert rule.paged == row.paged, name


def test_a_head_trained_whole_beside_an_adapter_is_a_second_head():
    """peft keeps the frozen one and trains a copy, with two moments; a tied head becomes one of its own."""
    for tied in (False, True):
        sizes = model(SMALL, tie_word_embeddings=tied)
        plain = setup(sizes, method="lora")
        assert plain.adapter is not None
        more = setup(sizes, method="lora", adapter=Adapter(plain.adapter.ranks, "float32", whole=("lm_head",)))
        assert states.weight_bytes(more) - states.weight_bytes(plain) == 4 * 1024 * 256
        assert states.state_bytes(more) - states.state_bytes(plain) == 8 * 1024 * 256
