"""Seconds of a step, by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from launcher.catalog.gpus import gpu, gpus
from launcher.predict.duration import duration, load, slices
from launcher.predict.links import Links
from launcher.predict.prediction import Time
from launcher.predict.rates import Rates, cpu_rates, efficiency, gpu_rates, scaled
from launcher.predict.setup import Adapter, Checkpointing, Setup
from launcher.predict.time import time
from launcher.predict.traffic import element_bytes, expanded_bytes, weights_read
from tests.predict.by_hand import LLAMA_8B, llama

INSTANT = Rates(
    matrices=float("inf"), attention=float("inf"), masked=float("inf"), memory=float("inf"),
    links=Links(float("inf"), float("inf"), latency_s=0.0), host=float("inf"), host_memory=float("inf"), launch_s=0.0,
)  # fmt: skip
"""A device that takes no time for anything, so that one rate at a time can be looked at."""
ONE_LAYER = llama(layers=1, hidden=1000, ffn=2000, heads=10, kv_heads=10, vocabulary=5000)
LINEAR = 4 * 1000 * 1000 + 3 * 1000 * 2000
HEAD = 5000 * 1000


def setup(**more: Any) -> Setup:
    """One row of 1,000 tokens of the one-layer model, trained in full in bfloat16 on one H100."""
    plain: dict[str, Any] = {
        "model": ONE_LAYER, "method": "full", "dtype": "bfloat16", "precision": "bfloat16", "optim": "adamw_torch_fused",
        "rows": 1, "length": 1000, "attention": "flash_attention_2", "device": "cuda", "gpu": gpu("H100"),
    }  # fmt: skip
    return Setup(**{**plain, **more})


@pytest.mark.parametrize(("rows", "usual"), [(1, 325), (2, 494), (8, 910)])
def test_a_usual_batch_is_as_long_as_its_longest_row(rows, usual):
    """Three of four rows have 100 tokens, one has 1,000: of n, none is long with 0.75 to the nth. 1,000 - 900 × that."""
    found = setup(rows=rows, lengths=((100, 6.0), (1000, 2.0)))
    assert found.usual_length == usual
    assert time(found) == time(setup(rows=rows, length=usual))
    assert time(setup(lengths=((100, 1.0),), length=50)) == time(setup(length=50))  # cut since they were counted


def parts(rates: Rates, **more: Any) -> dict[str, float]:
    found = time(setup(**more), rates)
    assert found is not None
    return {name: seconds for name, seconds in found.parts.items() if seconds > 0}


def test_matrices_take_their_operations_over_their_rate() -> None:
    """6 · 10 M of the layer and 8 · 5 M of the head (its logits twice, 999 positions), for 1,000 tokens, at 1 TFLOP/s."""
    done = 6 * LINEAR * 1000 + 8 * HEAD * 999
    assert parts(replace(INSTANT, matrices=1e12)) == {"compute": pytest.approx(done / 1e12)}


def test_attention_has_a_rate_of_its_own() -> None:
    """A flash kernel: 14 operations a pair and element of width, 1000 · 1001 / 2 pairs; with a mask all of them."""
    done = 14 * 1000 * 1000 * 1001 / 2
    assert parts(replace(INSTANT, attention=1e12)) == {"compute": pytest.approx(done / 1e12)}
    packed = {"attention": "sdpa", "packing": True, "document": 100}
    assert parts(replace(INSTANT, attention=1e12), **packed) == {}
    assert parts(replace(INSTANT, masked=1e12), **packed) == {"compute": pytest.approx(14e9 / 1e12)}


def test_few_tokens_wait_for_the_weights() -> None:
    """20,003,000 parameters in two bytes are read for each of three passes, however fast the products are."""
    parameters = LINEAR + 2 * HEAD + 3 * 1000
    assert weights_read(setup()) == 2 * parameters
    few = parts(replace(INSTANT, memory=1e9), length=1, rows=1)
    many = parts(replace(INSTANT, memory=1e9), length=2, rows=1)
    each = sum(element_bytes(setup(length=1))) / 1e9
    # The backward pass reads them once here: the gradients of input and weight come from the same products' operands.
    assert few["compute"] == pytest.approx(2 * 2 * parameters / 1e9 + each)
    assert many["compute"] - few["compute"] == pytest.approx(each)


def test_elements_of_a_block_by_hand() -> None:
    """Two norms of 16 accesses, rotary 9 of queries and keys, gate 5, two sums of 3: 32 + 18 + 10 + 6 = 66 thousand.

    Two bytes each, twice as many backward; and 5 of each of 5,000 logits, half of them in either pass.
    """
    forward, backward = element_bytes(setup())
    assert forward == 1000 * (66_000 + 25_000 / 2) * 2
    assert backward == 1000 * (2 * 66_000 + 25_000 / 2) * 2
    again = element_bytes(setup(checkpointing=Checkpointing()))
    assert again[1] - backward == 1000 * 66_000 * 2
    assert element_bytes(setup(compile=True))[0] < forward / 2


def test_quantized_weights_are_expanded_for_each_pass() -> None:
    """QLoRA paper, section 3: 4 + 0.127 bits are read and two bytes written for each element, twice a micro-batch.

    Three times where the layer is computed again.
    """
    adapter = Adapter(dict.fromkeys(ONE_LAYER.linear, 8), "bfloat16")
    more = {"method": "qlora", "adapter": adapter, "accumulation": 3}
    each = LINEAR * ((4 + 0.127) / 8 + 2)
    assert expanded_bytes(setup(**more)) - 2 * sum(8 * sum(x) for x in ONE_LAYER.linear.values()) == pytest.approx(
        each, rel=1e-3
    )
    rates = replace(INSTANT, memory=1e12)
    twice, thrice = (parts(rates, **more, checkpointing=kind)["dequantize"] for kind in (None, Checkpointing()))
    assert twice == pytest.approx(3 * 2 * expanded_bytes(setup(**more)) / 1e12)
    assert thrice == pytest.approx(1.5 * twice)
    assert "dequantize" not in parts(rates)


def test_the_optimizer_passes_over_what_it_holds() -> None:
    """Fused AdamW, 20,003,000 parameters in two bytes: two states and weights read and written, gradients four times.

    4 · 2 + 2 · 2 + 4 · 2 = 20 bytes each; an eighth where eight ranks share it; 8 bits: 2 · 2 instead of 8 for the states.
    """
    rates, parameters = replace(INSTANT, memory=1e12), LINEAR + 2 * HEAD + 3 * 1000
    assert parts(rates)["optimizer"] == pytest.approx(20 * parameters / 1e12)
    shared = parts(rates, strategy="fsdp2", ranks=8, ranks_per_node=8)
    assert shared["optimizer"] == pytest.approx(20 / 8 * parameters / 1e12)
    assert parts(rates, optim="adamw_torch")["optimizer"] == pytest.approx(3 * 20 * parameters / 1e12)


def test_state_in_host_memory_crosses_over() -> None:
    """Gradients down and weights up at 1 GB/s, 2 + 2 bytes a parameter; the step itself at the host memory's rate."""
    parameters = LINEAR + 2 * HEAD + 3 * 1000
    more = {"strategy": "zero2", "offload": "optimizer"}
    assert parts(replace(INSTANT, host=1e9), **more) == {"offload": pytest.approx(4 * parameters / 1e9)}
    assert parts(replace(INSTANT, host_memory=1e9), **more) == {"offload": pytest.approx(20 * parameters / 1e9)}


