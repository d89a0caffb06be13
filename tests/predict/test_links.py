"""Bytes and seconds between ranks, by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from launcher.predict.links import Collective, Links, collectives, exposed_s
from launcher.predict.setup import Adapter, Checkpointing, Setup
from tests.predict.by_hand import LLAMA_8B

PARAMETERS = 8_030_261_248
"""32 · (218,103,808 + 2 · 4096) + 2 · 128,256 · 4096 + 4096."""
LINKS = Links(peer=400e9, network=50e9, latency_s=0.0)


def setup(**more: Any) -> Setup:
    """Full fine-tuning of Llama-3.1-8B in bfloat16 on eight GPUs of one node."""
    plain: dict[str, Any] = {
        "method": "full", "dtype": "bfloat16", "precision": "bfloat16", "optim": "adamw_torch_fused", "rows": 1,
        "length": 4096, "attention": "sdpa", "device": "cuda", "ranks": 8, "ranks_per_node": 8, "strategy": "fsdp2",
    }  # fmt: skip
    return Setup(LLAMA_8B, **{**plain, **more})


def sent(whole: Setup) -> dict[tuple[str, str, str], float]:
    return {(each.kind, each.what, each.when): each.sent for each in collectives(whole)}


def test_one_rank_says_nothing() -> None:
    assert collectives(setup(ranks=1, strategy="ddp")) == ()


def test_ddp_reduces_gradients_once_a_step() -> None:
    """A ring's all-reduce sends each of 16.06 GB twice, but for an eighth: 28.1 GB, however many micro-batches."""
    (only,) = collectives(setup(strategy="ddp", accumulation=4))
    assert (only.kind, only.size, only.times) == ("all-reduce", 2 * PARAMETERS, 1)
    assert only.sent == pytest.approx(2 * 7 / 8 * 2 * PARAMETERS)
    assert only.seconds(LINKS) == pytest.approx(28.106e9 / 400e9, rel=1e-3)


def test_an_adapter_is_all_that_ddp_sends() -> None:
    """41,943,040 parameters in float32: 168 MB, sent twice but for an eighth."""
    adapter = Adapter(dict.fromkeys(LLAMA_8B.linear, 16), "float32")
    (only,) = collectives(setup(strategy="ddp", method="lora", adapter=adapter))
    assert only.sent == pytest.approx(2 * 7 / 8 * 4 * 41_943_040)


def test_fsdp2_gathers_twice_a_micro_batch_and_reduces_once() -> None:
    """Weights come for the forward and for the backward pass; accelerate's `no_sync` leaves gradients to the last one."""
    eighth = 7 / 8 * 2 * PARAMETERS
    assert sent(setup(accumulation=4)) == {
        ("all-gather", "weights", "forward"): pytest.approx(4 * eighth),
        ("all-gather", "weights", "backward"): pytest.approx(4 * eighth),
        ("reduce-scatter", "gradients", "backward"): pytest.approx(eighth),
    }


def test_weights_that_stay_are_gathered_once() -> None:
    kept = sent(setup(settings={"reshard_after_forward": False}))
    assert ("all-gather", "weights", "backward") not in kept
    assert kept["all-gather", "weights", "forward"] == pytest.approx(7 / 8 * 2 * PARAMETERS)


def test_float32_weights_are_gathered_in_the_type_they_are_computed_in() -> None:
    cast = sent(setup(dtype="float32"))
    assert cast["all-gather", "weights", "forward"] == pytest.approx(7 / 8 * 2 * PARAMETERS)


def test_zero_stages_send_what_the_paper_says() -> None:
    """ZeRO-1 and 2: 2 Ψ a step like DDP; ZeRO-3: 3 Ψ, and a third gathering for what is computed again (section 7)."""
    share = 7 / 8 * 2 * PARAMETERS
    totals = {name: sum(sent(setup(strategy=name)).values()) / share for name in ("ddp", "zero1", "zero2", "zero3")}
    assert totals == pytest.approx({"ddp": 2, "zero1": 2, "zero2": 2, "zero3": 3})
    again = setup(strategy="zero3", checkpointing=Checkpointing())
    assert sum(sent(again).values()) / share == pytest.approx(4)
    # Stage 2 reduces with each micro-batch, stage 1 with the last.
    four = {name: sum(sent(setup(strategy=name, accumulation=4)).values()) / share for name in ("zero1", "zero2")}
    assert four == pytest.approx({"zero1": 2, "zero2": 5})


def test_hybrid_groups_gather_near_and_reduce_far() -> None:
    """Two nodes of eight: weights stay within a node; an eighth of the gradients goes to the other one."""
    whole = setup(ranks=16, group=8)
    nodes = {(each.kind, each.nodes, each.ranks): each.sent for each in collectives(whole)}
    assert nodes["all-reduce", 2, 2] == pytest.approx(2 * 1 / 2 * 2 * PARAMETERS / 8)
    assert nodes["all-gather", 1, 8] > 0
    assert nodes["reduce-scatter", 1, 8] == pytest.approx(7 / 8 * 2 * PARAMETERS)
    apart = {(each.kind, each.nodes) for each in collectives(setup(ranks=16))}
    assert apart == {("all-gather", 2), ("reduce-scatter", 2)}


def test_the_network_sets_the_pace_across_nodes() -> None:
    """The same 14.05 GB at 400 GB/s within a node take 35 ms; of two nodes 15/16 at 50 GB/s, 301 ms."""
    near, far = (collectives(setup(ranks=ranks))[0].seconds(LINKS) for ranks in (8, 16))
    assert near == pytest.approx(7 / 8 * 16.0605e9 / 400e9, rel=1e-4)
    assert far == pytest.approx(15 / 16 * 16.0605e9 / 50e9, rel=1e-4)


def test_what_fits_behind_the_passes_is_hidden_but_for_its_ends() -> None:
    """33 units: the first is waited for. 330 ms of gathering behind 300 ms of computing: 30 ms are not hidden."""
    message = Collective("all-gather", "weights", 132 * 10**9, 2, 1, 1, 33, "forward")
    links = Links(peer=200e9, network=1, latency_s=0.0)
    assert message.seconds(links) == pytest.approx(0.33)
    assert exposed_s([message], links, forward_s=1.0, backward_s=0.0) == pytest.approx(0.01)
    assert exposed_s([message], links, forward_s=0.3, backward_s=0.0) == pytest.approx(0.03)
    assert exposed_s([replace(message, hides=False)], links, forward_s=1.0, backward_s=0.0) == pytest.approx(0.33)
    assert exposed_s([replace(message, when="step")], links, forward_s=1.0, backward_s=1.0) == pytest.approx(0.33)


def test_messages_behind_one_pass_share_its_time() -> None:
    """Two of 330 ms behind 500 ms: the second finds 170 ms left, and 160 ms are waited for beside the first one's 10."""
    message = Collective("all-gather", "weights", 132 * 10**9, 2, 1, 1, 33, "backward")
    links = Links(peer=200e9, network=1, latency_s=0.0)
    assert exposed_s([message, message], links, forward_s=9.0, backward_s=0.5) == pytest.approx(0.01 + 0.16)


def test_each_message_has_a_latency() -> None:
    """DDP sends 25 MiB at a time: 168 MB are 7 messages."""
    adapter = Adapter(dict.fromkeys(LLAMA_8B.linear, 16), "float32")
    (only,) = collectives(setup(strategy="ddp", method="lora", adapter=adapter))
    assert only.calls == 7
    assert only.seconds(replace(LINKS, latency_s=1.0)) == pytest.approx(7 + only.sent / 400e9)
