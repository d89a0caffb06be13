"""Host memory and disk against arithmetic written out here."""

from __future__ import annotations

from dataclasses import replace

from launcher.predict.disk import checkpoint, disk, result
from launcher.predict.host import GIB, host
from launcher.predict.setup import Checkpointing
from tests.predict.sizes import LLAMA_8B, model, setup

MIB = 2**20
ON_8 = {"ranks": 8, "ranks_per_node": 8, "device": "cuda", "precision": "bfloat16"}
LLAMA = model(LLAMA_8B)


def test_ranks_that_share_a_model_out_each_hold_a_copy_while_it_is_loaded():
    """Measured: 1.00 of the model on each rank under FSDP2; with plain ddp weights go to the GPU one at a time."""
    shared = host(setup(LLAMA, strategy="fsdp2", dtype="bfloat16", **ON_8))["loading"]
    alone = host(setup(LLAMA, strategy="ddp", dtype="bfloat16", **ON_8))["loading"]
    assert shared == 8 * 2 * LLAMA.parameters
    assert alone == 8 * 2 * 128256 * 4096  # the embedding is the largest weight


def test_offloaded_state_is_twelve_bytes_a_parameter_and_the_gradients():
    """Float32 copy and Adam's moments of all ranks of the node, gradients in 16 bits and in float32, and weights with `params`."""
    run = setup(LLAMA, strategy="zero3", offload="optimizer", **ON_8)
    moved = host(run)["offload"]
    weights = host(replace(run, offload="params"))["offload"] - moved

    assert abs(moved - 18 * LLAMA.parameters) < MIB
    assert 0 <= weights - 2 * LLAMA.parameters < 200 * MIB
    assert "offload" not in host(replace(run, offload="none"))


def test_fsdp2_keeps_all_of_its_part_in_float32():
    """Weights, gradients and two moments, 4 bytes each: torch hands gradients out in the type that its part is kept in."""
    run = setup(LLAMA, strategy="fsdp2", offload="params", dtype="bfloat16", **ON_8)
    assert abs(host(run)["offload"] - 16 * LLAMA.parameters) < MIB


def test_paged_state_may_lie_in_host_memory():
    """It must have room there when the GPU has none."""
    found = host(setup(LLAMA, optim="paged_adamw_32bit", device="cuda", precision="bfloat16"))
    assert found["offload"] == 8 * LLAMA.parameters


def test_offloaded_checkpoints_are_one_hidden_state_a_layer():
    """2 bytes × 4,096 × 32 layers a token."""
    how = Checkpointing(offload=True)
    found = host(setup(LLAMA, length=1000, checkpointing=how, device="cuda", precision="bfloat16"))
    assert found["offload"] == 2 * 4096 * 32 * 1000


def test_data_workers_count_on_every_rank():
    """Two workers on each of eight ranks."""
    run = setup(**ON_8)
    assert host(run, workers=2)["workers"] == 2 * host(run, workers=1)["workers"] == 16 * GIB // 4


def test_a_checkpoint_holds_what_is_trained_and_its_state():
    """Full: 4 + 8 bytes a parameter in float32. An adapter of rank 16 on llama's 8B: 41.9 M parameters × 12 bytes, half a gigabyte."""
    assert abs(checkpoint(setup(LLAMA)) - 12 * LLAMA.parameters) < 2 * MIB
    assert abs(checkpoint(setup(LLAMA, method="lora")) - 12 * 41_943_040) < 2 * MIB


def test_sharding_spreads_a_checkpoint_but_makes_it_no_smaller():
    """All ranks' parts are written."""
    one, eight = setup(LLAMA), setup(LLAMA, strategy="fsdp2", ranks=8, ranks_per_node=8)
    assert abs(checkpoint(one) - checkpoint(eight)) < MIB


def test_the_terms_of_a_run():
    """Three checkpoints, 4-byte ids and labels of a million tokens, the adapter, and the merged model in the base's type."""
    run = setup(LLAMA, method="lora", dtype="bfloat16")
    found = disk(run, checkpoints=3, tokens=1_000_000, merged=True)
    assert found == {
        "checkpoints": 3 * checkpoint(run),
        "data": 8_000_000,
        "model": result(run),
        "merged": 2 * LLAMA.parameters,
    }
