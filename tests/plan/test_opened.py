"""Keys that a recipe writes, and what they cost."""

import pytest

from tests.plan.test_fixes import planned

KEYS = ("training.per_device_train_batch_size=auto", "training.activation_checkpointing=auto")


@pytest.fixture(autouse=True)
def _no_models(monkeypatch, tmp_path):
    monkeypatch.setenv("LAUNCHER_DATA", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", "/nowhere")


def test_what_written_keys_cost_is_said_once_and_true():
    """Opening them is planned as a person would; the same step is more than a tenth faster."""
    plan, other = planned("qwen3-8b-qlora-sft", "RTX4090x1"), planned("qwen3-8b-qlora-sft", "RTX4090x1", KEYS)
    (told,) = [each for each in plan.prediction.alternatives if each.sets == KEYS]
    assert (told.step_s, told.memory) == (other.prediction.time.step_s, other.prediction.memory.total)
    assert told.step_s < 0.9 * plan.prediction.time.step_s
    assert not [each for each in other.prediction.alternatives if each.sets == KEYS]
