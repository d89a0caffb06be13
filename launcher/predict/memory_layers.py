"""The layers of a transformer as operations on a tape: what transformers 5.23, peft 0.21 and bitsandbytes 0.50 run for each.

Sizes are elements of one rank's batch. A `width` is bytes of an element.
"""

from __future__ import annotations

from dataclasses import dataclass

from launcher.predict.setup import BYTES, Setup
from launcher.predict.tape import Storage, Tape, Tensor, Weight

FLOAT32 = 4
_BNB_BLOCK = 64


@dataclass
class Lora:
    """The two matrices beside one linear layer."""

    down: Weight
    up: Weight
    rank: int


class Layers:
    """Operations on batches of one size, under one setting of autocast."""

    def __init__(self, tape: Tape, setup: Setup) -> None:
        self.tape, self.setup = tape, setup
        self.tokens = setup.tokens
        self.autocast = BYTES[setup.precision] if BYTES[setup.precision] < FLOAT32 else None
        """Bytes of an element inside matrix products; None where nothing is cast."""
        self.copies: list[Weight] = []

    def cast(self, x: Tensor, width: int) -> Tensor:
        """`x.to(dtype)`; the tensor itself where it has that width."""
        return x if x.width == width else self.tape.op(x.numel, width, [x])

    def multiply(self, a: Tensor, b: Tensor) -> Tensor:
        """A · b, elementwise and of one size."""
        keep = [b if a.node else None, a if b.node else None]
        return self.tape.op(a.numel, max(a.width, b.width), [a, b], keep=keep)

    def remembered(self, x: Tensor, width: int) -> Tensor:
        """An operation whose gradient needs its result (softmax, tanh, rsqrt)."""
        result = self.tape.new(x.numel * width)
        return self.tape.op(x.numel, width, [x], keep=[result], view=Tensor(result, x.numel, width, None))

    def add(self, a: Tensor, b: Tensor) -> Tensor:
        """A + b. A gradient that has another width than its tensor is cast."""
        width = max(a.width, b.width)
        same = all(each.width == width or not each.node for each in (a, b))
        return self.tape.op(a.numel, width, [a, b], back="same" if same else "new")

    def norm(self, x: Tensor, weight: Weight, *, behind: bool = False) -> Tensor:
        """RMSNorm. `behind`: the weight is applied in float32 before the result is cast back (Gemma)."""
        tape, width = self.tape, x.width
        wide = self.cast(x, FLOAT32)
        square = tape.op(wide.numel, FLOAT32, [wide], keep=[wide])
        rows = max(1, wide.numel // weight.numel)
        root = self.remembered(tape.op(rows, FLOAT32, [square], back_scratch=0), FLOAT32)
        del square
        keep = [wide, root] if wide.node else []
        normal = tape.op(wide.numel, FLOAT32, [wide, root], keep=keep)
        if behind:
            del wide, root
            scaled = self._scale(normal, weight, FLOAT32)
            del normal
            return self.cast(scaled, width)
        normal = self.cast(normal, width)
        del wide, root
        return self._scale(normal, weight, max(width, weight.width))

    def _scale(self, x: Tensor, weight: Weight, width: int) -> Tensor:
        back = x.numel * width if weight.trained else 0  # the product before it is summed over tokens
        return self.tape.op(x.numel, width, [x, weight], keep=[x if weight.trained else None], back_scratch=back)

    def matrix(self, x: Tensor, weight: Weight, out: int, *, keep_input: bool | None = None) -> Tensor:
        """X · Wᵀ with an unquantized weight, in autocast's width where there is one.

        Args:
            x: [rows, in].
            weight: [out, in].
            out: rows × out, the elements of the result.
            keep_input: None: as the weight is trained.
        """
        tape = self.tape
        copy: Tensor | None = None
        if self.autocast is not None:
            x = self.cast(x, self.autocast)
            copy = self._copy(weight, self.autocast)
        keep: list[Tensor | None] = [x if (weight.trained if keep_input is None else keep_input) else None]
        if copy is not None:
            keep.append(copy if x.node else None)
            return tape.op(out, x.width, [x, copy if copy.node else weight], keep=keep)
        return tape.op(out, max(x.width, weight.width), [x, weight], keep=keep)

    def _copy(self, weight: Weight, width: int) -> Tensor | None:
        """Autocast's copy of a weight of another width; one that is trained is copied once in a forward pass."""
        if weight.width == width:
            return None
        if weight.copy is not None:
            return weight.copy
        with self.tape.labelled("workspace"):
            made = self.tape.op(weight.numel, width, [weight])
        if weight.trained:
            weight.copy = made
            self.copies.append(weight)
        return made

    def forget_copies(self) -> None:
        """What autocast does at the end of a forward pass."""
        for weight in self.copies:
            weight.copy = None
        self.copies.clear()

    def linear(self, x: Tensor, weight: Weight, out: int, lora: Lora | None = None) -> Tensor:
        """A linear layer, quantized or not, and the adapter beside it."""
        result = self._base(x, weight, out)
        return result if lora is None else self._adapted(x, result, weight, lora)

    def _base(self, x: Tensor, weight: Weight, out: int) -> Tensor:
        if weight.quantized is None:
            return self.matrix(x, weight, out)
        if self.autocast is not None:
            x = self.cast(x, self.autocast)
        return self._four_bits(x, weight, out) if weight.quantized == "qlora" else self._eight_bits(x, weight, out)

    def _four_bits(self, x: Tensor, weight: Weight, out: int) -> Tensor:
        """The matrix is expanded for each product: into its own bytes and, forward, nothing else that stays."""
        expanded = weight.numel * x.width
        constants = weight.numel // _BNB_BLOCK * FLOAT32 * (2 if self.setup.double_quant else 0)
        return self._expanding(x, out, expanded + constants, expanded + constants)

    def _eight_bits(self, x: Tensor, weight: Weight, out: int) -> Tensor:
        expanded = weight.numel * x.width
        if x.node:
            self.tape.cling(x.storage)  # bitsandbytes keeps inputs on the context itself, where no hook sees them
        if self.setup.device == "cpu":
            return self._expanding(x, out, expanded, expanded, keep=x)
        # Inputs are rounded to float16 and to int8 with a scale for each row; the product is int32 first.
        codes = x.numel * (2 + 1) + out * FLOAT32
        return self._expanding(x, out, codes, expanded, keep=x)

    def _expanding(self, x: Tensor, out: int, forward: int, backward: int, keep: Tensor | None = None) -> Tensor:
        tape = self.tape
        with tape.labelled("workspace"):
            space = tape.new(forward)
        result = tape.op(out, x.width, [x], keep=[keep])
        del space
        if result.node is not None:
            size = x.numel * x.width

            def back(_: list[Storage]) -> list[Storage]:
                with tape.labelled("workspace"):
                    inner = tape.new(backward)
                made = tape.new(size)
                del inner
                return [made]

            result.node.backward = back
        return result

    def _adapted(self, x: Tensor, result: Tensor, weight: Weight, lora: Lora) -> Tensor:
        tape, tokens = self.tape, x.numel * lora.rank // lora.down.numel
        if weight.quantized == "qlora":
            result = tape.op(result.numel, result.width, [result], back="same")  # a clone
        if not (weight.quantized and self.autocast):
            x = self.cast(x, lora.down.width)
        if self.setup.adapter is not None and self.setup.adapter.dropout:
            mask = tape.new(x.numel * (1 if self.setup.device == "cuda" else x.width))
            x = tape.op(x.numel, x.width, [x], keep=[mask])
            del mask
        down = self.matrix(x, lora.down, tokens * lora.rank)
        del x
        up = self.matrix(down, lora.up, result.numel)
        del down
        scaled = tape.op(up.numel, up.width, [up])
        del up
        if weight.quantized:
            scaled = self.cast(scaled, result.width)
        width = result.width
        if self.setup.adapter is not None and self.setup.adapter.dora:
            scaled = self._magnitude(result, scaled, weight)
        return self.cast(self.add(result, scaled), width)

    def _magnitude(self, result: Tensor, scaled: Tensor, weight: Weight) -> Tensor:
        """DoRA: both results times a factor for each row of the weight, whose norm needs the whole product of the adapter."""
        with self.tape.labelled("workspace"):
            self.tape.new(2 * weight.numel * scaled.width)
        base = self.tape.op(result.numel, result.width, [result, scaled], keep=[result])
        own = self.tape.op(scaled.numel, scaled.width, [scaled], keep=[scaled])
        return self.add(base, own)

    def rope(self, x: Tensor, angles: Tensor) -> Tensor:
        """Rotary embedding: x · cos + rotate_half(x) · sin."""
        tape, width = self.tape, max(x.width, angles.width)
        straight = tape.op(x.numel, width, [x], keep=[angles])
        half = tape.op(x.numel // 2, x.width, [x], back_scratch=x.numel * x.width)
        turned = tape.op(x.numel, x.width, [half], back="same")
        del half
        crossed = tape.op(turned.numel, width, [turned], keep=[angles])
        del turned
        return tape.op(x.numel, width, [straight, crossed], back="same")
