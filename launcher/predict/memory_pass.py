"""Forward and backward pass of a whole model on a tape: the bytes held at most in each stretch of it."""

from __future__ import annotations

import re
from functools import partial

from launcher.predict.memory_block import Block, make_mask
from launcher.predict.memory_gpt2 import Gpt2Block, dropout, layer_norm
from launcher.predict.memory_head import loss
from launcher.predict.memory_layers import Layers, Lora
from launcher.predict.memory_units import Sharing
from launcher.predict.setup import BYTES, Setup
from launcher.predict.sizes import Shape
from launcher.predict.tape import LABELS, Tape, Tensor, Weight

INDEX_BYTES = 8
_BLOCK = re.compile(r".+?\.\d+\.")
"""What the names of a block's parameters begin with."""
Peaks = dict[str, tuple[int, list[int]]]


def play(setup: Setup, ends: int) -> Peaks:
    """Stretch of the step → most bytes held beside weights and optimizer, and the same by label.

    Args:
        setup: the training; every layer of its model is played.
        ends: layers at both ends whose backward passes are stretches of their own; those between them are one.
    """
    return _Pass(setup, ends).run()


class _Pass:
    def __init__(self, setup: Setup, ends: int) -> None:
        self.setup, self.model, self.ends = setup, setup.model, ends
        self.starts: list[int] = []
        """Nodes on the tape when each block began."""
        self.tape = Tape(align=512 if setup.device == "cuda" else 1)
        self.layers = Layers(self.tape, setup)
        self.sharing = Sharing(self.tape, setup)
        self.outside = {name: self._weight(name, shape) for name, shape in self.model.outside.items()}
        found = (_BLOCK.match(name) for name in self.model.tensors)
        self.prefixes = list(dict.fromkeys(each[0] for each in found if each))
        self.blocks = [self._block(index) for index in range(len(self.model.per_layer))]

    def _weight(self, name: str, shape: Shape, *, quantized: str | None = None) -> Weight:
        size = 1
        for length in shape:
            size *= length
        whole = self.setup.adapter.whole if self.setup.adapter else ()
        trained = self.setup.method == "full" or name.removesuffix(".weight") in whole
        made = Weight(name, size, BYTES[self.setup.dtype], trained=trained, quantized=quantized)
        return self.sharing.follow(made)

    def _block(self, index: int) -> Block:
        setup, prefix = self.setup, self.prefixes[index]
        quantizes = setup.method in ("qlora", "int8")
        weights, loras = {}, {}
        for name, shape in self.model.per_layer[index].items():
            module = name.removesuffix(".weight")
            whole = f"{prefix}{module}"
            linear = self.model.linear.get(whole)
            weights[name] = self._weight(whole, shape, quantized=setup.method if quantizes and linear else None)
            rank = setup.adapter.ranks.get(whole) if setup.adapter and name.endswith(".weight") else None
            if rank and setup.adapter and linear:
                width = BYTES[setup.adapter.dtype]
                down = Weight(f"{whole}.lora_A", rank * linear[1], width, trained=True)
                up = Weight(f"{whole}.lora_B", rank * linear[0], width, trained=True)
                loras[module] = Lora(self.sharing.follow(down), self.sharing.follow(up), rank)
        kind = Gpt2Block if self.model.kind == "gpt2" else Block
        return kind(self.layers, weights, loras)

    def run(self) -> Peaks:
        """Both passes."""
        tape, setup = self.tape, self.setup
        if setup.accumulation > 1:
            self._earlier_gradients()
        batch = tape.new(3 * setup.tokens * INDEX_BYTES)
        with tape.stretch("forward"):
            result = self._forward()
        behind = len(tape.nodes)
        with tape.stretch("loss"):
            result = self._loss(result)
        self.layers.forget_copies()
        grad = [tape.new(result.numel * result.width)]
        del result
        with tape.stretch("loss backward"):
            self.sharing.ahead(self.blocks[-1].all_weights())
            tape.backward(grad, tape.nodes, down_to=behind)
            self.sharing.reduce()
        count = len(self.blocks)
        for index in reversed(range(count)):
            place = index if index < self.ends else index - count if index >= count - self.ends else "between"
            with tape.stretch(f"backward {place}"):
                following = self.blocks[index - 1].all_weights() if index else self._table()
                self.sharing.again(self.blocks[index].all_weights(), following)
                tape.backward([], tape.nodes, down_to=self.starts[index])
                self.sharing.reduce()
        with tape.stretch("backward end"):
            tape.backward([], tape.nodes)
            self.sharing.reduce()
            self.sharing.finish()
        del batch
        with tape.stretch("step"):
            pass
        return tape.peaks

    def _forward(self) -> Tensor:
        tape, setup, model = self.tape, self.setup, self.model
        mask = make_mask(tape, setup)
        x = self._embedded()
        angles = tape.op(2 * setup.tokens * model.head_dim, x.width)
        for index, block in enumerate(self.blocks):
            self.starts.append(len(tape.nodes))
            self.sharing.gather(block.all_weights())
            if setup.checkpointing is not None and index % setup.checkpointing.every_n_layers == 0:
                how, away = setup.checkpointing, setup.checkpointing.offload and setup.device == "cuda"
                run = partial(block.run, angles=angles, mask=mask)
                x = tape.checkpoint(run, x, selective=how.selective, away=away)
            else:
                x = block.run(x, angles, mask)
        return x

    def _embedded(self) -> Tensor:
        tape, setup = self.tape, self.setup
        table = next(iter(self._table()), None)
        self.sharing.gather(self._table(), stays=self.model.tied)
        x = tape.op(setup.tokens * self.model.hidden, BYTES[setup.dtype])
        if table is not None and table.trained:
            x.node = tape.record([table], [], lambda _: [tape.new(table.numel * table.width)])
        elif setup.adapter is not None and setup.checkpointing is not None:
            x.node = tape.record([], [], lambda _: [])  # peft has inputs need gradients then
        if self.model.kind == "gpt2":
            places = self.outside[list(self.model.embeddings)[1]]
            x = dropout(self.layers, tape.op(x.numel, x.width, [x, places], back="same"))
        return x

    def _table(self) -> list[Weight]:
        """The input embedding."""
        return [self.outside[name] for name in self.model.embeddings][:1]

    def _loss(self, x: Tensor) -> Tensor:
        last = [name for name in self.outside if name not in self.model.embeddings]
        self.sharing.gather([self.outside[name] for name in last], stays=True)
        last = [name for name in self.outside if name.endswith(("norm.weight", "ln_f.weight"))]
        if last and self.model.kind == "gpt2":
            x = layer_norm(self.layers, x, self.outside[last[-1]])
        elif last:
            x = self.layers.norm(x, self.outside[last[-1]], behind=self.model.kind.startswith("gemma"))
        head = self._head()
        return loss(self.layers, x, head, softcap=self.model.kind.startswith("gemma2"))

    def _head(self) -> Weight:
        """The output head; one that is trained whole beside an adapter has weights of its own even where it was tied."""
        if "lm_head.weight" in self.outside:
            return self.outside["lm_head.weight"]
        if self.setup.adapter and "lm_head" in self.setup.adapter.whole:
            return self._weight("lm_head.weight", self.model.head)
        return self.outside[next(iter(self.model.embeddings))]

    def _earlier_gradients(self) -> None:
        with self.tape.labelled("gradients"):
            for weight in [*self.outside.values(), *(each for block in self.blocks for each in block.all_weights())]:
                if weight.trained:
                    self.sharing.earlier(weight)


def by_label(held: list[int]) -> dict[str, int]:
    """Bytes by what they are for."""
    return dict(zip(LABELS, held, strict=True))
