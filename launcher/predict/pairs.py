"""Pairs of tokens that attention computes: those that the mathematics needs, or all of a row's."""

from __future__ import annotations

from collections.abc import Iterator

from launcher.predict.architecture import Architecture
from launcher.predict.matrices import blocks_with_attention
from launcher.predict.setup import Setup


def attention_is_whole(setup: Setup) -> bool:
    """Whether the kernel computes all pairs of tokens of a row and a mask throws part of them away.

    `sdpa` is told `is_causal` for a row that is one document without padding; several rows are padded, and packed rows
    hold several documents. The kernels for documents compute a packed batch apart; padded ones they hand to `sdpa`, but
    the flash kernels take the padding out first.
    """
    if setup.attention == "eager" or not setup.model.causal:
        return True
    if setup.attention in ("sdpa", "paged|sdpa"):
        return setup.packing or setup.rows > 1
    return setup.attention in ("sdpa_documents", "sdpa_varlen") and not setup.packing and setup.rows > 1


def hides_window(setup: Setup) -> bool:
    """Whether a window smaller than a document costs all pairs: a mask instead of a kernel that knows windows."""
    return setup.attention in ("eager", "sdpa", "sdpa_documents")


def attentions(
    model: Architecture,
    rows: int,
    length: int,
    source: int,
    *,
    document: int | None,
    whole: bool,
    hides: bool = False,
) -> Iterator[tuple[int, float]]:
    """(block, pairs of tokens) of each attention.

    Args:
        model: its sizes.
        rows: rows.
        length: tokens of a row.
        source: tokens of an encoder's row.
        document: tokens of a document within a row; None: as long as the row.
        whole: all pairs of a row are computed.
        hides: so they are where a window is smaller than a document.
    """
    for block, side in blocks_with_attention(model):
        encoder = model.decoder_layers > 0 and side == ""
        queries, keys = (source if encoder else length), (length if side in ("", "decoder") and not encoder else source)
        causal = model.causal if not model.decoder_layers else side == "decoder"
        window = model.windows[block] if block < len(model.windows) else 0
        apart = min(document or keys, keys)
        if whole or (window and hides and window < apart):
            apart, window, causal = keys, 0, False
        yield block, rows * queries * _looked_at(apart, causal=causal, window=window)


def _looked_at(document: int, *, causal: bool, window: int) -> float:
    """Tokens that a token of a document looks at, on average, itself included."""
    if not causal:
        return min(document, window or document)
    window = min(window or document, document)
    # The first tokens see 1, 2, …, window; all later ones see a window.
    return window - window * (window - 1) / 2 / document
