"""One block of a transformer on a tape: attention by implementation, feed-forward layer, experts."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from launcher.predict.memory_layers import FLOAT32, Layers, Lora
from launcher.predict.setup import Setup
from launcher.predict.sizes import Shape
from launcher.predict.tape import Storage, Tape, Tensor, Weight

DOCUMENTS, VARLEN = "sdpa_documents", "sdpa_varlen"


class Block:
    """One layer: its weights, and what its forward pass does with a batch."""

    def __init__(self, layers: Layers, weights: Mapping[str, Weight], loras: Mapping[str, Lora]) -> None:
        self.layers, self.weights, self.loras = layers, weights, loras
        self.tape, self.setup, self.model = layers.tape, layers.setup, layers.setup.model
        self.queries = self.model.heads * self.model.head_dim * layers.tokens
        self.keys = self.model.kv_heads * self.model.head_dim * layers.tokens

    def all_weights(self) -> list[Weight]:
        """Those of the layer and of its adapters."""
        return [*self.weights.values(), *(each for lora in self.loras.values() for each in (lora.down, lora.up))]

    def run(self, x: Tensor, angles: Tensor, mask: Tensor | None) -> Tensor:
        """Attention and feed-forward layer, each with its norms and the residual stream around it."""
        behind = "pre_feedforward_layernorm.weight" in self.weights
        inner = self._norm(x, "input_layernorm", behind=behind)
        inner = self._attention(inner, angles, mask)
        around = (
            "post_feedforward_layernorm.weight" in self.weights
        )  # norms of what a part gives, not only of what it gets
        if around:
            inner = self._norm(inner, "post_attention_layernorm", behind=behind)
        x = self.layers.add(x, inner)
        del inner
        before = "pre_feedforward_layernorm" if around else "post_attention_layernorm"
        inner = self._norm(x, before, behind=behind)
        inner = self._experts(inner) if self.model.experts and self._sparse else self._feed_forward(inner)
        if around:
            inner = self._norm(inner, "post_feedforward_layernorm", behind=behind)
        return self.layers.add(x, inner)

    @property
    def _sparse(self) -> bool:
        return any(".experts." in name for name in self.weights)

    def _norm(self, x: Tensor, name: str, *, behind: bool = False) -> Tensor:
        weight = self.weights.get(f"{name}.weight")
        return x if weight is None else self.layers.norm(x, weight, behind=behind)

    def _linear(self, x: Tensor, name: str, out: int) -> Tensor:
        return self.layers.linear(x, self.weights[f"{name}.weight"], out, self.loras.get(name))

    def _attention(self, x: Tensor, angles: Tensor, mask: Tensor | None) -> Tensor:
        if "self_attn.q_proj.weight" in self.weights:
            query = self._norm(self._linear(x, "self_attn.q_proj", self.queries), "self_attn.q_norm")
            key = self._norm(self._linear(x, "self_attn.k_proj", self.keys), "self_attn.k_norm")
            value = self._linear(x, "self_attn.v_proj", self.keys)
        else:
            query, key, value = self._together(x)
        del x
        query, key = self._rotated(query, key, angles)
        out = attention(self.tape, self.setup, query, key, value, mask, self.queries)
        del query, key, value
        if "self_attn.q_proj.weight" not in self.weights:  # rotated apart, they lie otherwise than the result must
            out = self.tape.op(out.numel, out.width, [out])
        name = next((name for name in self.weights if name.endswith(("o_proj.weight", "attention.dense.weight"))), None)
        if name is None:
            return self.tape.op(
                out.numel // max(1, self.queries) * self.layers.tokens * self.model.hidden, out.width, [out]
            )
        return self._linear(out, name.removesuffix(".weight"), self.layers.tokens * self.model.hidden)

    def _rotated(self, query: Tensor, key: Tensor, angles: Tensor) -> tuple[Tensor, Tensor]:
        """As transformers' `apply_rotary_pos_emb`: the caller holds the plain ones until both are done."""
        turned = self.layers.rope(query, angles)
        return turned, self.layers.rope(key, angles)

    def _together(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One matrix for queries, keys and values (Phi-3, GPT-2, GPT-NeoX)."""
        found = [
            name
            for name in self.weights
            if name.endswith(("qkv_proj.weight", "query_key_value.weight", "c_attn.weight"))
        ]
        if not found:
            return x, x, x
        whole = self._linear(x, found[0].removesuffix(".weight"), self.queries + 2 * self.keys)
        parts = [self.tape.op(size, whole.width, [whole], view=whole) for size in (self.queries, self.keys, self.keys)]
        return parts[0], parts[1], parts[2]

    def _feed_forward(self, x: Tensor) -> Tensor:
        """down(act(gate(x)) · up(x)), or down(act(up(x))) where the model has no gate."""
        tape, tokens = self.tape, self.layers.tokens
        matrices = [name.removesuffix(".weight") for name in self.weights if _is_feed_forward(name)]
        if len(matrices) == 3:
            wide = tokens * self.weights[f"{matrices[0]}.weight"].numel // self.model.hidden
            gate = self._linear(x, matrices[0], wide)
            active = tape.op(gate.numel, gate.width, [gate], keep=[gate])
            del gate
            inner = self.layers.multiply(active, self._linear(x, matrices[1], wide))
            del active
            return self._linear(inner, matrices[2], tokens * self.model.hidden)
        if len(matrices) != 2:
            return tape.op(x.numel, x.width, [x])
        wide = tokens * self.weights[f"{matrices[0]}.weight"].numel // self.model.hidden
        inner = self._linear(x, matrices[0], wide)
        if self.model.gated:
            half = tape.op(wide // 2, inner.width, [inner], view=inner)
            active = tape.op(wide // 2, inner.width, [half], keep=[half])
            inner = self.layers.multiply(active, tape.op(wide // 2, inner.width, [inner], view=inner))
            del half, active
        else:
            inner = tape.op(inner.numel, inner.width, [inner], keep=[inner])
        return self._linear(inner, matrices[1], tokens * self.model.hidden)

    def _experts(self, x: Tensor) -> Tensor:
        """Each token's rows are copied to its experts, multiplied there and summed (transformers' `grouped_mm`)."""
        tape, layers, model = self.tape, self.layers, self.model
        chosen = layers.tokens * model.experts_per_token
        router = next(
            (self.weights[name] for name in self.weights if name.endswith(("gate.weight", "router.weight"))), None
        )
        weights = [self.weights[name] for name in self.weights if ".experts." in name]
        if router is not None:
            scores = layers.matrix(x, router, layers.tokens * model.experts)
            odds = layers.remembered(scores, FLOAT32)
            top = tape.op(chosen, FLOAT32, [odds], back_scratch=0)
            del scores, odds
        else:
            top = tape.op(chosen, FLOAT32, [])
        rows = tape.op(chosen * model.hidden, x.width, [x])
        wide = chosen * model.ffn
        both = layers.matrix(rows, weights[0], 2 * wide)
        del rows
        gate = tape.op(wide, both.width, [both], view=both)
        active = tape.op(wide, both.width, [gate], keep=[gate])
        inner = layers.multiply(active, tape.op(wide, both.width, [both], view=both))
        del both, gate, active
        out = layers.matrix(inner, weights[-1], chosen * model.hidden)
        del inner
        weighed = tape.op(out.numel, max(out.width, top.width), [out, top], keep=[out if top.node else None, top])
        del out
        return layers.cast(tape.op(layers.tokens * model.hidden, weighed.width, [weighed]), x.width)


def _is_feed_forward(name: str) -> bool:
    return (
        ".experts." not in name
        and name.startswith(("mlp.", "intermediate.", "output.dense"))
        and name.endswith(".weight")
    )


def attention(
    tape: Tape, setup: Setup, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, size: int
) -> Tensor:
    """softmax(Q · Kᵀ) · V by the setup's implementation; [rows, tokens, query width]."""
    layers = Layers(tape, setup)
    if setup.attention == "eager":
        return _eager(layers, query, key, value, mask)
    if layers.autocast is not None:
        query, key, value = (layers.cast(each, layers.autocast) for each in (query, key, value))
    heads, tokens = setup.model.heads, setup.tokens
    if mask is not None:
        return _masked(layers, query, key, value, mask)
    # Flash kernels add up the queries' gradient in float32, and make those of keys and values for each query head.
    extra = 0
    if setup.device == "cuda":
        extra = (
            size * FLOAT32 + (2 * size * query.width if setup.model.kv_heads != heads else 0) + heads * tokens * FLOAT32
        )
    out = _kernel(layers, (query, key, value), None, extra)
    if setup.attention == DOCUMENTS and setup.packing and setup.document != setup.tokens:
        out = tape.op(size, out.width, [out])
    return out


