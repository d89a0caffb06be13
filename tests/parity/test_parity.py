"""A launcher run is a plain SFTTrainer run: same losses, same weights, to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from launcher.plan.types import Plan
from tests.support import tiny, trained, warm

LORA = {"lora": True, "dropout": 0.0, "nf4": False, "packing": False}
VARIANTS = {
    "full": {"lora": False, "dropout": 0.0, "nf4": False, "packing": False},
    "lora": {"lora": True, "dropout": 0.0, "nf4": False, "packing": False},
    "lora with dropout": {"lora": True, "dropout": 0.3, "nf4": False, "packing": False},
    "qlora": {"lora": True, "dropout": 0.0, "nf4": True, "packing": False},
    "packed": {"lora": False, "dropout": 0.0, "nf4": False, "packing": True},
    "packed qlora with dropout": {"lora": True, "dropout": 0.1, "nf4": True, "packing": True},
    "int8": {**LORA, "int8": True},
    "added tokens, qlora with dropout": {**LORA, "nf4": True, "dropout": 0.3, "tokens": ("<tool>",)},
    "pissa_niter": {**LORA, "peft": {"init_lora_weights": "pissa_niter_4"}},
    "added tokens": {**LORA, "tokens": ("<tool>",)},
    "pissa, rslora": {**LORA, "peft": {"init_lora_weights": "pissa", "use_rslora": True}},
    "olora": {**LORA, "peft": {"init_lora_weights": "olora"}},
    "mica": {**LORA, "peft": {"init_lora_weights": "mica"}},
    "orthogonal, rslora, patterns": {
        **LORA,
        "peft": {"init_lora_weights": "orthogonal", "use_rslora": True, "rank_pattern": {"q_proj": 8}},
    },
    "gaussian, some blocks": {
        **LORA,
        "peft": {"init_lora_weights": "gaussian", "target_modules": ["q_proj", "up_proj"], "layers_to_transform": [1]},
    },
    "dora": {**LORA, "peft": {"use_dora": True}},
    "dora qlora": {**LORA, "nf4": True, "peft": {"use_dora": True}},
    "head trained whole": {**LORA, "peft": {"modules_to_save": ["lm_head"]}},
}
SLOW = list(VARIANTS)[list(VARIANTS).index("added tokens") :]
ROWS = [
    {"messages": [{**turn, "content": turn["content"].replace("plus", "<tool>")} for turn in row["messages"]]}
    for row in tiny.messages(30)
]
"""Whatever the tokenizer makes of `<tool>`; where it is added, it is one token."""


def planned(
    *,
    lora: bool,
    dropout: float,
    nf4: bool,
    packing: bool,
    int8: bool = False,
    peft: dict[str, Any] | None = None,
    tokens: tuple[str, ...] = (),
    **more: Any,
) -> Plan:
    """The same settings as `plain.train`, as a plan."""
    quantization = tiny.NF4 if nf4 else tiny.INT8 if int8 else None
    adapter = {**tiny.LORA, "lora_dropout": dropout, **(peft or {})} if lora else None
    return tiny.plan(
        peft=adapter, quantization=quantization, data={"packing": packing}, model_plan={"add_tokens": tokens}, **more
    )


@pytest.mark.train
@pytest.mark.parametrize(
    "variant", [pytest.param(each, marks=pytest.mark.slow) if each in SLOW else each for each in VARIANTS]
)
def test_a_run_equals_the_plain_script_bit_for_bit(tmp_path: Path, variant: str):
    """Whatever the launcher adds (checkpoints, events, stop requests) must not touch the mathematics."""
    settings = VARIANTS[variant]
    run = trained.run_dir(tmp_path / "run", planned(**settings, save_steps=5), ROWS)
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
