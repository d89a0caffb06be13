"""Training on the GPU: it learns, it fits where it should, and what is called paged or compiled is."""

from dataclasses import replace

import pytest

from benchmarks.gpu.setup import Setup
from benchmarks.gpu.shapes import QWEN3_06B

SHAPE = replace(QWEN3_06B, layers=4)


@pytest.mark.parametrize("method", ["qlora", "lora", "full"])
def test_a_row_seen_again_and_again_is_learned(method, scale):
    """QLoRA: gradients come through 4-bit weights in bfloat16. Random tokens can only be learned by heart."""
    from benchmarks.gpu.training import make_trainer

    setup = scale.fit(Setup(SHAPE, method, packing=True, rows=1, max_length=2048, checkpointing=False))
    steps = 30
    trainer, _ = make_trainer(setup, scale, steps)
    trainer.args.learning_rate, trainer.args.logging_steps = 1e-2 if method != "full" else 1e-3, 1
    trainer.state.logging_steps = 1
    trainer.train_dataset = trainer.train_dataset.select([0] * steps)
    trainer.train()

    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < losses[0] - 0.5


@pytest.mark.parametrize("name", ["adamw_8bit", "paged_adamw_8bit", "paged_adamw_32bit"])
def test_optimizer_states_are_what_the_name_says(name, scale):
    """A paged optimizer that falls back to plain memory saves nothing, and says so once in a log."""
    from benchmarks.gpu.suites.optimizers import measured

    found = measured(Setup(SHAPE, "full", packing=True, rows=1, max_length=1024, optim=name), scale)

    # transformers keeps the moments of the input embedding in float32 in any case.
    expected = ["torch.float32", "torch.uint8"] if "8bit" in name else ["torch.float32"]
    assert found["state_types"] == expected
    if not scale.smoke:  # there is no paging on a CPU
        assert (found["paged_states"] > 0) == name.startswith("paged")


def test_a_compiled_model_trains_to_the_same_losses(scale):
    """Compiled kernels round otherwise: 2e-2 on a loss of 12 in bfloat16."""
    from benchmarks.gpu.suites import compiled
    from benchmarks.gpu.training import measure

    setup = Setup(replace(QWEN3_06B, layers=2), "full", packing=True, rows=1, max_length=1024, checkpointing=False)
    eager, fast = measure(setup, scale), compiled._measured(replace(setup, torch_compile=True), scale)

    assert fast["graphs"] > 0
    assert fast["loss_first"] == pytest.approx(eager["loss_first"], abs=2e-2)
    assert fast["loss_last"] == pytest.approx(eager["loss_last"], abs=2e-2)


@pytest.mark.parametrize("checkpointing", [True, False])
@pytest.mark.parametrize("method", ["qlora", "lora", "full"])
def test_peak_memory_is_near_the_arithmetic(method, checkpointing, scale):
    """Within 30 % either way until the arithmetic has been compared with measurements: then this bound gets tighter."""
    from benchmarks.gpu.attention import fastest
    from benchmarks.gpu.training import measure

    setup = Setup(
        QWEN3_06B, method, packing=True, rows=1, max_length=4096, checkpointing=checkpointing, attention=fastest(scale.device)
    )  # fmt: skip
    found = measure(setup, scale)

    assert found["expected_gib"]["total"] > 0
    if not scale.smoke:  # torch counts memory on GPUs only
        assert 0.7 < found["peak_to_expected"] < 1.3


def test_a_quantized_model_is_built_without_its_plain_weights(scale):
    """So a 72B model is made on one card: the peak while building stays near what is left in the end."""
    import torch

    from benchmarks.gpu import machine, models

    machine.release()
    setup = scale.fit(Setup(replace(QWEN3_06B, layers=24), "qlora"))
    model = models.build(setup, scale.device)

    kinds = [type(module).__name__ for module in model.model.layers.modules()]
    assert kinds.count("Linear4bit") == 7 * setup.shape.layers
    assert "Linear" not in kinds
    if not scale.smoke:
        layer = setup.shape.linear / setup.shape.layers * 2
        assert torch.cuda.max_memory_allocated() < torch.cuda.memory_allocated() + 2 * layer
