"""Packed rows are computed as their documents alone would be, by each attention kernel."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from benchmarks.gpu import attention, machine, models
from benchmarks.gpu.record import Record, Row
from benchmarks.gpu.setup import Scale, Setup
from benchmarks.gpu.shapes import QWEN3_06B

SUITE = "packed"
LENGTHS = (700, 33, 1, 257, 1024, 16)


def rows(scale: Scale, _: Record) -> list[Row]:
    """One row per kernel."""
    shape = replace(QWEN3_06B, layers=4)
    setups = {name: Setup(shape, "full", packing=True, rows=1, attention=name) for name in attention.PACKED}
    return [
        Row(SUITE, name, scale.fit(setup).described(), lambda setup=setup: differences(setup, scale))
        for name, setup in setups.items()
    ]


def differences(setup: Setup, scale: Scale) -> dict[str, Any]:
    """Largest difference of logits, packed against each document alone, as a share of the largest logit.

    Alone by the same kernel (rounding only), and alone by sdpa in float32 (the type's error too). As a measure of what
    that means, sdpa in the same type alone against float32: a kernel should not be much worse.
    """
    setup = scale.fit(setup)
    attention.require(setup.attention, scale.device)
    machine.release()
    random = torch.Generator().manual_seed(0)
    sizes = [max(1, size // 16) for size in LENGTHS] if scale.smoke else LENGTHS
    documents = [torch.randint(3, setup.shape.vocabulary, (size,), generator=random).tolist() for size in sizes]
    model = models.build(setup, scale.device).eval()
    packed, alone = _packed(model, documents, scale), _alone(model, documents, scale)
    model.set_attn_implementation("sdpa")
    same_type = _alone(model, documents, scale)
    exact = _alone(model.float(), documents, scale)
    largest = exact.abs().max()
    shares = {
        "packed_to_alone": packed - alone, "packed_to_float32": packed - exact, "sdpa_to_float32": same_type - exact
    }  # fmt: skip
    return {name: float(difference.abs().max() / largest) for name, difference in shares.items()}


@torch.no_grad()
def _packed(model: Any, documents: list[list[int]], scale: Scale) -> torch.Tensor:
    collate = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)
    row = [token for document in documents for token in document]
    batch = collate([{"input_ids": row, "labels": row, "seq_lengths": [len(each) for each in documents]}])
    moved = {key: value.to(scale.device) if torch.is_tensor(value) else value for key, value in batch.items()}
    del moved["labels"]
    logits: torch.Tensor = model(**moved, use_cache=False).logits[0].float()
    return logits[: len(row)]


@torch.no_grad()
def _alone(model: Any, documents: list[list[int]], scale: Scale) -> torch.Tensor:
    found = []
    for document in documents:
        ids = torch.tensor([document], device=scale.device)
        found.append(model(input_ids=ids, use_cache=False).logits[0].float())
    return torch.cat(found)
