"""One batch as TRL's collator makes it from the plan's rows: packed into one row, or rows with padding.

Shapes: B = rows, T = tokens of a row (of all rows, where they are packed).
"""

from __future__ import annotations

import torch
from torch import Tensor

from launcher.plan import setups
from launcher.plan.types import Plan

_MOST_DOCUMENTS = 64
"""Each is computed apart by some kinds of attention: more of them take time and change little."""

Batch = dict[str, Tensor | int]


def document_of(plan: Plan) -> int:
    """Tokens of each document of a packed row: the mean that is expected, lengthened so that few documents fill the row."""
    tokens = plan.batch.per_device * setups.longest(plan)
    wanted = max(setups.document_of(plan) or setups.longest(plan), tokens // _MOST_DOCUMENTS)
    return next(length for length in range(wanted, tokens + 1) if tokens % length == 0)


def batch_of(plan: Plan, vocabulary: int) -> Batch:
    """Full rows, and a loss at each token: the largest batch of the run."""
    rows, length = plan.batch.per_device, setups.longest(plan)
    packed = bool(plan.data.packing or plan.trainer.get("padding_free"))
    shape_BT = (1, rows * length) if packed else (rows, length)
    ids_BT = torch.randint(0, vocabulary, shape_BT)
    made: Batch = {"input_ids": ids_BT, "labels": ids_BT.clone()}
    if packed:
        document = document_of(plan)
        number = rows * length // document
        starts = torch.arange(number + 1, dtype=torch.int32) * document
        made |= {
            "position_ids": torch.arange(document).repeat(number)[None],
            "cu_seq_lens_q": starts,
            "cu_seq_lens_k": starts,
            "max_length_q": document,
            "max_length_k": document,
            "seq_idx": torch.arange(number, dtype=torch.int32)[:, None].expand(number, document).reshape(1, -1),
        }
    else:
        mask_BT = torch.ones(shape_BT, dtype=torch.long)
        if rows > 1:
            mask_BT[0, -1] = 0  # rows of a batch differ in length, and a mask of all ones would be left out
        made["attention_mask"] = mask_BT
    return made
