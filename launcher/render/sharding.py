"""`accelerate.yaml` and `deepspeed.json`: the sharding of a run as `accelerate launch` and DeepSpeed read it."""

from __future__ import annotations

import json
from typing import Any

import yaml

from launcher.plan.sharding import ZERO
from launcher.plan.types import Plan

_HEAD = """\
# The sharding of {name} for `accelerate launch`, which `launcher run` does not need: from this folder, {typed}
#   accelerate launch --config_file accelerate.yaml -m launcher.worker .
"""


def accelerate_yaml(plan: Plan) -> str:
    """The plan's ranks, precision and sharding as an accelerate configuration."""
    job = next(job for job in plan.jobs if job.stage == "train")
    values: dict[str, Any] = {
        "compute_environment": "LOCAL_MACHINE",
        "distributed_type": _kind(plan),
        **_section(plan),
        "machine_rank": 0,
        "main_training_function": "main",
        **_precision(plan),
        "num_machines": job.nodes,
        "num_processes": plan.batch.world_size,
        "rdzv_backend": "static" if job.nodes == 1 else "c10d",
        "same_network": True,
        "use_cpu": plan.device == "cpu",
    }
    return _HEAD.format(name=plan.name, typed=_note(plan, job.nodes)) + yaml.safe_dump(values, sort_keys=False)


def deepspeed_json(plan: Plan) -> str | None:
    """The plan's DeepSpeed configuration; None under other strategies. `auto` is filled in from the trainer's arguments."""
    if plan.strategy not in ZERO:
        return None
    return json.dumps(plan.trainer["deepspeed"], indent=2) + "\n"


def _kind(plan: Plan) -> str:
    if plan.strategy == "fsdp2":
        return "FSDP"
    if plan.strategy in ZERO:
        return "DEEPSPEED"
    if plan.batch.world_size == 1:
        return "NO"
    return "MULTI_CPU" if plan.device == "cpu" else "MULTI_GPU"


def _precision(plan: Plan) -> dict[str, str]:
    """Accelerate refuses it beside a DeepSpeed file, which says it itself."""
    if plan.strategy in ZERO:
        return {}
    return {"mixed_precision": "bf16" if plan.trainer["bf16"] else "fp16" if plan.trainer["fp16"] else "no"}


def _section(plan: Plan) -> dict[str, Any]:
    if plan.strategy in ZERO:
        return {
            "deepspeed_config": {"deepspeed_config_file": "deepspeed.json", "zero3_init_flag": plan.strategy == "zero3"}
        }
    if plan.strategy != "fsdp2":
        return {}
    names = {"cpu_offload": "offload_params"}
    fsdp = {f"fsdp_{names.get(key, key)}": value for key, value in plan.trainer["fsdp_config"].items()}
    if plan.shard_group is None:
        return {"fsdp_config": fsdp}
    copies = plan.batch.world_size // plan.shard_group
    sizes = {
        "parallelism_config_dp_replicate_size": copies,
        "parallelism_config_dp_shard_size": plan.shard_group,
    }
    return {"fsdp_config": fsdp, "parallelism_config": sizes}


def _note(plan: Plan, nodes: int) -> str:
    if plan.device == "cpu":
        return "on GPUs\n# (on CPUs it starts one process for MULTI_CPU):"
    return "after `prepare`:" if nodes == 1 else "on each node with its own machine_rank and main_process_ip:"
