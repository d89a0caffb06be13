"""Bytes of all tensors that are alive, counted at each operation: what an allocator would have given out, without one.

A tensor's bytes belong to its storage, which views share and which Python can watch: it is counted when the first
operation returns it and taken off when it is freed. Works alike on fake tensors, which hold no numbers, and on real ones.
What a kernel takes and frees within one operation is not seen.
"""

from __future__ import annotations

import weakref
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

STATE = frozenset({"weights", "quantization", "gradients", "optimizer"})
"""Terms of what a strategy shares out among ranks; the rest is each rank's own."""

FlopFormula = Callable[..., int]


@dataclass
class Peak:
    """The most that was alive in one place of a step, by term."""

    total: int = 0
    terms: Mapping[str, int] = field(default_factory=dict)


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts while it is entered; `at` says where in the step we are, `term` what new tensors are called.

    Args:
        block: the allocator's grain; sizes are rounded up to it (CUDA's: 512 bytes).
        flops: formulas for operations that torch's own registry lacks.
    """

    def __init__(self, block: int = 1, flops: Mapping[Any, FlopFormula] | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.at = "load"
        self.term = "activations"
        self.peaks: dict[str, Peak] = defaultdict(Peak)
        """Place → the most of everything."""
        self.own: dict[str, Peak] = defaultdict(Peak)
        """Place → the most of what is each rank's own, all but `STATE`."""
        self.flops: Counter[str] = Counter()
        """Place → floating-point operations of matrix products, by torch's formulas."""
        self.now: Counter[str] = Counter()
        """Term → bytes alive."""
        self._block = block
        self._formulas = {**flop_registry, **(flops or {})}
        self._alive: dict[int, tuple[int, str, weakref.ref[Any]]] = {}

    def name(self, tensor: Tensor, term: str) -> None:
        """Count `tensor` under `term`, whether or not it has been seen."""
        storage = tensor.untyped_storage()
        known = self._alive.get(storage._cdata)  # noqa: SLF001 - the storage's address, its one identity
        if known is None:
            self._count(storage, term)
        elif known[1] != term:
            size, before, reference = known
            self._alive[storage._cdata] = (size, term, reference)  # noqa: SLF001
            self.now[before] -= size
            self.now[term] += size

    @contextmanager
    def called(self, term: str) -> Iterator[None]:
        """New tensors of the block are counted under `term`."""
        before, self.term = self.term, term
        try:
            yield
        finally:
            self.term = before

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operation, count what it returns."""
        kwargs = kwargs or {}
        made = func(*args, **kwargs)
        if isinstance(made, Tensor):
            self._see(made)
        elif isinstance(made, (tuple, list)):
            for each in made:
                if isinstance(each, Tensor):
                    self._see(each)
        formula = self._formulas.get(func._overloadpacket)  # noqa: SLF001 - how torch's own counter looks it up
        if formula is not None:
            self.flops[self.at] += int(formula(*args, **kwargs, out_val=made))
        return made

    def _see(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._alive:  # noqa: SLF001
            self._count(storage, self.term)

    def _count(self, storage: torch.UntypedStorage, term: str) -> None:
        size = -(-storage.nbytes() // self._block) * self._block
        if size == 0:
            return
        key = storage._cdata  # noqa: SLF001
        self._alive[key] = (size, term, weakref.ref(storage, partial(self._gone, key)))
        self.now[term] += size
        self._measure()

    def _gone(self, key: int, _: Any) -> None:
        size, term, _reference = self._alive.pop(key)
        self.now[term] -= size

    def _measure(self) -> None:
        """Keep what is alive, where it is the most so far. Also to be called when the place changes."""
        total = sum(self.now.values())
        if total > self.peaks[self.at].total:
            self.peaks[self.at] = Peak(total, dict(self.now))
        own = sum(size for term, size in self.now.items() if term not in STATE)
        if own > self.own[self.at].total:
            self.own[self.at] = Peak(own, {term: size for term, size in self.now.items() if term not in STATE})

    def enter_place(self, place: str, term: str | None = None) -> None:
        """From here on we are at `place`; new tensors are counted under `term`, where given."""
        self.at, self.term = place, term or self.term
        self._measure()
