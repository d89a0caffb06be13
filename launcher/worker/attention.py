"""Attention for packed rows where no flash package is installed: documents apart, and no mask of all pairs of tokens.

TRL lays a packed batch out as one row. Given that row, transformers' `sdpa` builds a mask of its square and computes
all of it, most of it between documents that must not see one another. TRL's collator also says where documents begin
(`cu_seq_lens_q`), which is all that is needed to leave those pairs out: `sdpa_documents` calls `sdpa` for each document
(measured in `benchmarks/layout.py`), `sdpa_varlen` calls torch's own flash kernel once for the row, on a GPU.

Shapes: B = batch, H = heads, T = tokens of the row, D = size of a head.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

SDPA_DOCUMENTS = "sdpa_documents"
SDPA_VARLEN = "sdpa_varlen"
"""The values of `attn_implementation` that select them. Both say `sdpa`: transformers refuses them where it refuses that."""


def register() -> None:
    """Make both known to transformers, before a model is loaded with one.

    They compute what `sdpa` computes: documents are told apart where TRL packed them, in training and in evaluation;
    padded batches and generation go to `sdpa` unchanged. `sdpa_documents` takes documents apart that fit in a layer's
    window, and builds the mask for a row with a longer one; `sdpa_varlen` hands the window to its kernel. A model that
    works on the mask itself (Falcon with ALiBi, Doge) cannot be trained with them and says so at the first packed batch.
    """
    for name, attention in ((SDPA_DOCUMENTS, _documents), (SDPA_VARLEN, _varlen)):
        AttentionInterface.register(name, attention)
        AttentionMaskInterface.register(name, _mask)


class _PackedMask:
    """The mask of a packed row, built only if a layer asks for it. One for each forward, shared by its layers."""

    def __init__(self, build: Callable[[], Tensor], reach: int | None) -> None:
        self._build = build
        self.reach = reach
        self._lengths: list[int] | None = None

    @cached_property
    def dense_B1TT(self) -> Tensor:  # noqa: N802 - named by shape
        """What `sdpa` would have been given."""
        return self._build()

    def lengths(self, starts: Tensor | None, tokens: int) -> list[int] | None:
        """Length of each document of a row; None where `starts` does not tell them."""
        if starts is None:
            return None
        if self._lengths is None:
            self._lengths = starts.diff().tolist()  # waits for the GPU, once for each forward
        return self._lengths if sum(self._lengths) == tokens else None


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


def _documents(
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
    lengths, reach = _lengths(attention_mask, query_BHTD, arguments), attention_mask.reach
    # With a window, a document longer than it needs a mask of its own.
    if lengths is None or (reach is not None and max(lengths) > reach):
        return _sdpa(module, heads_BHTD, attention_mask.dense_B1TT, arguments)
    # split, not slices: the gradient of a slice is as long as the row
    apart = zip(*(torch.split(tensor, lengths, dim=2) for tensor in heads_BHTD), strict=True)
    causal = {**arguments, "is_causal": True}
    return torch.cat([_sdpa(module, document, None, causal)[0] for document in apart], dim=1), None


def _varlen(
    module: torch.nn.Module,
    query_BHTD: Tensor,
    key_BHTD: Tensor,
    value_BHTD: Tensor,
    attention_mask: Tensor | _PackedMask | None,
    **arguments: Any,
) -> tuple[Tensor, None]:
    """The same by one kernel for the row, in the 16-bit type of autocast or of the values.

    Raises:
        ValueError: the layer asks for what the kernel cannot do (dropout, sinks), or computes in 32 bits.
    """
    if not isinstance(attention_mask, _PackedMask):
        return _sdpa(module, (query_BHTD, key_BHTD, value_BHTD), attention_mask, arguments)
    lengths, reach = _lengths(attention_mask, query_BHTD, arguments), attention_mask.reach
    if lengths is None or (reach is not None and reach != arguments.get("sliding_window")):
        return _sdpa(module, (query_BHTD, key_BHTD, value_BHTD), attention_mask.dense_B1TT, arguments)
    if arguments.get("dropout") or arguments.get("s_aux") is not None or arguments.get("softcap") is not None:
        raise ValueError(f"`{SDPA_VARLEN}` has no dropout, no sinks and no soft cap: use another attn_implementation")
    device = query_BHTD.device.type
    kind = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else value_BHTD.dtype
    if kind not in (torch.bfloat16, torch.float16):
        raise ValueError(f"`{SDPA_VARLEN}` computes in 16 bits, this model in {kind}: use another attn_implementation")
    query_THD, key_THD, value_THD = (each[0].transpose(0, 1).to(kind) for each in (query_BHTD, key_BHTD, value_BHTD))
    starts, longest = arguments["cu_seq_lens_q"], max(lengths)
    output_THD = varlen_attn(
        query_THD,
        key_THD,
        value_THD,
        starts,
        starts,
        longest,
        longest,
        scale=arguments.get("scaling"),
        # how far back a token sees beside itself, and ahead; -1: all
        window_size=(-1 if reach is None else reach - 1, 0),
        enable_gqa=query_BHTD.shape[1] != key_BHTD.shape[1],
    )
    assert isinstance(output_THD, Tensor)  # noqa: S101 - a tuple only with `return_aux`
    return output_THD.unsqueeze(0).to(query_BHTD.dtype), None


def _lengths(mask: _PackedMask, query_BHTD: Tensor, arguments: dict[str, Any]) -> list[int] | None:
    """Length of each document of the one row of a batch; None where only the mask tells them apart."""
    if len(query_BHTD) > 1 or arguments.get("position_bias") is not None:
        return None
    return mask.lengths(arguments.get("cu_seq_lens_q"), query_BHTD.shape[2])


def _sdpa(
    module: torch.nn.Module, heads_BHTD: tuple[Tensor, ...], mask: Tensor | None, arguments: dict[str, Any]
) -> tuple[Tensor, None]:
    output_BTHD, _ = sdpa_attention_forward(module, *heads_BHTD, mask, **arguments)
    return output_BTHD, None
