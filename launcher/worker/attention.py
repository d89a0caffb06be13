"""Attention for packed rows where no flash kernel is installed: each document apart, and no mask of all pairs of tokens.

TRL lays a packed batch out as one row. Given that row, transformers' `sdpa` builds a mask of its square and computes
all of it, most of it between documents that must not see one another. TRL's collator also says where documents begin
(`cu_seq_lens_q`), which is all that is needed to leave those pairs out. Measured in `benchmarks/layout.py`.

Shapes: B = batch, H = heads, T = tokens of the row, D = size of a head.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

SDPA_DOCUMENTS = "sdpa_documents"
"""The value of `attn_implementation` that selects it. It says `sdpa`, so transformers refuses it where it refuses that."""


def register() -> None:
    """Make `sdpa_documents` known to transformers, before a model is loaded with it.

    It computes what `sdpa` computes: documents are taken apart where TRL packed them, in training and in evaluation;
    padded batches and generation go to `sdpa` unchanged. Layers with a window take documents apart that fit in it,
    and build the mask for a row with a longer one. A model that works on the mask itself (Falcon with ALiBi, Doge)
    cannot be trained with it and says so at the first packed batch.
    """
    AttentionInterface.register(SDPA_DOCUMENTS, _attention)
    AttentionMaskInterface.register(SDPA_DOCUMENTS, _mask)


class _PackedMask:
    """The mask of a packed row, built only if a layer asks for it. One for each forward, shared by its layers."""

    def __init__(self, build: Callable[[], Tensor], reach: int | None) -> None:
        self._build = build
        self._reach = reach
        self._lengths: list[int] | None = None

    @cached_property
    def dense_B1TT(self) -> Tensor:  # noqa: N802 - named by shape
        """What `sdpa` would have been given."""
        return self._build()

    def documents(self, starts: Tensor | None, tokens: int) -> list[int] | None:
        """Length of each document of a row; None where taking them apart is not the same as the mask."""
        if starts is None:
            return None
        if self._lengths is None:
            self._lengths = starts.diff().tolist()
        # With a window, a document longer than it needs a mask of its own.
        apart = sum(self._lengths) == tokens and (self._reach is None or max(self._lengths) <= self._reach)
        return self._lengths if apart else None


def _mask(**arguments: Any) -> Any:
    """What transformers calls to make a mask: `sdpa`'s, put off for a row in which positions start anew.

    Such a row is where transformers forbids to leave a causal mask to `is_causal` although nothing is padded, no keys
    are cached and the model adds no rule of its own (`use_vmap`).
    """
    tokens, keys = arguments["q_length"], arguments["kv_length"]
    plain = arguments.get("allow_is_causal_skip", True) or "allow_is_bidirectional_skip" in arguments
    own_rule = arguments.get("use_vmap", False) or arguments.get("attention_mask") is not None
    if plain or own_rule or tokens != keys or tokens == 1:
        return sdpa_mask(**arguments)
    return _PackedMask(lambda: sdpa_mask(**arguments), arguments.get("local_size"))


def _attention(
    module: torch.nn.Module,
    query_BHTD: Tensor,
    key_BHTD: Tensor,
    value_BHTD: Tensor,
    attention_mask: Tensor | _PackedMask | None,
    **arguments: Any,
) -> tuple[Tensor, None]:
    """What transformers calls for each layer. Key and value may have fewer heads; `sdpa` knows what to do."""
    heads_BHTD = (query_BHTD, key_BHTD, value_BHTD)
    if not isinstance(attention_mask, _PackedMask):
        return _sdpa(module, heads_BHTD, attention_mask, arguments)
    lengths = attention_mask.documents(arguments.get("cu_seq_lens_q"), query_BHTD.shape[2])
    if lengths is None or len(query_BHTD) > 1 or arguments.get("position_bias") is not None:
        return _sdpa(module, heads_BHTD, attention_mask.dense_B1TT, arguments)
    # split, not slices: the gradient of a slice is as long as the row
    apart = zip(*(torch.split(tensor, lengths, dim=2) for tensor in heads_BHTD), strict=True)
    causal = {**arguments, "is_causal": True}
    return torch.cat([_sdpa(module, document, None, causal)[0] for document in apart], dim=1), None


def _sdpa(
    module: torch.nn.Module, heads_BHTD: tuple[Tensor, ...], mask: Tensor | None, arguments: dict[str, Any]
) -> tuple[Tensor, None]:
    output_BTHD, _ = sdpa_attention_forward(module, *heads_BHTD, mask, **arguments)
    return output_BTHD, None
