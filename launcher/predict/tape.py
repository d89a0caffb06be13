"""A training step in which nothing is computed and every byte is counted.

A model's forward pass is written down in the operations that torch would run. Each takes bytes for its result, keeps what
its gradient will need, and remembers how its gradient is made; `Tape.backward` then runs the nodes newest first, as
torch's engine does. A tensor gives its bytes back when the last name for it goes: CPython counts references as torch does,
so a local variable here holds memory for as long as the same variable there.

What is kept for a gradient is what torch's derivatives keep (pytorch/tools/autograd/derivatives.yaml).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

LABELS = ("activations", "loss", "gradients", "gather", "workspace")
"""What a piece of memory is for; positions in `Tape.held`."""


class Storage:
    """Bytes that are given back when nothing refers to them any more."""

    __slots__ = ("label", "size", "tape")

    def __init__(self, tape: Tape, size: int, label: int) -> None:
        self.tape, self.size, self.label = tape, size, label
        tape.take(size, label)

    def __del__(self) -> None:
        self.tape.held[self.label] -= self.size
        self.tape.now -= self.size

    def relabel(self, label: str) -> None:
        """Count the bytes for something else from now on."""
        self.tape.held[self.label] -= self.size
        self.label = LABELS.index(label)
        self.tape.held[self.label] += self.size


class Tensor:
    """Elements of one width in a storage; `node` makes its gradient, None where none is needed."""

    __slots__ = ("node", "numel", "storage", "width")

    def __init__(self, storage: Storage | None, numel: int, width: int, node: Node | None) -> None:
        self.storage, self.numel, self.width, self.node = storage, numel, width, node


class Weight:
    """A parameter. Its own bytes are counted elsewhere; here is what its gradient takes."""

    __slots__ = ("copy", "grad", "name", "numel", "quantized", "take_gradient", "trained", "width")

    def __init__(self, name: str, numel: int, width: int, *, trained: bool, quantized: str | None = None) -> None:
        self.name, self.numel, self.width, self.trained, self.quantized = name, numel, width, trained, quantized
        self.grad: Storage | None = None
        self.copy: Tensor | None = None
        """Autocast's 16-bit copy, shared by all uses of a forward pass."""
        self.take_gradient: Callable[[Weight, Storage], None] = accumulate


Input = Tensor | Weight
Backward = Callable[[list[Storage]], Sequence[Storage | None]]
"""Gradient of the result, in a list from which it may be taken → gradients of the inputs, in order; None where none is needed."""


class Node:
    """How one gradient is made. `kept` holds memory until it has run."""

    __slots__ = ("backward", "buffer", "inputs", "kept")

    def __init__(self, inputs: Sequence[Input], kept: Sequence[Storage | None], backward: Backward) -> None:
        self.inputs = [
            each if isinstance(each, Weight) and each.trained else each.node if isinstance(each, Tensor) else None
            for each in inputs
        ]
        self.kept: Sequence[Storage | None] | None = kept
        self.backward: Backward | None = backward
        self.buffer: Storage | None = None