def test_weights_in_host_memory_hide_behind_the_passes() -> None:
    """40 MB for each of two passes at 1 GB/s: 80 ms, of which 50 ms of computing hide 50, beside the optimizer's part."""
    more = {"strategy": "zero3", "offload": "params"}
    bare = parts(replace(INSTANT, host=1e9), **more)["offload"]
    busy = 6 * LINEAR * 1000 + 8 * HEAD * 999
    hidden = parts(replace(INSTANT, host=1e9, matrices=busy / 0.05), **more)["offload"]
    assert bare - hidden == pytest.approx(0.05)
    assert bare == pytest.approx((2 * 2 + 4) * 20_003_000 / 1e9)


def test_a_gpu_waits_for_the_program_only_when_it_is_faster() -> None:
    """A CPU does both one after the other."""
    slow = replace(INSTANT, launch_s=1e-3)
    asked = parts(slow)["overhead"]
    assert asked > 0
    busy = (6 * LINEAR * 1000 + 8 * HEAD * 999) / 1e12
    assert parts(replace(slow, matrices=1e12))["overhead"] == pytest.approx(asked - busy)
    assert "overhead" not in parts(replace(slow, matrices=1e9))
    waits = parts(replace(slow, matrices=1e12, asynchronous=False))
    assert waits["overhead"] == pytest.approx(asked)


def test_tokens_and_operations_are_those_of_all_ranks() -> None:
    """8 ranks, 4 micro-batches of 2 rows of 1,000 tokens."""
    found = time(setup(ranks=8, ranks_per_node=8, accumulation=4, rows=2))
    assert found is not None
    assert found.tokens == 8 * 4 * 2 * 1000
    one = time(setup(rows=2))
    assert one is not None
    assert found.model_flops == 32 * one.model_flops
    assert found.rate == "catalogue"


