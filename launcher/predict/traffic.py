"""Bytes that pass a device's memory for what works on single elements: norms, activations, residuals, adapters, the loss.

Counted per operation as transformers' modules run it, each reading its inputs from memory and writing its output there, in
accesses of one element; `compile` joins neighbours, so that what lies between them never leaves the chip. A backward pass
reads what was saved and the gradients, about twice the accesses of the forward pass.
"""

from __future__ import annotations

from dataclasses import dataclass

from launcher.predict.flops import is_recomputed
from launcher.predict.matrices import blocks_with_attention, matrices
from launcher.predict.memory_states import constant_bytes, weight_bytes
from launcher.predict.pairs import attention_is_whole
from launcher.predict.setup import BYTES, Setup


@dataclass(frozen=True)
class Accesses:
    """How often an element is read or written in a forward pass."""

    norm: int
    """Of what a norm normalizes: to float32 and back, square, mean, scale, weight."""
    rotary: int
    """Of queries and keys: rotated, two products, a sum."""
    activation: int
    """Of a feed-forward layer's width: the activation, and the product with the gate."""
    residual: int
    """Of the stream: a sum."""
    adapter_in: int
    """Of what enters an adapted layer: read by A."""
    adapter_out: int
    """Of what leaves it: written by B, scaled, added."""


EAGER = Accesses(norm=16, rotary=9, activation=5, residual=3, adapter_in=1, adapter_out=6)
COMPILED = Accesses(norm=3, rotary=2, activation=3, residual=2, adapter_in=1, adapter_out=3)
_CAST = 6
"""Of what enters an adapter kept in another type: cast to it, and back by autocast."""
_DROPPED = 3
"""The same with dropout: read, written, and a mask."""
_SCORES = 12
"""Of each score, where attention is eager: written, scaled, masked, softmax in float32, cast, read again."""
_ROUTED = 6
"""Of each token that goes to an expert: picked out, weighted, added back."""
_LOGITS_GPU, _LOGITS_CPU = 5, 30
"""Of each logit of TRL's head: one kernel on a GPU; on a CPU each of its steps is an operation of its own, in float32."""
_BACKWARD = 2


def element_bytes(setup: Setup) -> tuple[float, float]:
    """(forward, backward) bytes of one micro-batch on one rank; the backward pass with what it computes again."""
    width = BYTES[setup.precision]
    each = COMPILED if setup.compile else EAGER
    adapters = _adapters(setup, each)
    blocks = [
        (_block(setup, block, each) + adapters.get(block, 0.0)) * width for block in range(len(setup.model.per_layer))
    ]
    again = sum(size for block, size in enumerate(blocks) if is_recomputed(block, setup))
    logits = setup.model.vocabulary * (_LOGITS_GPU if setup.device == "cuda" else _LOGITS_CPU)
    head = float(setup.tokens) * logits * width
    forward = sum(blocks)
    return forward + head / 2, forward * _BACKWARD + again + head / 2


def weights_read(setup: Setup) -> float:
    """Bytes of weights that one pass over the model reads for its matrix products, in the type they are multiplied in."""
    model = setup.model
    quantized = model.linear_parameters if setup.method in ("qlora", "int8") else 0
    expanded = quantized * BYTES[setup.precision]
    return expanded + (model.parameters - quantized) * BYTES[setup.dtype]


def expanded_bytes(setup: Setup) -> float:
    """Bytes that expanding a quantized base to the type of its products reads and writes, once."""
    if setup.method not in ("qlora", "int8"):
        return 0.0
    model = setup.model
    others = (model.parameters - model.linear_parameters) * BYTES[setup.dtype]
    return weight_bytes(setup) + constant_bytes(setup) - others + model.linear_parameters * BYTES[setup.precision]


def _block(setup: Setup, block: int, each: Accesses) -> float:
    """Accesses of the forward pass of one block, without its adapters."""
    model = setup.model
    names = model.per_layer[block]
    queries, keys = model.heads * model.head_dim, model.kv_heads * model.head_dim
    norms = sum(1 for name, shape in names.items() if "norm" in name.lower() and shape == (model.hidden,))
    head_norms = queries * ("self_attn.q_norm.weight" in names) + keys * ("self_attn.k_norm.weight" in names)
    active = max(1, model.experts_per_token)
    per_token = (
        each.norm * (norms * model.hidden + head_norms)
        + each.rotary * (queries + keys)
        + each.activation * (1 if model.gated else 0.4) * model.ffn * active
        + each.residual * 2 * model.hidden
        + (_ROUTED * active * model.hidden if model.experts else 0)
    )
    return setup.tokens * per_token + _scores(setup, block)


def _adapters(setup: Setup, each: Accesses) -> dict[int, float]:
    """Block → accesses of the forward pass of its adapters."""
    found: dict[int, float] = {}
    if setup.adapter is None:
        return found
    cast = 0 if setup.adapter.dtype == setup.precision else _CAST
    dropped = _DROPPED if setup.adapter.dropout else 0
    for matrix in matrices(setup.model):
        if setup.adapter.ranks.get(matrix.name) and matrix.name in setup.model.linear:
            accesses = (each.adapter_in + cast + dropped) * matrix.inputs + each.adapter_out * matrix.outputs
            found[matrix.block] = found.get(matrix.block, 0.0) + setup.tokens * accesses
    return found


def _scores(setup: Setup, block: int) -> float:
    """Scores that eager attention keeps in memory; a fused kernel never does."""
    if setup.attention != "eager" or not any(place == block for place, _ in blocks_with_attention(setup.model)):
        return 0.0
    keys = setup.tokens if setup.packing and attention_is_whole(setup) else setup.length
    return float(_SCORES) * setup.model.heads * setup.tokens * keys
