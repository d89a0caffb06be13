"""A launcher run is a plain SFTTrainer run: same losses, same weights, to the bit."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.plan.types import Plan
from tests.support import tiny, trained, warm

VARIANTS = {
    "full": {"lora": False, "dropout": 0.0, "nf4": False, "packing": False},
    "lora": {"lora": True, "dropout": 0.0, "nf4": False, "packing": False},
    "lora with dropout": {"lora": True, "dropout": 0.3, "nf4": False, "packing": False},
    "qlora": {"lora": True, "dropout": 0.0, "nf4": True, "packing": False},
    "packed": {"lora": False, "dropout": 0.0, "nf4": False, "packing": True},
    "packed qlora with dropout": {"lora": True, "dropout": 0.1, "nf4": True, "packing": True},
}


def planned(*, lora: bool, dropout: float, nf4: bool, packing: bool, **more: object) -> Plan:
    """The same settings as `plain.train`, as a plan."""
    peft = {**tiny.LORA, "lora_dropout": dropout} if lora else None
    return tiny.plan(peft=peft, quantization=tiny.NF4 if nf4 else None, data={"packing": packing}, **more)  # type: ignore[arg-type]


@pytest.mark.train
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_run_equals_the_plain_script_bit_for_bit(tmp_path: Path, variant: str):
    """Whatever the launcher adds (checkpoints, events, stop requests) must not touch the mathematics."""
    settings = VARIANTS[variant]
    run = trained.run_dir(tmp_path / "run", planned(**settings, save_steps=5), tiny.messages(30))
    trained.train(run)
    plain = {"model": str(tmp_path / "model"), "rows": str(run.prepared("train")), "output": str(tmp_path / "plain")}
    expected = warm.run("tests.parity.plain:train", {**plain, **settings}).value

    assert len(expected) >= 8
    assert trained.losses(run) == expected
    assert trained.weights(run.model) == trained.weights(tmp_path / "plain")


@pytest.mark.train
@pytest.mark.parametrize("variant", ["full", "lora"])
def test_two_ranks_train_like_one_at_the_same_global_batch(tmp_path: Path, variant: str):
    """Data parallelism splits the batch and nothing else; sums in another order stay within 1e-5."""
    one = trained.run_dir(tmp_path / "one", planned(**VARIANTS[variant]), tiny.messages(30))
    trained.train(one)
    two = trained.run_dir(tmp_path / "two", planned(**VARIANTS[variant], world_size=2), tiny.messages(30))
    trained.train(two, ranks=2)

    assert trained.losses(two) == pytest.approx(trained.losses(one), abs=1e-5)
    assert len(trained.losses(two)) == 16
