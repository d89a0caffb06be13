"""Documents of a packed row attended one by one: the same losses and gradients as with a mask, and nothing between them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support import warm

CASES = "tests.worker.attention_cases"
WITHOUT_DROPOUT = {"attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0}


def against_sdpa(family: str, lengths: list[int], dtype: str = "float64", **changes: Any) -> dict[str, Any]:
    args = {"family": family, "lengths": lengths, "dtype": dtype, "changes": changes}
    return dict(warm.run(f"{CASES}:against_sdpa", args).value)


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("qwen3", {}),
        ("qwen3", {"num_key_value_heads": 4}),
        ("llama", {}),
        ("qwen2", {}),
        ("smollm3", {}),
        ("phi3", {}),
        ("olmo2", {}),
        ("granite", {}),
        ("gpt2", WITHOUT_DROPOUT),
        ("mistral", {"sliding_window": 12}),
        ("gemma3_text", {"sliding_window": 12}),
    ],
)
def test_it_is_sdpa_without_the_mask(family, changes):
    """Each family brings its own layers; the longest document fills the windows of the last two. Float64 shows the arithmetic."""
    found = against_sdpa(family, [7, 1, 12, 3, 9], **changes)

    assert found["losses"][1] == pytest.approx(found["losses"][0], abs=1e-6)
    assert found["difference"] < 1e-13
    assert found["masks"] == 0


@pytest.mark.parametrize("family", ["mistral", "gemma3_text"])
def test_a_document_longer_than_the_window_gets_its_mask(family):
    """Within a window of 8, token 12 of a document must not see its first ones."""
    found = against_sdpa(family, [7, 1, 12, 3, 9], sliding_window=8)

    assert found["losses"][1] == pytest.approx(found["losses"][0], abs=1e-6)
    assert found["difference"] < 1e-13
    assert found["masks"] == 1


@pytest.mark.parametrize("lengths", [[1, 1, 1], [1, 30], [64], [40, 2, 2, 2, 2, 2, 2, 2, 30]])
def test_loss_and_gradients_agree_in_single_precision(lengths):
    """What training computes in; the smallest, the longest and a single document are the edges."""
    found = against_sdpa("qwen3", [*lengths, 5], "float32")

    assert found["losses"][1] == pytest.approx(found["losses"][0], abs=1e-6)
    assert found["finite"]
    assert found["difference"] < 2e-6


@pytest.mark.parametrize("boundaries", [[0, 4, 10, 13], None, [0, 4, 10]], ids=["given", "missing", "of another row"])
def test_no_document_sees_another(boundaries):
    """The derivative of one document's output by another's input is zero to the last bit, also where TRL's boundaries are missing."""
    table = warm.run(f"{CASES}:leaks", {"lengths": [4, 6, 3], "boundaries": boundaries}).value

    assert [[value != 0 for value in row] for row in table] == [
        [True, False, False],
        [False, True, False],
        [False, False, True],
    ]


@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_batches_and_generation_are_those_of_sdpa(side):
    """Evaluation pads, and an answer is generated from a cache: neither has documents, and padding must stay unseen."""
    outputs = warm.run(f"{CASES}:without_packing", {"side": side}).value

    assert outputs["sdpa_documents"] == outputs["sdpa"]
    assert outputs["sdpa_varlen"] == outputs["sdpa"]


def test_one_sequence_is_that_of_sdpa():
    """A row with one document needs no mask at all, and gets none."""
    assert warm.run(f"{CASES}:one_sequence").value


@pytest.mark.parametrize(
    ("method", "checkpointing", "strategy"),
    [("full", False, "bfd"), ("full", True, "wrapped"), ("lora", True, "bfd"), ("qlora", True, "bfd_split")],
)
def test_trl_trains_with_it(method, checkpointing, strategy):
    """TRL takes the name without a word about it, losses are those of `sdpa`, and what is saved can be loaded anywhere."""
    found = warm.run(f"{CASES}:trained", {"method": method, "checkpointing": checkpointing, "strategy": strategy}).value
    theirs, ours = found["losses"]["sdpa"], found["losses"]["sdpa_documents"]

    assert len(ours) == 4
    assert ours[0] == pytest.approx(theirs[0], abs=1e-6), "before the first step"
    # later ones differ by what rounding did to the steps; TRL keeps the adapters of a quantized model in bfloat16
    assert ours == pytest.approx(theirs, abs=1e-3 if method == "qlora" else 1e-5)
    assert not [text for text in found["said"] if "attention" in text.lower() or "padding" in text.lower()]
    assert found["named in what is saved"] == 0


@pytest.mark.parametrize("autocast", [False, True], ids=["bfloat16", "autocast"])
@pytest.mark.parametrize(
    ("family", "changes", "windows"),
    [
        ("qwen3", {}, {(-1, 0)}),
        ("qwen3", {"num_key_value_heads": 4}, {(-1, 0)}),
        ("llama", {}, {(-1, 0)}),
        ("mistral", {"sliding_window": 4}, {(3, 0)}),
        ("gemma3_text", {"sliding_window": 4}, {(3, 0), (-1, 0)}),
    ],
)
def test_the_flash_kernel_is_given_documents_heads_and_windows(family, changes, windows, autocast):
    """Its kernel needs a GPU; with its definition in its place, losses and gradients are those of `sdpa` in the same type."""
    if family == "gemma3_text":
        changes = {**changes, "layer_types": ["sliding_attention", "full_attention"]}
    found = dict(warm.run(f"{CASES}:varlen", {"family": family, "autocast": autocast, "changes": changes}).value)
    assert {tuple(window) for window in found["calls"]} == windows
    assert len(found["calls"]) == 2, "one call for each layer"
    assert found["losses"][1] == pytest.approx(found["losses"][0], rel=2e-3)
    assert found["difference"] < 0.02


@pytest.mark.parametrize(
    ("dtype", "changes", "says"),
    [("float32", {}, "computes in 16 bits"), ("bfloat16", {"attention_dropout": 0.1}, "has no dropout")],
)
def test_the_flash_kernel_is_not_left_out_in_silence(dtype, changes, says):
    """A mask in its place would be right, and as slow as what the user wanted to leave."""
    assert says in warm.run(f"{CASES}:varlen_refusal", {"dtype": dtype, "changes": changes}).value