def test_a_cpu_has_no_catalogue_rate() -> None:
    """A run tells how fast it is; then everything is in proportion to that."""
    on_cpu = setup(device="cpu", gpu=None, dtype="float32", precision="float32")
    assert time(on_cpu) is None
    slow, fast = (time(on_cpu, cpu_rates(speed)) for speed in (1e10, 2e10))
    assert slow is not None
    assert fast is not None
    assert slow.rate == "calibrated"
    assert slow.parts["compute"] == pytest.approx(2 * fast.parts["compute"])


def test_recomputing_costs_a_forward_pass() -> None:
    """torchtune's ladder: 21 % fewer tokens a second with it; the operations alone would make it 24.5 %."""
    more = {"model": LLAMA_8B, "length": 4096, "rows": 2, "compile": True}
    off, on = (time(setup(**more, checkpointing=kind)) for kind in (None, Checkpointing()))
    assert off is not None
    assert on is not None
    assert 0.17 < 1 - on.tokens_per_s / off.tokens_per_s < 0.25
    half = time(setup(**more, checkpointing=Checkpointing(every_n_layers=2)))
    assert half is not None
    assert off.step_s < half.step_s < on.step_s


def test_every_gpu_of_the_catalogue_has_an_efficiency() -> None:
    for row in gpus():
        part = efficiency(row)
        assert 0 < part.masked < part.attention < part.matrices <= 1
        assert 0 < part.memory <= 1
        assert part.source
        assert time(setup(gpu=row)) is not None
    assert efficiency(gpu("A100")).matrices == 0.66
    assert efficiency(gpu("L4")).error == 0.4  # no point of its own: the last row


def test_rates_are_peaks_times_what_is_reached() -> None:
    """H100: 989.4 TFLOP/s · 0.56, 3,352 GB/s · 0.9; float32 outside the tensor cores, 66.9."""
    rates = gpu_rates(gpu("H100"), "bfloat16", 8)
    assert rates.matrices == pytest.approx(554.1e12, rel=1e-3)
    assert rates.memory == pytest.approx(3016.8e9, rel=1e-3)
    assert rates.links.peer == pytest.approx(360e9)
    assert gpu_rates(gpu("H100"), "float32").matrices == pytest.approx(66.9e12 * 0.56)
    assert scaled(rates, 2).matrices == 2 * rates.matrices


def test_a_bridge_joins_two_cards_only() -> None:
    """RTX 3090s: NVLink between two, over the host among four."""
    two, four = (gpu_rates(gpu("RTX3090"), "bfloat16", ranks).links.peer for ranks in (2, 4))
    assert two == pytest.approx(56.25e9 * 0.8)
    assert four == pytest.approx(31.5e9 * 0.4)


STEP = Time({"compute": 3.0, "communication": 1.0}, tokens=1000, model_flops=1.0, hardware_flops=1.0)


def test_a_run_by_hand() -> None:
    """900 steps of 4 s on 8 GPUs: an hour, 8 GPU-hours; at 2.50 an hour 20.00.

    A quarter of the time waits: 0.9 · 3/4 + 0.3 / 4 = 0.75 of 700 W, and 15 % for the host: 8 · 0.7 · 0.75 · 1.15 kWh.
    """
    found = duration(setup(ranks=8, ranks_per_node=8), STEP, 900, price=2.5, currency="EUR")
    assert found.run_s == 3600
    assert found.gpu_hours == 8
    assert found.cost == "20.00 EUR"
    assert load(STEP) == pytest.approx(0.75)
    assert found.energy_kwh == pytest.approx(4.83)
    assert duration(setup(), STEP, 900).cost is None


def test_a_run_on_a_cpu_has_no_gpu_hours() -> None:
    found = duration(setup(device="cpu", gpu=None), STEP, 900, price=2.5)
    assert (found.run_s, found.gpu_hours, found.energy_kwh, found.cost) == (3600, None, None, None)


def test_slices_of_a_time_limit() -> None:
    """25 h 24 min of steps, 12 h a job, of which 2 min to leave and 3 to start: 11 h 55 min left, so three jobs."""
    assert slices(25.4 * 3600, 12 * 3600) == 3
    assert slices(2 * (12 * 3600 - 300), 12 * 3600) == 2
    assert slices(1.0, 3600) == 1
    assert slices(1.0, 300) is None
