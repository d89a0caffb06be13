"""The result of a sharded training as one plain model or adapter, gathered weight by weight.

Never is more than one weight gathered on a device, or more than one and a file's worth held in host memory: whole weights
lie in a file beside the result until transformers has written them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import torch
from peft import PeftModel
from torch.distributed.tensor import DTensor

from launcher.plan.types import Plan

_FILE_BYTES = "5GB"


def needed(plan: Plan) -> bool:
    """Whether ranks hold parts of weights, which transformers would not put together."""
    return plan.strategy in ("fsdp2", "zero3")


def save(trainer: Any, folder: Path, rank: int) -> None:
    """Write the model, or the adapter, and the tokenizer to `folder`. Every rank must call it; rank 0 writes."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    adapter = isinstance(model, PeftModel)
    scratch = folder / "gathered"
    if rank == 0:
        scratch.mkdir(parents=True, exist_ok=True)
    weights: dict[str, torch.Tensor] = {}
    for name, whole in gathered(model, trainer.accelerator.device, trained_only=adapter):
        if rank == 0:
            weights[name] = whole if adapter else _on_disk(whole, scratch / str(len(weights)))
    if rank == 0:
        kept = {} if adapter else {"max_shard_size": _FILE_BYTES}
        model.save_pretrained(folder, state_dict=weights, **kept)
        trainer.processing_class.save_pretrained(folder)
        del weights
        shutil.rmtree(scratch)


def gathered(model: torch.nn.Module, device: torch.device, *, trained_only: bool) -> Iterator[tuple[str, torch.Tensor]]:
    """Name and whole value of each weight, one after the other, in host memory. Every rank must go through all of them.

    Args:
        model: shared out by FSDP2 or ZeRO-3.
        device: where ranks exchange parts; those that lie in host memory go there first.
        trained_only: leave out what is frozen.
    """
    for name, weight in model.named_parameters():
        if trained_only and not weight.requires_grad:
            continue
        if isinstance(weight, DTensor):
            yield name, cast(DTensor, weight.to(device)).full_tensor().detach().cpu()
            continue
        with _whole(weight):
            value = weight.detach().cpu().clone()
        yield name, value
    if not trained_only:
        persistent = set(model.state_dict(keep_vars=True))
        yield from ((name, buffer.detach().cpu()) for name, buffer in model.named_buffers() if name in persistent)


def _whole(weight: torch.Tensor) -> Any:
    """ZeRO-3 puts a weight together for as long as it is looked at."""
    if not hasattr(weight, "ds_id"):
        return nullcontext()
    import deepspeed

    return deepspeed.zero.GatheredParameters([weight])


def _on_disk(whole: torch.Tensor, file: Path) -> torch.Tensor:
    """The same values in a file that is mapped into memory, whose pages the system may let go."""
    mapped = torch.from_file(str(file), shared=True, size=whole.numel(), dtype=whole.dtype).view(whole.shape)
    mapped.copy_(whole)
    return mapped
