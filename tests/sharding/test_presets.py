"""The presets are true: accelerate makes the same plug-in of the shipped and of the rendered file as our torchrun path does."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from launcher.cluster.schema import Cluster, Gpu
from launcher.recipe.shipped import shipped
from launcher.render import files
from tests.support import planning, warm

pytestmark = pytest.mark.train
GPUS = Cluster("local", Gpu("H100", 79.6, 79.6), gpus_per_node=8, cpus_per_node=64, memory_gib=900.0)
CASES = {
    "fsdp2": "{strategy: fsdp2}",
    "fsdp2-params": "{strategy: fsdp2, offload: params}",
    "fsdp2-hybrid": "{strategy: fsdp2, dp_shard_size: 4}",
    "zero1": "{strategy: zero1}",
    "zero2-optimizer": "{strategy: zero2, offload: optimizer}",
    "zero3": "{strategy: zero3}",
    "zero3-params": "{strategy: zero3, offload: params}",
}


def made(folder: Path, sharding: str) -> tuple[dict, dict]:
    """What transformers makes of the plan, and what accelerate makes of the rendered file."""
    planned = planning.planned(folder, sets=[f"sharding={sharding}"], cluster=GPUS)
    files.write(planned, folder / "run")
    plan = planned.plan
    job = next(job for job in plan.jobs if job.stage == "train")
    ours = {"trainer": plan.trainer, "variables": job.env, "output": str(folder / "out")}
    theirs = {"config": str(folder / "run" / "accelerate.yaml"), "folder": str(folder / "run")}
    return (
        warm.run("tests.sharding.accelerated:ours", ours).value,
        warm.run("tests.sharding.accelerated:theirs", theirs).value,
    )


@pytest.mark.parametrize("name", CASES)
def test_accelerate_makes_the_same_of_the_rendered_file(tmp_path, name):
    """`accelerate launch` on it trains as `launcher run` does."""
    ours, theirs = made(tmp_path, CASES[name])
    assert theirs == ours


@pytest.mark.parametrize("name", ["fsdp2", "zero1", "zero2", "zero3"])
def test_accelerate_makes_the_same_of_the_shipped_file(tmp_path, name):
    """It works unchanged, from any folder."""
    ours, _ = made(tmp_path, f"{{strategy: {name}}}")
    config = str(shipped("accelerate_configs") / f"{name}.yaml")
    theirs = warm.run("tests.sharding.accelerated:theirs", {"config": config, "folder": str(tmp_path)}).value
    activations = {"activation_checkpointing": ours.get("activation_checkpointing")}
    assert theirs | (activations if name == "fsdp2" else {}) == ours


def test_accelerate_starts_as_many_ranks_in_the_same_precision(tmp_path):
    """What torchrun and the plan decide stands in the rendered file too."""
    from accelerate.commands.config.config_args import load_config_from_file

    planned = planning.planned(tmp_path, sets=["sharding={strategy: fsdp2}"], cluster=dataclasses.replace(GPUS))
    files.write(planned, tmp_path / "run")
    config = load_config_from_file(str(tmp_path / "run" / "accelerate.yaml"))
    assert (config.num_processes, config.num_machines, config.mixed_precision) == (8, 1, "bf16")
