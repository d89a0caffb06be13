"""Plans and small configurations for the tests of a trace."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from launcher.cluster.load import load_cluster
from launcher.plan.facts import gather
from launcher.plan.make import make_plan
from launcher.plan.types import Plan
from launcher.recipe.load import load_recipe

RECIPE = Path(__file__).parents[2] / "recipes" / "tiny-zero2-sft.yaml"
SIZES: dict[str, Any] = {
    "vocab_size": 1024, "hidden_size": 64, "intermediate_size": 192,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
}  # fmt: skip
"""A model that takes no time, by the names most configurations share."""


@cache
def plan_of(*sets: str, on: str | None = None) -> Plan:
    """The plan of a tiny full fine-tuning on one rank: two rows of 128 tokens, float32 on a CPU."""
    base = (
        "sharding.strategy=ddp", "launch.processes=1", "training.gradient_accumulation_steps=1",
        "training.per_device_train_batch_size=2", "training.global_batch_size=2", "training.activation_checkpointing=false",
    )  # fmt: skip
    loaded = load_recipe(RECIPE, [*base, *sets])
    cluster = load_cluster("local", gpus=None if on else "none", on=on)
    return replace(make_plan(loaded, cluster, gather(loaded, cluster)).plan, prediction=None)


def config(kind: str, layers: int, **more: Any) -> dict[str, Any]:
    """A `config.json` of this model type."""
    return {"model_type": kind, "num_hidden_layers": layers, **SIZES, **more}
