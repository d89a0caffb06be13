"""What ranks send to one another in an optimizer step: bytes of each collective, and the seconds that a link takes for it.

A ring of n ranks moves (n - 1)/n of the payload over each link for an all-gather or a reduce-scatter, twice that for an
all-reduce (Patarasuk and Yuan, 2009, doi:10.1016/j.jpdc.2008.09.002), and the slowest link of the ring sets the pace.

| strategy | each micro-batch | each step |
|---|---|---|
| ddp | | all-reduce of gradients |
| zero1 | | reduction of gradients, all-gather of weights |
| zero2 | reduction of gradients | all-gather of weights |
| zero3 | all-gather of weights before each pass over them, reduce-scatter of gradients | |
| fsdp2 | all-gather of weights for forward and backward | reduce-scatter of gradients |

Source: the ZeRO paper, arXiv:1910.02054, section 7; torch's fully_shard; `no_sync` of accelerate 1.15 for what waits for the
last micro-batch; DeepSpeed's defaults (`overlap_comm` is off for stages 1 and 2).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from launcher.predict.memory_states import constant_bytes, trained, weight_bytes
from launcher.predict.setup import BYTES, Setup

BUCKET = 25 * 2**20
"""Bytes that DDP reduces at a time (`bucket_cap_mb`)."""


@dataclass(frozen=True)
class Links:
    """Bytes a second that one rank sends and receives at once, as programs reach them."""

    peer: float
    """To another rank of its node."""
    network: float
    """To another node."""
    latency_s: float = 30e-6
    """Of one collective, however small."""


@dataclass(frozen=True)
class Collective:
    """One kind of message between ranks, in one optimizer step."""

    kind: Literal["all-reduce", "all-gather", "reduce-scatter"]
    what: Literal["weights", "gradients"]
    size: int
    """Bytes of the whole tensor that is reduced or gathered, each time."""
    ranks: int
    """Ranks that take part."""
    nodes: int
    """Nodes that they are on."""
    times: int
    """How often in a step."""
    calls: int
    """Into how many messages each is divided."""
    when: Literal["forward", "backward", "step"]
    """What it can hide behind, if it hides: a pass of the same micro-batch; nothing in the optimizer's step."""
    hides: bool = True
    """It goes on while the device computes."""

    @property
    def sent(self) -> float:
        """Bytes that each rank sends in a step."""
        share = (self.ranks - 1) / self.ranks
        return self.times * self.size * share * (2 if self.kind == "all-reduce" else 1)

    def seconds(self, links: Links) -> float:
        """Seconds of a step that its link is busy with it."""
        speed = links.network if self.nodes > 1 else links.peer
        return self.sent / speed + self.times * self.calls * links.latency_s

    def exposed(self, links: Links, behind_s: float) -> float:
        """Seconds of a step that the device waits for it.

        Args:
            links: speeds.
            behind_s: seconds of a step that the device computes in the passes it can hide behind. The first message of a
                pass has nothing before it, and the last gradient nothing after it.
        """
        busy = self.seconds(links)
        if not self.hides or self.when == "step":
            return busy
        return max(busy - behind_s, busy / self.calls)


def collectives(setup: Setup) -> tuple[Collective, ...]:
    """Everything that the ranks of a training say to one another in one optimizer step; nothing where it is alone."""
    return tuple(_collectives(setup)) if setup.ranks > 1 else ()


def exposed_s(sent: Iterable[Collective], links: Links, forward_s: float, backward_s: float) -> float:
    """Seconds of a step that ranks wait for one another.

    Args:
        sent: the collectives of a step.
        links: speeds.
        forward_s: seconds of all forward passes of a step.
        backward_s: seconds of all backward passes of a step.
    """
    total, left = 0.0, {"forward": forward_s, "backward": backward_s, "step": 0.0}
    for each in sent:
        # Messages behind the same pass share its time.
        total += each.exposed(links, left[each.when])
        left[each.when] = max(0.0, left[each.when] - each.seconds(links) * each.hides)
    return total


def gathered_bytes(setup: Setup) -> int:
    """The weights as ranks hand them on: quantized as they lie in memory, others in the type they are computed in."""
    held = weight_bytes(setup) + constant_bytes(setup)
    if setup.method in ("qlora", "int8"):
        return held
    return held * min(BYTES[setup.dtype], BYTES[setup.precision]) // BYTES[setup.dtype]


def gradient_elements(setup: Setup) -> int:
    """Elements of all gradients."""
    return sum(each.numel for each in trained(setup))


def _collectives(setup: Setup) -> Iterator[Collective]:
    units, micro = setup.model.layers + setup.model.decoder_layers + 1, setup.accumulation
    hides = setup.device == "cuda"  # on a CPU the same cores would have to do both
    everyone = setup.ranks, _nodes(setup, setup.ranks)
    weights, elements = gathered_bytes(setup), gradient_elements(setup)
    reduced = elements * BYTES[setup.precision]
    match setup.strategy:
        case "ddp":
            held = sum(each.numel * each.width for each in trained(setup))
            calls = max(1, -(-held // BUCKET))
            yield Collective("all-reduce", "gradients", held, *everyone, 1, calls, "backward", hides)
        case "zero1" | "zero2":
            times = micro if setup.strategy == "zero2" else 1
            told = setup.settings.get("overlap_comm") is True and hides
            yield Collective("reduce-scatter", "gradients", reduced, *everyone, times, units, "backward", told)
            yield Collective("all-gather", "weights", reduced, *everyone, 1, units, "step")
        case "zero3":
            again = setup.checkpointing is not None
            yield Collective("all-gather", "weights", weights, *everyone, micro, units, "forward", hides)
            yield Collective("all-gather", "weights", weights, *everyone, micro * (1 + again), units, "backward", hides)
            yield Collective("reduce-scatter", "gradients", reduced, *everyone, micro, units, "backward", hides)
        case "fsdp2":
            yield from _fsdp2(setup, weights, reduced, units)


def _fsdp2(setup: Setup, weights: int, reduced: int, units: int) -> Iterator[Collective]:
    hides, micro, group = setup.device == "cuda", setup.accumulation, setup.shards
    if group > 1:
        near = group, _nodes(setup, group)
        yield Collective("all-gather", "weights", weights, *near, micro, units, "forward", hides)
        if setup.settings.get("reshard_after_forward", True):
            yield Collective("all-gather", "weights", weights, *near, micro, units, "backward", hides)
        yield Collective("reduce-scatter", "gradients", reduced, *near, 1, units, "backward", hides)
    copies = setup.ranks // group
    if copies > 1:
        nodes = min(copies, _nodes(setup, setup.ranks))
        yield Collective("all-reduce", "gradients", reduced // group, copies, nodes, 1, units, "backward", hides)


def _nodes(setup: Setup, ranks: int) -> int:
    """Nodes of neighbouring ranks."""
    return -(-ranks // max(1, setup.ranks_per_node))
