"""What becomes of gradients on a tape by the strategy, and FSDP2's gathered units."""

from __future__ import annotations

from collections.abc import Sequence

from launcher.predict.setup import BYTES, Setup
from launcher.predict.tape import Storage, Tape, Weight, accumulate

FLOAT32 = 4


class Sharing:
    """Gathers weights before a layer and reduces their gradients behind it, where the strategy does."""

    def __init__(self, tape: Tape, setup: Setup) -> None:
        self.tape, self.setup = tape, setup
        self.units = setup.strategy == "fsdp2"
        self.kept = FLOAT32 if self.units and BYTES[setup.precision] < FLOAT32 else None
        """Bytes of an element of a shard's gradient; None: as the weight."""
        self.elsewhere = setup.device == "cuda" and setup.offload == "params"
        """Parts of gradients move to host memory as they are made."""
        self.sends = bool(setup.settings.get("sync_each_batch"))
        self.unit: Storage | None = None
        self.flat: Storage | None = None
        self.staying: list[Storage] = []
        self.whole: list[tuple[int, Storage]] = []
        """Elements and bytes of the gradients of the unit that runs backward."""
        self.reducing: list[Storage] = []
        self.parts: list[Storage] = []

    def follow(self, weight: Weight) -> Weight:
        """Have the weight's gradient go where the strategy keeps it."""
        if self.setup.strategy in ("zero2", "zero3"):
            weight.take_gradient = lambda _weight, _grad: None  # moved into the bucket, which is counted elsewhere
        elif self.units:
            weight.take_gradient = self._take
        return weight

    def _take(self, weight: Weight, grad: Storage) -> None:
        """Collect a unit's gradients; one that an earlier pass left is added to, whole as it is."""
        kept, weight.grad = weight.grad or grad, None
        kept.relabel("gather")
        self.whole.append((weight.numel, kept))

    def earlier(self, weight: Weight) -> None:
        """The gradient of an earlier pass of the same step. Between passes nothing is sent: under FSDP2 it is whole.

        Unless accelerate is told to send it (`sync_each_batch`).
        """
        if self.units and self.sends:
            if not self.elsewhere:
                self.parts.append(self.tape.new(weight.numel * (self.kept or weight.width) // self.setup.shards))
        elif self.setup.strategy not in ("zero2", "zero3"):
            accumulate(weight, self.tape.new(weight.numel * weight.width))

    def gather(self, weights: Sequence[Weight], *, stays: bool = False) -> None:
        """Make a unit whole for the forward pass: the parts of all ranks arrive in one buffer and are copied out of it.

        The buffer of the unit before is let go only then.
        """
        if not self.units:
            return
        size = sum(self._size(each) for each in weights)
        with self.tape.labelled("gather"):
            self.unit = None
            flat, unit = self.tape.new(size), self.tape.new(size)
        self.flat = flat
        if stays:
            self.staying.append(unit)
        else:
            self.unit = unit

    def ahead(self, weights: Sequence[Weight]) -> None:
        """Let the parts of the unit that runs backward next arrive."""
        if self.units:
            self.unit = self.flat = None
            with self.tape.labelled("gather"):
                self.flat = self.tape.new(sum(self._size(each) for each in weights))

    def again(self, weights: Sequence[Weight], following: Sequence[Weight]) -> None:
        """Make a unit whole for its backward pass, and let the following one's parts arrive meanwhile."""
        if not self.units:
            return
        with self.tape.labelled("gather"):
            self.unit = self.tape.new(sum(self._size(each) for each in weights))
        del self.reducing[1:]
        self.flat = None
        unit, self.unit = self.unit, None
        self.ahead(following)
        self.unit = unit

    def _size(self, weight: Weight) -> int:
        """Bytes that travel; 4-bit codes in whole bytes are not shared out."""
        if weight.quantized == "qlora":
            return weight.numel // 2 if self.setup.settings.get("shared_codes") else 0
        return weight.numel * (1 if weight.quantized else weight.width)

    def reduce(self) -> None:
        """Send the unit's gradients, laid out in one buffer, and keep a part of the sum."""
        if not self.whole:
            return
        elements = sum(numel for numel, _ in self.whole)
        size = sum(each.size for _, each in self.whole)
        width = self.kept or size // elements
        self.unit = None
        self.reducing.clear()
        with self.tape.labelled("gather"):
            self.reducing.append(self.tape.new(size))
            self.whole.clear()
            if self.setup.device == "cpu":
                self.reducing.append(self.tape.new(size))  # gloo's own
        with self.tape.labelled("gradients"):
            part = self.tape.new(elements * width // self.setup.shards)
        if not self.elsewhere and not (self.sends and self.setup.accumulation > 1):  # else it is added to what is there
            self.parts.append(part)

    def finish(self) -> None:
        """All is reduced; nothing is gathered any more."""
        self.unit = self.flat = None
        self.staying.clear()
        self.reducing.clear()