def _masked(layers: Layers, query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """A mask rules out grouped heads: keys and values are copied for each head. The mask is made a number for each layer."""
    tape, _setup = layers.tape, layers.setup
    if key.numel != query.numel:
        key, value = (tape.op(query.numel, each.width, [each]) for each in (key, value))
    bias = tape.new(mask.numel * query.width)
    return _kernel(layers, (query, key, value), bias, 0)


def _kernel(layers: Layers, inputs: tuple[Tensor, Tensor, Tensor], bias: Storage | None, extra: int) -> Tensor:
    """One fused operation: its gradient needs what went in, what came out, and a norm of each row. Selective checkpointing keeps the latter two."""
    tape, setup, query = layers.tape, layers.setup, inputs[0]
    norms = tape.lasting(setup.model.heads * setup.tokens * FLOAT32)
    result = tape.lasting(query.numel * query.width)
    view = Tensor(result, query.numel, query.width, None)
    return tape.op(query.numel, query.width, inputs, keep=[*inputs, norms, result, bias], back_scratch=extra, view=view)


def _eager(layers: Layers, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """Scores of all pairs of tokens."""
    tape, setup = layers.tape, layers.setup
    pairs = setup.model.heads * (setup.tokens**2 if setup.packing else setup.tokens * setup.length)
    if key.numel != query.numel:
        key, value = (tape.op(query.numel, each.width, [each]) for each in (key, value))
    if layers.autocast is not None:
        query, key, value = (layers.cast(each, layers.autocast) for each in (query, key, value))
    scores = tape.op(pairs, query.width, [query, key], keep=[query, key])
    scores = tape.op(pairs, query.width, [scores])
    if setup.model.kind == "gemma2":  # soft caps: divided, through tanh, multiplied again
        scores = tape.op(pairs, query.width, [scores])
        scores = layers.remembered(scores, query.width)
        scores = tape.op(pairs, query.width, [scores])
    if mask is not None:
        scores = tape.op(pairs, max(scores.width, mask.width), [scores], back="same")
    odds = layers.remembered(scores, FLOAT32)
    del scores
    odds = layers.cast(odds, query.width)
    out = tape.op(query.numel, query.width, [odds, value], keep=[odds, value])
    del odds
    return tape.op(query.numel, query.width, [out])


def make_mask(tape: Tape, setup: Setup) -> Tensor | None:
    """What tells apart padding or packed documents: every pair of tokens of a row, and None where nothing is needed.

    TRL lays a packed batch out as one row. A batch of one unpacked row holds no padding.
    """
    pairs = setup.tokens**2 if setup.packing else setup.tokens * setup.length
    if setup.attention == "eager":
        width = 4 if setup.dtype == "float32" else 2
        return tape.op(pairs, width, scratch=2 * pairs)
    if setup.attention != "sdpa" or (not setup.packing and setup.rows == 1):
        return None
    return tape.op(pairs, 1, scratch=2 * pairs)


def numel(shape: Shape) -> int:
    """Elements of a shape."""
    return prod(shape)


__all__ = ["Block", "Storage", "attention", "make_mask", "numel"]
