"""What the formula says of whole trainings: shapes of its terms, monotony, sharing, and moments."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from launcher.predict.memory import memory
from launcher.predict.memory_extend import peaks
from launcher.predict.memory_pass import play
from launcher.predict.prediction import TERMS
from launcher.predict.setup import Adapter, Checkpointing, Setup
from tests.predict.sizes import LLAMA_8B, SMALL, model, setup

GIB, MIB = 2**30, 2**20
GPU = {"dtype": "bfloat16", "precision": "bfloat16", "device": "cuda"}
PARAMETERS = 2 * 1024 * 256 + 4 * (2 * 256 * 256 + 2 * 256 * 128 + 3 * 256 * 768 + 2 * 256) + 256


def test_the_total_is_the_sum_of_its_terms_and_terms_are_known():
    """Nothing is hidden in the total."""
    found = memory(setup(**GPU))
    assert set(found.terms) <= set(TERMS)
    assert found.total == sum(found.terms.values())
    assert found.allocated == max(found.moments.values())


def test_one_llama_layer_keeps_196_kib_for_each_token_in_16_bits():
    """Feed-forward: gate, its activation, up and the product, 8 F. Each norm: float32 input, the normalized and the scaled row in
    16 bits, 8 H. Queries, keys, values and the result of attention 4 A + 4 K. Llama-3.1-8B's sizes; norms of rows beside.
    """
    run = setup(model(LLAMA_8B), length=4096, attention="sdpa_varlen", **GPU)
    four, eight = (play(replace(run, model=run.model.with_layers(count)), 1)["forward"][0] for count in (4, 8))
    expected = 8 * 14336 + 2 * 8 * 4096 + 4 * 4096 + 4 * 1024
    assert expected == 196 * 1024
    assert (eight - four) / (4 * 4096) == pytest.approx(expected, rel=0.002)


def test_a_checkpointed_layer_keeps_one_hidden_state():
    """Two bytes for each of 4,096 numbers of a token."""
    run = setup(model(LLAMA_8B), length=4096, attention="sdpa_varlen", checkpointing=Checkpointing(), **GPU)
    four, eight = (play(replace(run, model=run.model.with_layers(count)), 1)["forward"][0] for count in (4, 8))
    assert (eight - four) / 4 == 2 * 4096 * 4096


def test_a_deep_model_is_extended_exactly_from_shallow_ones():
    """Layers are equal: what is played for all of them and what is extended must be the same bytes."""
    for checkpointing in (None, Checkpointing(), Checkpointing(every_n_layers=2)):
        run = setup(model(SMALL, num_hidden_layers=12), checkpointing=checkpointing)
        whole = play(run, 2)
        for stretch, (most, held) in peaks(run).items():
            if stretch in whole:
                assert (most, held) == whole[stretch], stretch
        assert max(most for most, _ in whole.values()) == max(most for most, _ in peaks(run).values())


def test_memory_grows_with_everything_that_is_larger():
    """Rows, length, layers, rank and vocabulary."""
    ways = [
        [setup(rows=each) for each in (1, 2, 4)],
        [setup(length=each) for each in (64, 128, 512)],
        [setup(model(SMALL, num_hidden_layers=each)) for each in (2, 4, 12, 40)],
        [setup(method="lora", rank=each) for each in (4, 16, 64)],
        [setup(model(SMALL, vocab_size=each)) for each in (1024, 4096, 40000)],
    ]
    for way in ways:
        totals = [memory(each).total for each in way]
        assert all(less < more for less, more in pairwise(totals)), totals


def test_less_is_kept_with_more_checkpointing():
    """Off, selective or every second layer, every layer."""
    deep = model(SMALL, num_hidden_layers=16)
    forms = (None, Checkpointing(every_n_layers=2), Checkpointing(selective=True), Checkpointing())
    forward = [memory(setup(deep, length=512, checkpointing=form)).moments["forward"] for form in forms]
    assert forward[0] > forward[1] > forward[3]
    assert forward[0] > forward[2] > forward[3]


def test_the_loss_on_a_gpu_takes_its_tile_whatever_the_vocabulary():
    """4,096 tokens × 32,768 words × 2 bytes = 256 MiB, one tile, for a small vocabulary too."""
    found = memory(setup(length=4096, attention="sdpa_varlen", **GPU))
    assert found.moments["loss"] - found.moments["forward"] > 0.9 * 256 * MIB


@pytest.mark.parametrize(("strategy", "weights"), [("ddp", 1), ("fsdp2", 8), ("zero1", 1), ("zero2", 1)])
def test_weights_are_whole_or_an_eighth(strategy, weights):
    """What ZeRO-1 and 2 leave whole, FSDP2 shares out."""
    found = memory(setup(strategy=strategy, ranks=8, ranks_per_node=8))
    assert found.terms["weights"] == 4 * PARAMETERS // weights


def test_hybrid_sharding_shares_within_its_group():
    """Two copies of the model on eight ranks: a quarter each."""
    run = setup(strategy="fsdp2", ranks=8, ranks_per_node=8)
    assert memory(replace(run, group=4)).terms["weights"] == 2 * memory(run).terms["weights"]


def test_zero_keeps_float32_copies_and_state_in_parts():
    """Twelve bytes for each trained parameter, over the ranks; gradients and weights in 16 bits (Rajbhandari et al., 2020)."""
    run = setup(strategy="zero1", ranks=4, ranks_per_node=4, **GPU | {"dtype": "float32"})
    found = memory(run)
    assert found.terms["optimizer"] == 12 * PARAMETERS // 4
    assert found.terms["weights"] == 2 * PARAMETERS


def test_deepspeeds_buckets_take_their_setting_even_for_a_small_model():
    """5 · 10⁸ elements by default, of two bytes."""
    run = setup(strategy="zero2", ranks=2, ranks_per_node=2, **GPU)
    small = replace(run, settings={"reduce_bucket_size": 1_000_000})
    assert memory(run).moments["backward"] - memory(small).moments["backward"] >= 2 * (500_000_000 - 1_000_000)


def test_offloading_takes_the_optimizer_off_a_gpu_but_not_off_a_cpu():
    """On a CPU there is nowhere else."""
    run = setup(strategy="zero2", ranks=2, ranks_per_node=2, offload="optimizer")
    assert "optimizer" in memory(run).terms
    assert "optimizer" not in memory(replace(run, device="cuda", dtype="bfloat16")).terms


def test_accumulated_gradients_are_there_from_the_start():
    """A second forward pass of a step begins with the first one's gradients."""
    one, two = memory(setup()), memory(setup(accumulation=2))
    assert two.moments["forward"] - one.moments["forward"] == 4 * PARAMETERS


