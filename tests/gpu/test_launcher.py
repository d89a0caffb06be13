"""Whole runs of launcher on the GPU: to the end, against plain TRL, through a kill, and sharded on one rank."""

import pytest

from tests.gpu.runs import Case

QLORA = ("peft.r=8", "quantization.load_in_4bit=true", "training.learning_rate=3e-3")
METHODS = {"full": (), "lora": ("peft.r=8", "training.learning_rate=3e-3"), "qlora": QLORA}
STRATEGIES = ("fsdp2", "zero1", "zero2", "zero3")
LONG = ("training.max_steps=120", "checkpoint.save_steps=10", "launch.max_requeues=0")


def finished(case: Case) -> Case:
    case.finish()
    assert (case.run / "DONE").exists()
    return case


@pytest.mark.parametrize("method", METHODS)
def test_a_run_on_the_gpu_learns_and_is_read_without_launcher(method, tmp_path, scale):
    """The device that the plan chose is the one that trained, and the result is a plain model or adapter.

    An adapter of rank 8 on a base of random weights learns less in 40 steps than all weights do: half a nat at least.
    """
    case = finished(Case(tmp_path, scale, (*METHODS[method], "training.max_steps=40", "checkpoint.save_steps=20")))
    (start,) = case.events("start")
    losses = case.losses()

    assert start["device"].startswith(scale.device)
    assert losses[-1] < losses[0] - 0.5
    assert case.plain("loss") < losses[0] - 0.5


@pytest.mark.parametrize("method", METHODS)
def test_a_run_is_the_plain_trl_run(method, tmp_path, scale):
    """Same rows, seeds and kernels. Some CUDA kernels add in another order each time: 1e-2 on losses of 3 to 7."""
    case = finished(Case(tmp_path, scale, METHODS[method]))

    assert case.losses() == pytest.approx(case.plain("losses"), abs=0 if scale.smoke else 1e-2)


@pytest.mark.parametrize("strategy", ["ddp", *STRATEGIES])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(strategy, tmp_path, scale):
    """Sharded on one rank too. The tolerance is that of the plain comparison: kernels that add in another order."""
    if strategy == "fsdp2" and scale.smoke:
        pytest.skip("accelerate runs DDP for FSDP on a CPU, and the plan refuses it")
    key = f"sharding.strategy={strategy}"
    whole = finished(Case(tmp_path / "whole", scale, (*LONG, key)))
    broken = Case(tmp_path / "broken", scale, (*LONG, key))
    broken.kill_after(step=20)
    finished(broken)
    started = [event["step"] for event in broken.events("start")]

    assert len(started) == 2
    assert started[1] >= 20
    assert broken.losses() == pytest.approx(whole.losses(), abs=1e-6 if scale.smoke else 5e-2)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_sharded_run_leaves_the_model_that_an_unsharded_one_leaves(strategy, tmp_path, scale):
    """One plain file of weights, read by transformers alone; trained to the same losses on one rank."""
    if strategy == "fsdp2" and scale.smoke:
        pytest.skip("accelerate runs DDP for FSDP on a CPU, and the plan refuses it")
    plain = finished(Case(tmp_path / "plain", scale))
    sharded = finished(Case(tmp_path / "sharded", scale, (f"sharding.strategy={strategy}",)))
    tolerance = 1e-5 if scale.smoke else 2e-2
    (start,) = sharded.events("start")

    assert start["wrapper"].startswith("FSDP" if strategy == "fsdp2" else "DeepSpeedEngine")
    assert sharded.losses() == pytest.approx(plain.losses(), abs=tolerance)
    assert sharded.plain("loss") == pytest.approx(plain.plain("loss"), abs=tolerance)
