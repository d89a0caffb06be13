"""GPT-2's layer on a tape: LayerNorm, one matrix for queries, keys and values, GELU by its formula, dropout everywhere (0.1 by default)."""

from __future__ import annotations

from launcher.predict.memory_block import Block
from launcher.predict.memory_layers import FLOAT32, Layers
from launcher.predict.tape import Storage, Tensor, Weight


class Gpt2Block(Block):
    """One layer of GPT-2."""

    def run(self, x: Tensor, angles: Tensor, mask: Tensor | None) -> Tensor:
        """Attention and feed-forward layer behind their norms."""
        del angles
        layers = self.layers
        inner = self._attended(layer_norm(layers, x, self.weights["ln_1.weight"]), mask)
        x = layers.add(dropout(layers, inner), x)
        del inner
        size = x.numel
        inner = layer_norm(layers, x, self.weights["ln_2.weight"])
        wide = size * self.weights["mlp.c_fc.weight"].numel // self.model.hidden**2
        inner = self._linear(inner, "mlp.c_fc", wide)
        inner = self._linear(_gelu(layers, inner), "mlp.c_proj", size)
        return layers.add(x, dropout(layers, inner))

    def _attended(self, x: Tensor, mask: Tensor | None) -> Tensor:
        tape, size = self.tape, self.queries
        whole = self._linear(x, "attn.c_attn", 3 * size)
        query, key, value = (tape.op(size, whole.width, [whole], view=whole) for _ in range(3))
        del whole
        out = _attention(self.layers, (query, key, value), mask)
        del query, key, value
        return self._linear(tape.op(size, out.width, [out]), "attn.c_proj", size)


def _attention(layers: Layers, heads: tuple[Tensor, Tensor, Tensor], mask: Tensor | None) -> Tensor:
    """With dropout, only GPUs have a kernel; elsewhere scores, their softmax and what dropout leaves of it are held."""
    tape, setup, (query, key, value) = layers.tape, layers.setup, heads
    if setup.device == "cuda" and setup.attention != "eager":
        norms = tape.new(setup.model.heads * setup.tokens * FLOAT32)
        result = tape.new(query.numel * query.width)
        view = Tensor(result, query.numel, query.width, None)
        bias = tape.new(mask.numel * query.width) if mask is not None else None
        return tape.op(query.numel, query.width, heads, keep=[*heads, norms, result, bias], view=view)
    pairs = setup.model.heads * (setup.tokens**2 if setup.packing else setup.tokens * setup.length)
    query, key = (tape.op(each.numel, each.width, [each]) for each in (query, key))
    scores = tape.op(pairs, query.width, [query, key], keep=[query, key])
    odds = dropout(layers, layers.remembered(tape.op(pairs, scores.width, [scores], back="same"), scores.width))
    del scores
    return tape.op(query.numel, query.width, [odds, value], keep=[odds, value])


def layer_norm(layers: Layers, x: Tensor, weight: Weight) -> Tensor:
    """Torch's own: it keeps its input, and a mean and a deviation of each row."""
    stats: Storage = layers.tape.new(2 * FLOAT32 * max(1, x.numel // weight.numel))
    return layers.tape.op(x.numel, x.width, [x, weight], keep=[x, stats])


def dropout(layers: Layers, x: Tensor) -> Tensor:
    """A flag for each element on a GPU, a factor on a CPU."""
    mask = layers.tape.new(x.numel * (1 if layers.setup.device == "cuda" else x.width))
    return layers.tape.op(x.numel, x.width, [x], keep=[mask])


def _gelu(layers: Layers, x: Tensor) -> Tensor:
    """½ x · (1 + tanh(c · (x + a x³))), each operation by itself."""
    tape, size, width = layers.tape, x.numel, x.width
    cube = tape.op(size, width, [tape.op(size, width, [x], keep=[x])])
    inner = tape.op(size, width, [tape.op(size, width, [x, cube], back="same")])
    del cube
    more = tape.op(size, width, [layers.remembered(inner, width)], back="same")
    del inner
    return layers.multiply(tape.op(size, width, [x]), more)
