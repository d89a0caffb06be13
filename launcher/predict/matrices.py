"""The matrices that a token passes, in the order of a forward pass: what floating-point operations are counted from."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from launcher.predict.architecture import Architecture

_BLOCK = re.compile(r"(?P<prefix>.+?)\.(?P<index>\d+)\.(?P<name>.+)")
_ENTRY = frozenset(
    [
        "q_proj",
        "k_proj",
        "v_proj",
        "qkv_proj",
        "query_key_value",
        "c_attn",
        "Wqkv",
        "query",
        "key",
        "value",
        "q",
        "k",
        "v",
        "q_lin",
        "k_lin",
        "v_lin",
        "in_proj",
        "q_a_proj",
        "kv_a_proj_with_mqa",
    ]
)
"""Modules that read what enters the block's attention."""
_WIDE = frozenset(
    [
        "gate",
        "router",
        "gate_proj",
        "up_proj",
        "gate_up_proj",
        "fc1",
        "fc_in",
        "c_fc",
        "wi",
        "wi_0",
        "wi_1",
        "w1",
        "w3",
        "lin1",
        "dense_h_to_4h",
        "Wi",
    ]
)
"""Modules that read what enters its feed-forward layer."""
_NARROW = frozenset(["down_proj", "fc2", "fc_out", "wo", "w2", "lin2", "dense_4h_to_h"])
"""Modules that write what leaves it."""
ENTRY, INSIDE, WIDE, NARROW = range(4)
"""Stages of a block: into attention, out of it, into the feed-forward layer, out of it."""


@dataclass(frozen=True)
class Matrix:
    """A weight that activations are multiplied with."""

    name: str
    """Dotted name of its layer; of the parameter, for experts held in one tensor."""
    inputs: int
    outputs: int
    share: float = 1.0
    """How often a token passes it: of E experts each token passes k, so k/E, or k for one tensor of all of them."""
    block: int = -1
    """Which block of the model it stands in, an encoder's before its decoder's; -1: in none."""
    stage: int = INSIDE
    side: str = ""
    """`decoder` behind an encoder; `source` where a decoder's matrix reads the encoder's tokens."""

    @property
    def per_token(self) -> float:
        """Floating-point operations of one product for one token: a multiplication and an addition per element."""
        return 2.0 * self.inputs * self.outputs * self.share


def matrices(model: Architecture) -> tuple[Matrix, ...]:
    """All matrices but the output head, in the model's order; embeddings are looked up and so left out."""
    kept = _KEPT.get(id(model))
    if kept is None or kept[0] is not model:
        if len(_KEPT) >= _MOST_KEPT:
            _KEPT.clear()
        kept = _KEPT[id(model)] = (model, tuple(_matrices(model)))
    return kept[1]


_KEPT: dict[int, tuple[Architecture, tuple[Matrix, ...]]] = {}
"""By the model's identity: it has no hash, and a search asks for the same one hundreds of times."""
_MOST_KEPT = 8


def head(model: Architecture) -> Matrix:
    """The output head, its own or the input embedding's."""
    vocabulary, hidden = model.head
    side = "decoder" if model.decoder_layers else ""
    return Matrix("lm_head", hidden, vocabulary, side=side)


def blocks_with_attention(model: Architecture) -> list[tuple[int, str]]:
    """(block, side) of each attention: a decoder's block behind an encoder has two, of which one looks at the `source`."""
    found: dict[tuple[int, str], None] = {}
    for each in matrices(model):
        if each.stage == ENTRY:
            found[each.block, each.side] = None
    return list(found)


def _matrices(model: Architecture) -> Iterator[Matrix]:
    places: dict[tuple[str, str], int] = {}
    for name, shape in model.tensors.items():
        layer = name.removesuffix(".weight")
        place = _BLOCK.fullmatch(name)
        if len(shape) < 2 or name in model.embeddings or "relative_attention_bias" in name:
            continue
        if place is None:
            if not _is_head(layer, shape, model):
                yield Matrix(layer, shape[1], shape[0], side="decoder" if model.decoder_layers else "")
            continue
        block = places.setdefault((place["prefix"], place["index"]), len(places))
        inputs, outputs = shape[-1], shape[-2]
        yield Matrix(layer, inputs, outputs, _share(name, shape, model), block, _stage(layer), _side(name, model))


def _is_head(layer: str, shape: tuple[int, ...], model: Architecture) -> bool:
    return shape == model.head and layer.rpartition(".")[2] in ("lm_head", "embed_out", "output", "decoder")


def _share(name: str, shape: tuple[int, ...], model: Architecture) -> float:
    if len(shape) == 3 and model.experts:
        return float(model.experts_per_token)
    if ".experts." in name and model.experts:
        return model.experts_per_token / model.experts
    return 1.0


def _stage(layer: str) -> int:
    parts = layer.split(".")
    if parts[-1] in ("dense", "c_proj", "Wo"):  # named alike in both halves of a block
        feed_forward = "mlp" in parts or ("output" in parts and "attention" not in parts)
        return WIDE if "intermediate" in parts else NARROW if feed_forward else INSIDE
    if parts[-1] in _ENTRY:
        return ENTRY
    return WIDE if parts[-1] in _WIDE else NARROW if parts[-1] in _NARROW else INSIDE


def _side(name: str, model: Architecture) -> str:
    if not model.decoder_layers or not name.startswith(("decoder", "model.decoder")):
        return ""
    crosses = "EncDecAttention" in name or "encoder_attn" in name
    return "source" if crosses and name.split(".")[-2] in ("k", "v", "k_proj", "v_proj") else "decoder"
