"""A run that was killed and continued ends where the uninterrupted one does: losses, weights, optimizer, random state, to the bit."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from launcher.plan.types import SourcePlan
from tests.parity import resuming
from tests.parity.resuming import Part
from tests.support import tiny, trained

ROWS = [*tiny.messages(50), *tiny.messages(10, seed=1)]  # no two are equal
PAIRS = [{"prompt": row["question"], "completion": row["answer"]} for row in tiny.words(50)]
DROPPING = {**tiny.LORA, "lora_dropout": 0.3}
MIXTURE = {
    "sources": (SourcePlan("train", "train.jsonl", weight=0.7), SourcePlan("other", "other.jsonl", weight=0.3)),
    "packing": True,
}

CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "accumulation": {"per_device": 1},
    "attention dropout": {"model": {"attention_dropout": 0.2}},
    "noisy embeddings": {"trainer": {"neftune_noise_alpha": 5.0}},
    "lora with dropout": {"peft": DROPPING},
    "qlora": {"peft": tiny.LORA, "quantization": tiny.NF4},
    "int8": {"peft": tiny.LORA, "quantization": tiny.INT8},
    "dora qlora": {"peft": {**tiny.LORA, "use_dora": True}, "quantization": tiny.NF4},
    "added tokens, qlora with dropout": {
        "peft": DROPPING,
        "quantization": tiny.NF4,
        "model_plan": {"add_tokens": ("plus",)},
    },
    "added tokens, head of its own, two ranks": {
        "peft": tiny.LORA,
        "model": {"tie_word_embeddings": False},
        "model_plan": {"add_tokens": ("plus",)},
        "world_size": 2,
    },
    "pissa_niter": {"peft": {**tiny.LORA, "init_lora_weights": "pissa_niter_4"}},
    "mica": {"peft": {**tiny.LORA, "init_lora_weights": "mica"}},
    "layers trained whole, qlora": {
        "peft": {**tiny.LORA, "modules_to_save": ["lm_head", "norm"]},
        "quantization": tiny.NF4,
    },
    "packed bfd": {"data": {"packing": True}},
    "packed wrapped": {"data": {"packing": True, "packing_strategy": "wrapped"}, "global_size": 2},
    "packed qlora with dropout, accumulated": {
        "peft": DROPPING,
        "quantization": tiny.NF4,
        "data": {"packing": True},
        "per_device": 1,
    },
    "packed mixture": {"data": MIXTURE},
    "completion only": {"data": {"loss_on": "completion"}, "rows": PAIRS},
    "two ranks with dropout": {"peft": DROPPING, "world_size": 2},
    "two ranks, packed mixture, accumulated": {"data": MIXTURE, "world_size": 2, "per_device": 1},
}
QUICK = (
    "plain",
    "attention dropout",
    "packed qlora with dropout, accumulated",
    "int8",
    "added tokens, qlora with dropout",
    "completion only",
    "two ranks, packed mixture, accumulated",
)
"""Cases in every test run; the others take one of their ingredients apart."""


def compared(tmp_path: Path, cuts: list[int] | None, **settings: Any) -> list[int]:
    """Train once in one go and once with SIGKILLs, compare both, and return the steps from which it went on."""
    rows, changes = settings.pop("rows", ROWS), settings.pop("model", {})
    plan = tiny.plan(**{"global_size": 4, "save_steps": 3, **settings})
    other = tiny.jsonl(tmp_path / "other.jsonl", tiny.messages(40, seed=3))
    whole = trained.run_dir(tmp_path / "whole", plan, rows, **{"data.other": str(other)})
    if changes:
        tiny.model(tmp_path / "model", **changes)
        whole.data_facts.unlink()
        trained.prepare(whole)
    broken = resuming.copied(whole, "broken")
    steps = int(trained.facts(whole)["max_steps"])
    parts = [*(Part(plan, cut) for cut in cuts or _cuts(steps, str(settings))), Part(plan)]
    resuming.run(whole, [Part(plan)])
    resuming.run(broken, parts)

    assert len(trained.losses(whole)) == steps
    assert trained.losses(broken) == trained.losses(whole)
    assert resuming.state(broken) == resuming.state(whole)
    assert resuming.ledger(broken, parts) == resuming.ledger(whole, [Part(plan)])
    assert resuming.resumed_at(broken) == [part.goes_on_at for part in parts[:-1]]
    return resuming.resumed_at(broken)


def _cuts(steps: int, seed: str) -> list[int]:
    """Two seeded places: one in the first epoch of two, behind the second checkpoint, and one in the second epoch."""
    drawn = random.Random(seed)
    return [drawn.randrange(7, steps // 2), drawn.randrange(steps // 2 + 4, steps)]


@pytest.mark.train
@pytest.mark.parametrize(
    "case", [case if case in QUICK else pytest.param(case, marks=pytest.mark.slow) for case in CASES]
)
def test_a_run_killed_twice_ends_as_if_nothing_had_happened(tmp_path: Path, case: str):
    """Weights, optimizer, schedule, random state and the place in the data all come back, on every rank."""
    first, second = compared(tmp_path, None, **CASES[case])

    assert 0 < first < second


@pytest.mark.train
def test_a_run_continues_from_a_checkpoint_at_an_epoch_border(tmp_path: Path):
    """The first batch of the next epoch is neither skipped nor repeated: 60 rows, 4 to a step."""
    assert compared(tmp_path, [17], peft=DROPPING, save_steps=15) == [15]