class Tape:
    """Bytes held now and at most, and the nodes of the pass so far."""

    def __init__(self, *, align: int = 1) -> None:
        self.now = 0
        self.held = [0] * len(LABELS)
        self.label = 0
        self.align = align
        self.nodes: list[Node] = []
        self.keeping = True
        """Whether nodes keep what they need; off in a forward pass that will be run again."""
        self.lasts: list[Storage] | None = None
        """In a checkpointed pass, results that its repetition finds again instead of making them."""
        self.again: list[Storage] = []
        self.clung: list[Storage] = []
        """In a checkpointed pass, what operations keep past torch's hooks, so that checkpointing does not let it go."""
        self.peak, self.at_peak = -1, list(self.held)
        self.peaks: dict[str, tuple[int, list[int]]] = {}
        """Stretch of the step → most bytes held, and by label then."""

    def take(self, size: int, label: int) -> None:
        """Count bytes that were given out."""
        self.held[label] += size
        self.now += size
        if self.now > self.peak:
            self.peak, self.at_peak = self.now, self.held.copy()

    def new(self, size: int) -> Storage:
        """Bytes for what the tape's label says."""
        return Storage(self, -(-size // self.align) * self.align, self.label)

    def lasting(self, size: int) -> Storage:
        """Bytes of a result that selective checkpointing keeps."""
        if self.again:
            return self.again.pop(0)
        made = self.new(size)
        if self.lasts is not None:
            self.lasts.append(made)
        return made

    def cling(self, kept: Storage | None) -> None:
        """Keep it until the backward pass, checkpointed or not."""
        if not self.keeping and kept is not None and kept not in self.clung:
            self.clung.append(kept)

    @contextmanager
    def stretch(self, name: str) -> Iterator[None]:
        """Note the most bytes held from here to the end under `name`."""
        self.peak, self.at_peak = self.now, self.held.copy()
        yield
        if self.peak > self.peaks.get(name, (-1, []))[0]:
            self.peaks[name] = (self.peak, self.at_peak)

    @contextmanager
    def labelled(self, label: str) -> Iterator[None]:
        """What is taken from here to the end is for `label`."""
        before, self.label = self.label, LABELS.index(label)
        yield
        self.label = before

    def op(
        self,
        numel: int,
        width: int,
        inputs: Sequence[Input] = (),
        *,
        keep: Sequence[Input | Storage | None] = (),
        scratch: int = 0,
        back: str = "new",
        back_scratch: int = 0,
        view: Tensor | None = None,
    ) -> Tensor:
        """Run one operation.

        Args:
            numel: elements of the result.
            width: bytes of one of them.
            inputs: what it is made from.
            keep: what its gradient needs.
            scratch: bytes that the forward pass needs besides, until it is done.
            back: `new` if each input's gradient takes bytes of its own, `same` if it is the result's.
            back_scratch: bytes that the backward pass needs besides.
            view: the tensor in whose storage the result lies, if it has none of its own.
        """
        storage = view.storage if view is not None else self.new(numel * width)
        if scratch:
            self.new(scratch)
        if not any(each.trained if isinstance(each, Weight) else each.node for each in inputs):
            return Tensor(storage, numel, width, None)
        sizes = [each.numel * each.width if _needs(each) else None for each in inputs]

        def backward(grad: list[Storage]) -> Sequence[Storage | None]:
            if back == "same":
                return [None if size is None else grad[0] for size in sizes]
            made = [None if size is None else self.new(size) for size in sizes]
            if back_scratch:
                self.new(back_scratch)
            return made

        return Tensor(storage, numel, width, self.record(inputs, keep, backward))

    def record(self, inputs: Sequence[Input], keep: Sequence[Input | Storage | None], backward: Backward) -> Node:
        """A node at the end of the tape."""
        kept = [each.storage if isinstance(each, Tensor) else each for each in keep if not isinstance(each, Weight)]
        node = Node(inputs, kept if self.keeping else (), backward)
        self.nodes.append(node)
        return node

    def checkpoint(
        self, run: Callable[[Tensor], Tensor], x: Tensor, *, selective: bool = False, away: bool = False
    ) -> Tensor:
        """Run without keeping anything but `x`; run again when the gradient comes (torch.utils.checkpoint, not reentrant).

        Args:
            run: what is run.
            x: its input.
            selective: what is `lasting` is kept too.
            away: `x` lies in other memory until it is needed.
        """
        outer, self.nodes, keeping, self.keeping = self.nodes, [], self.keeping, False
        self.lasts, self.clung = [] if selective else None, []
        result = run(x)
        lasts, self.lasts = self.lasts or [], None
        clung, self.clung = self.clung, []
        self.nodes, self.keeping = outer, keeping
        if result.node is None:
            return result

        shape, kept, needs = (x.numel, x.width), None if away else x.storage, x.node is not None

        def backward(grad: list[Storage]) -> Sequence[Storage | None]:
            entry = Node((), (), lambda _: ())
            outer, self.nodes, self.again = self.nodes, [], lasts
            again = run(Tensor(kept or self.new(shape[0] * shape[1]), *shape, entry if needs else None))
            nodes, self.nodes = self.nodes, outer
            del again
            self.backward(grad, nodes)
            return [entry.buffer]

        result.node = self.record([x], [kept, *clung], backward)
        return result

    def backward(self, grad: list[Storage], nodes: list[Node], *, down_to: int = 0) -> None:
        """Run nodes newest first, until `down_to` are left; each is let go when it has run.

        Args:
            grad: the gradient of the last node's result, which is taken from the list; empty where the pass goes on.
            nodes: what is run, and taken from the list.
            down_to: how many stay.
        """
        if grad:
            nodes[-1].buffer = grad.pop()
        while len(nodes) > down_to:
            node = nodes.pop()
            if node.buffer is not None:
                self._run(node)

    def _run(self, node: Node) -> None:
        assert node.buffer is not None and node.backward is not None  # noqa: S101 - each node runs once
        incoming, node.buffer = [node.buffer], None
        made = list(node.backward(incoming))
        incoming.clear()
        node.kept = node.backward = None
        for target in node.inputs:
            grad = made.pop(0)
            if isinstance(target, Weight):
                target.take_gradient(target, grad) if grad is not None else None
            elif target is not None and grad is not None and target.buffer is None:
                target.buffer = grad
            # else: a gradient that came before is added to in place
        node.inputs = []


def _needs(each: Input) -> bool:
    return each.trained if isinstance(each, Weight) else each.node is not None


def accumulate(weight: Weight, grad: Storage) -> None:
    """The first gradient stays as it is; a later one is added to it."""
    if weight.grad is None:
        weight.grad = grad
        grad.relabel("gradients")
