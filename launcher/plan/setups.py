"""From a plan to what is predicted of it: sizes and names only, as the trainer will really have them."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, Literal, cast

from launcher.catalog.gpus import GpuRow
from launcher.plan.types import Plan
from launcher.predict.architecture import Architecture
from launcher.predict.setup import Adapter, Checkpointing, Setup

_ALL = "all-linear"
Strategy = Literal["ddp", "fsdp2", "zero1", "zero2", "zero3"]
_made: deque[dict[str, int]] = deque(maxlen=20)
"""Ranks of earlier adapters. The plans of one search have equal ones; what is known of them is kept by their identity."""


def setup_of(plan: Plan, architecture: Architecture, gpu: GpuRow | None) -> Setup:
    """The training of one rank.

    Args:
        plan: a finished plan; its trainer's arguments hold no `auto`.
        architecture: the model's sizes.
        gpu: the device's row in the catalogue, where it has one.
    """
    trainer, quantization = plan.trainer, plan.quantization or {}
    train = next((job for job in plan.jobs if job.stage == "train"), None)
    return Setup(
        model=architecture,
        method=plan.method,
        dtype=plan.model.dtype,
        precision="bfloat16" if trainer.get("bf16") else "float16" if trainer.get("fp16") else "float32",
        optim=str(trainer["optim"]),
        rows=plan.batch.per_device,
        length=longest(plan),
        lengths=() if plan.data.packing else plan.estimate.lengths,
        attention=plan.model.attn_implementation,
        device=plan.device,
        adapter=None if plan.method == "full" else _adapter(plan, architecture),
        double_quant=bool(quantization.get("bnb_4bit_use_double_quant", True)),
        checkpointing=_checkpointing(trainer),
        packing=plan.data.packing,
        document=document_of(plan),
        accumulation=plan.batch.accumulation,
        strategy=cast("Strategy", plan.strategy),
        offload=plan.offload,
        ranks=plan.batch.world_size,
        ranks_per_node=train.processes if train else plan.batch.world_size,
        group=plan.shard_group,
        gpu=gpu,
        compile=bool(trainer.get("torch_compile")),
        settings=dict(_settings(plan)),
    )


def _adapter(plan: Plan, model: Architecture) -> Adapter:
    """The adapter as peft would make it. Of one that exists only the plan's own `peft:` is known, else peft's usual ranks."""
    peft = plan.peft or {}
    quantized = plan.method in ("qlora", "int8")
    # TRL makes adapters of a quantized base bfloat16; peft makes others float32, but under ZeRO-3 they stay as the base is.
    dtype = "bfloat16" if quantized else plan.model.dtype if plan.strategy == "zero3" else "float32"
    return Adapter(
        ranks=_one(dict(_ranks(peft, model))),
        dtype=dtype,
        dropout=float(peft.get("lora_dropout", 0.0)) > 0,
        dora=bool(peft.get("use_dora")),
        whole=tuple(_named(tuple(peft.get("modules_to_save", ())), model)),
        new_rows=len(plan.model.add_tokens),
        biases=peft.get("bias", "none"),
    )


def _one(ranks: dict[str, int]) -> dict[str, int]:
    known = next((each for each in _made if each == ranks), None)
    if known is None:
        _made.append(ranks)
    return known or ranks


def _ranks(peft: Mapping[str, Any], model: Architecture) -> Iterator[tuple[str, int]]:
    """Adapted layer → rank: `target_modules`, `exclude_modules`, `layers_to_transform` and `rank_pattern` as peft reads them."""
    targets, excluded = peft.get("target_modules", _ALL), peft.get("exclude_modules", ())
    blocks = peft.get("layers_to_transform") or ()
    patterns = peft.get("rank_pattern") or {}
    for name, times in (model.all_linear if targets == _ALL else dict.fromkeys(model.linear, 1)).items():
        if not _matches(name, targets) or _matches(name, excluded):
            continue
        number = next((int(part) for part in name.split(".") if part.isdigit()), None)
        if blocks and number not in blocks:
            continue
        own = next((rank for key, rank in patterns.items() if re.fullmatch(rf"(.*\.)?({key})", name)), None)
        yield name, times * int(own if own is not None else peft.get("r", 16))


def _matches(name: str, wanted: Any) -> bool:
    if wanted == _ALL:
        return True
    if isinstance(wanted, str):
        return re.fullmatch(wanted, name) is not None
    return any(name == each or name.endswith(f".{each}") for each in wanted)


def _named(wanted: tuple[str, ...], model: Architecture) -> Iterator[str]:
    """Modules by their last names."""
    modules = dict.fromkeys(name.rpartition(".")[0] for name in model.tensors)
    modules |= {"lm_head": None} if model.tied else {}
    return (module for module in modules if _matches(module, wanted))


def _checkpointing(trainer: Mapping[str, Any]) -> Checkpointing | None:
    """FSDP2 is asked by a key of its own, which knows no other form."""
    if dict(trainer.get("fsdp_config") or {}).get("activation_checkpointing"):
        return Checkpointing()
    if not trainer.get("activation_checkpointing"):
        return None
    how = dict(trainer.get("activation_checkpointing_kwargs") or {})
    return Checkpointing(
        every_n_layers=int(how.get("every_n_layers", 1)),
        selective=bool(how.get("selective")),
        offload=bool(how.get("offload")) or bool(trainer.get("activation_offloading")),
    )


def longest(plan: Plan) -> int:
    """Tokens of the longest row that can come: what `max_length` cuts at, unless `prepare` has counted less."""
    if plan.data.packing or plan.estimate.longest is None:
        return plan.data.max_length
    multiple = int(plan.trainer.get("pad_to_multiple_of") or 1)
    return -(-plan.estimate.longest // multiple) * multiple


def document_of(plan: Plan) -> int | None:
    """Mean tokens of a document in a packed row, weighted by tokens: as many as the mean token can see of its own.

    Where nobody has counted, the plain mean of what the sources are estimated to have.
    """
    if not plan.data.packing:
        return None
    lengths, most = plan.estimate.lengths, plan.data.max_length
    if counted := sum(min(tokens, most) * often for tokens, often in lengths):
        return max(1, round(sum(min(tokens, most) ** 2 * often for tokens, often in lengths) / counted))
    known = [each for each in plan.estimate.sources if each.tokens and each.left]
    rows = sum((each.left or 0) * (each.epochs or 1.0) for each in known)
    if not rows:
        return None
    return max(1, min(plan.data.max_length, round(sum(each.tokens or 0 for each in known) / rows)))


def _settings(plan: Plan) -> Iterator[tuple[str, float | int | bool | str]]:
    """What of a sharding's settings changes what is held."""
    zero = dict((plan.trainer.get("deepspeed") or {}).get("zero_optimization") or {})
    fsdp = plan.trainer.get("fsdp_config") or {}
    yield from ((key, value) for key, value in {**zero, **fsdp}.items() if isinstance(value, bool | int | float | str))
    accumulation = (plan.trainer.get("accelerator_config") or {}).get("gradient_accumulation_kwargs") or {}
    if accumulation.get("sync_each_batch"):
        yield "sync_each_batch", True
    if plan.method == "qlora" and plan.strategy in ("fsdp2", "zero3"):
        stored = (plan.quantization or {}).get("bnb_4bit_quant_storage", "uint8")
        yield "shared_codes", stored != "uint8"
