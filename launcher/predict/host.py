"""Host memory of a node, by term: loading the model, what is offloaded, processes and their data workers."""

from __future__ import annotations

from math import prod

from launcher.predict import memory_sharding, memory_states
from launcher.predict.setup import BYTES, Setup

GIB = 2**30
PROCESS_BYTES = {"cpu": GIB, "cuda": 3 * GIB}
"""Libraries of one rank. CPU: 0.7 to 0.9 GiB were seen; CUDA's are larger, and its pinned buffers come on top (an estimate)."""
WORKER_BYTES = GIB // 4
"""One data worker: what a forked process comes to own of its parent's memory (an estimate)."""


def host(setup: Setup, *, workers: int = 0) -> dict[str, int]:
    """Bytes of one node's memory by term; terms of nothing are left out.

    Args:
        setup: one training. On a CPU its own memory (`launcher.predict.memory`) is host memory too, and not repeated here.
        workers: data workers of each rank.
    """
    ranks = min(setup.ranks, setup.ranks_per_node)
    found = {
        "loading": loading(setup) * ranks,
        "offload": offloaded(setup) * ranks if setup.device == "cuda" else 0,
        "processes": PROCESS_BYTES[setup.device] * ranks,
        "workers": WORKER_BYTES * workers * ranks,
    }
    return {term: size for term, size in found.items() if size}


def loading(setup: Setup) -> int:
    """Bytes that one rank holds while the model is loaded, beside what stays.

    Straight to a GPU goes one weight after the other. Where FSDP2 or ZeRO-3 share the weights out while or after they
    are loaded, each rank holds a whole copy for a moment: 1.00 and 1.14 to 1.27 times the model were measured
    (benchmarks/results/2026-11-24-sharded-memory.md; ZeRO-3's figure with its own parts, half of a copy, in it).
    """
    model, width = setup.model, BYTES[setup.dtype]
    quantized = setup.method in ("qlora", "int8")
    if setup.strategy in ("fsdp2", "zero3") and not quantized:
        return model.parameters * width
    if setup.device == "cpu":
        return 0
    return max((prod(shape) for shape in model.tensors.values()), default=0) * width


def offloaded(setup: Setup) -> int:
    """Bytes of one rank's training state that lie in host memory instead of on its GPU."""
    if memory_states.rule_of(setup.optim).paged:
        return memory_states.state_bytes(setup)
    kept = 0
    if setup.checkpointing is not None and setup.checkpointing.offload:
        again = -(-setup.model.layers // setup.checkpointing.every_n_layers)
        kept = again * setup.tokens * setup.model.hidden * BYTES[setup.precision]
    if setup.offload == "none":
        return kept
    moved = memory_sharding.parts(setup)
    states = moved["optimizer"] + moved["gradients"]
    return kept + states + (moved["weights"] if setup.offload == "params" else 0)