def test_fsdp2_keeps_the_gradients_of_earlier_passes_whole():
    """accelerate sends nothing between the passes of a step, so no rank has only its part (measured: docs/PREDICTOR.md)."""
    run = setup(strategy="fsdp2", ranks=8, ranks_per_node=8)
    one, two = memory(run), memory(replace(run, accumulation=2))
    sent = memory(replace(run, accumulation=2, settings={"sync_each_batch": True}))
    assert two.moments["forward"] - one.moments["forward"] == 4 * PARAMETERS
    assert sent.moments["forward"] - one.moments["forward"] == 4 * PARAMETERS // 8


def test_padding_makes_a_mask_and_copies_keys_for_every_head():
    """sdpa without a mask groups heads; with one it does not."""
    one = play(setup(length=256), 1)["forward"][0]
    two = play(setup(length=128, rows=2), 1)["forward"][0]
    keys, masks = 2 * 4 * 256 * (256 - 128) * 4, 4 * 2 * 128 * 128 * 4
    assert two - one == pytest.approx(keys + masks + 2 * 128 * 128, rel=0.02)


def test_a_dropout_mask_is_kept_beside_each_adapted_input():
    """Inputs of q, k, v, gate, up are H wide, of o A, of down F; the mask is float32 on a CPU, as is the thinned input."""
    plain, thinned = (
        play(setup(method="lora", adapter=_adapter(setup(method="lora"), dropout=dropout)), 1)["forward"][0]
        for dropout in (False, True)
    )
    widths = 5 * 256 + 256 + 768
    kept = 4 * 128 * widths * 4  # four layers, 128 tokens
    assert thinned - plain == pytest.approx(kept + 4 * 128 * 4 * widths - 4 * 128 * 4 * (2 * 256 + 256 + 768), rel=0.12)


def _adapter(run: Setup, *, dropout: bool) -> Adapter:
    assert run.adapter is not None
    return replace(run.adapter, dropout=dropout)


def test_an_8b_qlora_fits_a_small_gpu_and_a_full_one_does_not():
    """Published: 8B QLoRA trains in 6 to 8 GiB at 2,048 tokens; full fine-tuning with Adam needs 16 bytes a parameter."""
    sizes = model(LLAMA_8B)
    qlora = setup(sizes, method="qlora", length=2048, checkpointing=Checkpointing(), attention="sdpa_varlen", **GPU)
    full = setup(
        sizes, length=2048, checkpointing=Checkpointing(), attention="sdpa_varlen", **GPU | {"dtype": "float32"}
    )
    assert 6 * GIB < memory(qlora).total < 8 * GIB
    assert memory(full).total > 16 * sizes.parameters
