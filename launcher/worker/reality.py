"""What really runs, counted on the model and the optimizer themselves, and where it differs from the plan."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback, TrainerState, TrainingArguments

from launcher.errors import RunFailed
from launcher.plan.sharding import ZERO
from launcher.plan.types import Plan
from launcher.worker.job import Job


def facts(trainer: Any) -> dict[str, Any]:
    """What was made of the plan.

    Returns:
        world_size; wrapper: class of what the trainer trains; zero_stage; parameters, trainable and sharded: counts over
        all ranks, `sharded` of those that a rank holds only a part of; quantized_layers; dtype of the frozen or only
        weights; attn_implementation; optimizer: its class.
    """
    model, wrapped = trainer.model, trainer.model_wrapped
    weights = list(model.parameters())
    return {
        "world_size": trainer.args.world_size,
        "wrapper": type(wrapped).__name__,
        "zero_stage": wrapped.zero_optimization_stage() if hasattr(wrapped, "zero_optimization_stage") else None,
        "parameters": _parameters(model),
        "trainable": sum(size(weight) for weight in weights if weight.requires_grad),
        "sharded": sum(size(weight) for weight in weights if is_sharded(weight)),
        "groups": max((_copies(weight) for weight in weights if isinstance(weight, DTensor)), default=1),
        "quantized_layers": sum(map(_is_quantized, model.modules())),
        "dtype": str(model.dtype).removeprefix("torch."),
        "attn_implementation": model.config._attn_implementation,  # noqa: SLF001 - transformers has no other name for it
        "optimizer": type(_innermost(trainer.optimizer)).__name__,
    }


def size(weight: torch.Tensor) -> int:
    """Elements of a weight on all ranks; ZeRO-3 leaves a rank with an empty one, and keeps the number beside it."""
    return int(getattr(weight, "ds_numel", weight.numel()))


def is_sharded(weight: torch.Tensor) -> bool:
    """A rank holds a part of it."""
    return isinstance(weight, DTensor) or hasattr(weight, "ds_id")


def _copies(weight: DTensor) -> int:
    """How many copies of a sharded weight there are: the replicated axis of hybrid sharding."""
    mesh = weight.device_mesh
    return int(mesh.size(0)) if mesh.ndim > 1 else 1


def _parameters(model: torch.nn.Module) -> int:
    """Parameters, where a quantized layer counts as the weights that its codes stand for."""
    quantized: list[Any] = [module for module in model.modules() if _is_quantized(module)]
    codes = {id(module.weight) for module in quantized}
    plain = sum(size(weight) for weight in model.parameters() if id(weight) not in codes)
    return plain + sum(int(module.in_features * module.out_features) for module in quantized)


def _is_quantized(module: torch.nn.Module) -> bool:
    return type(module).__name__ in ("Linear4bit", "Linear8bitLt")


def _innermost(optimizer: Any) -> Any:
    while hasattr(optimizer, "optimizer"):
        optimizer = optimizer.optimizer
    return optimizer


class CheckReality(TrainerCallback):
    """Before the first step: what runs is what was planned. Some mismatches train on silently."""

    def __init__(self, job: Job, trainer: Any) -> None:
        self._plan = job.plan
        self._trainer = trainer

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        """Compare with the plan.

        Raises:
            RunFailed: it differs; every difference is named.
        """
        if state.global_step >= state.max_steps:
            return  # nothing is left to train, so nothing is wrapped
        rows = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        wrong = list(differences(self._plan, facts(self._trainer), rows))
        if wrong:
            raise RunFailed("what runs is not what was planned: " + "; ".join(wrong))


def differences(plan: Plan, seen: dict[str, Any], rows: int) -> Iterator[str]:
    """One clause for each difference.

    Args:
        plan: what was planned.
        seen: what `facts` found.
        rows: rows per optimizer step over all ranks.
    """
    world, wrapper = plan.batch.world_size, seen["wrapper"]
    planned = f"planned {plan.strategy} on {world} rank{'s' if world > 1 else ''}"
    if seen["world_size"] != world:
        yield f"{planned}, the trainer sees {seen['world_size']}"
    if not _wrapped_as(plan.strategy, world, wrapper):
        yield f"{planned}, but the trainer runs `{wrapper}`"
    if plan.strategy in ZERO and seen["zero_stage"] != int(plan.strategy[-1]):
        yield f"{planned}, but DeepSpeed runs stage {seen['zero_stage']}"
    shares = plan.strategy in ("fsdp2", "zero3")
    if shares != (seen["sharded"] > 0):
        yield f"{planned}, but {seen['sharded']:,} parameters are shared out"
    copies = world // plan.shard_group if plan.shard_group else 1
    if plan.strategy == "fsdp2" and seen["groups"] != copies:
        yield f"planned {copies} copies of the model, there are {seen['groups']}"
    yield from _of_model(plan, seen)
    if rows != plan.batch.global_size:
        yield f"planned {plan.batch.global_size} rows per optimizer step, but the trainer takes {rows}"


def _of_model(plan: Plan, seen: dict[str, Any]) -> Iterator[str]:
    """Layers, trained weights, attention."""
    quantized = plan.method in ("qlora", "int8")
    if quantized != (seen["quantized_layers"] > 0):
        yield f"{'planned' if quantized else 'not planned'}: quantized layers, of which there are {seen['quantized_layers']}"
    if plan.method == "full" and seen["trainable"] < seen["parameters"]:
        yield f"planned to train all weights, but {seen['trainable']:,} of {seen['parameters']:,} are trained"
    if plan.method != "full" and not 0 < seen["trainable"] < seen["parameters"]:
        yield f"planned to train an adapter, but {seen['trainable']:,} of {seen['parameters']:,} weights are trained"
    if seen["attn_implementation"] != plan.model.attn_implementation:
        yield f"planned attention `{plan.model.attn_implementation}`, but `{seen['attn_implementation']}` is active"


def _wrapped_as(strategy: str, world: int, wrapper: str) -> bool:
    if strategy == "fsdp2":
        return wrapper.startswith("FSDP")
    if strategy in ZERO:
        return wrapper == "DeepSpeedEngine"
    if strategy != "ddp":
        return False
    plain = wrapper not in ("DistributedDataParallel", "DeepSpeedEngine") and not wrapper.startswith("FSDP")
    return wrapper == "DistributedDataParallel" if world > 1 else plain
