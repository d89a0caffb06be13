"""Who holds which part of weights, gradients and optimizer state, and what gathering and reducing need besides.

FSDP2 as torch 2.13 and accelerate 1.15 run it; ZeRO as DeepSpeed 0.19 does, whose buckets are as large as its settings say
even for a small model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod

from launcher.predict import memory_states as states
from launcher.predict.setup import BYTES, Setup

FLOAT32 = 4
BUCKET, PREFETCH, PERSISTENT, LIVE = 500_000_000, 50_000_000, 100_000, 1_000_000_000
"""DeepSpeed's defaults, in elements: `reduce_bucket_size`, `stage3_prefetch_bucket_size`,
`stage3_param_persistence_threshold`, `stage3_max_live_parameters`."""


def computed(setup: Setup) -> Setup:
    """The setup as its products see it: DeepSpeed and FSDP2 compute in the precision's type whatever weights are kept in."""
    if setup.strategy == "ddp" or BYTES[setup.precision] == FLOAT32:
        return setup
    adapter = replace(setup.adapter, dtype=setup.precision) if setup.adapter else None
    return replace(setup, dtype=setup.precision, adapter=adapter)


def setting(setup: Setup, name: str, default: int) -> int:
    """A number of DeepSpeed's settings."""
    value = setup.settings.get(name, setup.settings.get(f"stage3_{name}", default))
    return int(value) if isinstance(value, int | float) else default


def held(setup: Setup) -> dict[str, int]:
    """Bytes that one rank holds from step to step, by term; what is offloaded from a GPU is left out."""
    found = _held(setup)
    if setup.device == "cuda":
        if states.rule_of(setup.optim).paged or setup.offload != "none":
            found["optimizer"] = 0
        if setup.offload != "none":
            found["gradients"] = 0
        if setup.offload == "params":
            found["weights"] = _small(setup) if setup.strategy == "zero3" else 0
    return found


def _held(setup: Setup) -> dict[str, int]:
    if setup.strategy == "ddp":
        return _ddp(setup)
    return {"fsdp2": _fsdp, "zero3": _zero3}.get(setup.strategy, _zero)(setup)


def parts(setup: Setup) -> dict[str, int]:
    """Bytes of one rank's part of `weights`, `gradients` and `optimizer`, wherever they lie."""
    found = _held(setup)
    whole = setup.strategy in ("ddp", "zero1")
    # FSDP2 hands gradients out in the type that its part is kept in.
    run = _in_float32(setup) if setup.strategy == "fsdp2" else computed(setup)
    gradients = found.get("gradients") or states.gradient_bytes(run) // (1 if whole else setup.shards)
    return {"weights": found["weights"], "gradients": gradients, "optimizer": found["optimizer"]}


def _ddp(setup: Setup) -> dict[str, int]:
    """Everything whole, and the gradients once more in the buckets that are reduced."""
    return {
        "weights": states.weight_bytes(setup),
        "quantization": states.constant_bytes(setup),
        "optimizer": states.state_bytes(setup),
        "gather": states.gradient_bytes(setup) if setup.ranks > 1 else 0,
    }


def _fsdp(setup: Setup) -> dict[str, int]:
    """A part of everything. 4-bit codes are shared out only if they are stored in a float type."""
    kept = _in_float32(setup)
    weights, constants = states.weight_bytes(kept), states.constant_bytes(setup)
    whole = 0
    if setup.method == "qlora" and not setup.settings.get("shared_codes"):
        whole = setup.model.linear_parameters // 2
    return {
        "weights": whole + (weights - whole) // setup.shards,
        "quantization": constants,
        "optimizer": states.state_bytes(kept) // setup.shards,
    }


def _in_float32(setup: Setup) -> Setup:
    """What is trained under a 16-bit precision is kept in float32 (accelerate casts it up)."""
    if BYTES[setup.precision] == FLOAT32 or setup.method == "qlora":
        return setup
    if setup.adapter is None:
        return replace(setup, dtype="float32")
    return replace(setup, adapter=replace(setup.adapter, dtype="float32"))


def _zero(setup: Setup) -> dict[str, int]:
    """ZeRO-1 and 2: weights whole, float32 copies of those that are trained and optimizer state in parts."""
    run = computed(setup)
    return {
        "weights": states.weight_bytes(run),
        "quantization": states.constant_bytes(run),
        "optimizer": _masters(setup),
        "gradients": _moved(setup),
    }


def _moved(setup: Setup) -> int:
    """In host memory DeepSpeed keeps a place for the part's gradients in float32, and under ZeRO-2 one for its new weights."""
    if setup.offload == "none":
        return 0
    width = BYTES[computed(setup).dtype] if setup.strategy != "zero3" else 0
    largest = max(each.numel for each in states.trained(setup)) if width else 0
    return trained_elements(setup) * (FLOAT32 + width) // setup.shards + 2 * largest * width


def _masters(setup: Setup) -> int:
    """Float32 copies and state of a rank's part of what is trained; the parts are one long tensor."""
    flat = trained_elements(setup)
    rule = states.rule_of(setup.optim)
    state = rule.states * (1 + FLOAT32 / states.OPTIMIZER_BLOCK if rule.bits == 8 else FLOAT32)
    if rule.factored:
        state = FLOAT32
    return round(flat * (FLOAT32 + state)) // setup.shards


def _zero3(setup: Setup) -> dict[str, int]:
    """A part of everything; small weights stay whole, and gradients have their place from the start."""
    run = computed(setup)
    width = BYTES[run.dtype]
    return {
        "weights": states.weight_bytes(run) // setup.shards + _small(setup),
        "quantization": states.constant_bytes(run),
        "optimizer": _masters(setup),
        "gradients": states.gradient_bytes(run) // setup.shards + _moved(setup),
        "gather": setting(setup, "reduce_bucket_size", BUCKET) * width,
    }


def _small(setup: Setup) -> int:
    """Bytes of the weights that ZeRO-3 leaves whole."""
    sizes = [prod(shape) for shape in setup.model.tensors.values()]
    return sum(size for size in sizes if size <= _threshold(setup)) * BYTES[computed(setup).dtype]


def _threshold(setup: Setup) -> int:
    return setting(setup, "param_persistence_threshold", PERSISTENT)


def trained_elements(setup: Setup) -> int:
    """Elements of all trained tensors."""
    return sum(each.numel for each in states.trained(setup))


def besides(setup: Setup, stretch: str) -> Mapping[str, int]:
    """Bytes by term that the strategy takes in one stretch of a step, beside what the passes take (see `memory_pass`)."""
    moment = stretch.partition(" ")[0]
    if setup.strategy == "zero3":
        return _besides_zero3(setup, moment)
    if setup.strategy in ("zero1", "zero2"):
        return _besides_zero(setup, moment)
    if moment == "step":
        shards = setup.shards if setup.strategy == "fsdp2" else 1
        return {"optimizer": states.temporary_bytes(_in_float32(setup) if shards > 1 else setup, shards=shards)}
    return {}


def _besides_zero(setup: Setup, moment: str) -> Mapping[str, int]:
    run = computed(setup)
    width = BYTES[run.adapter.dtype if run.adapter else run.dtype]
    size, part = states.gradient_bytes(run), states.gradient_bytes(run) // setup.shards
    room = setting(setup, "reduce_bucket_size", BUCKET) * width
    bucket = room * (2 if setup.settings.get("overlap_comm") else 1)
    again = part * FLOAT32 // width if width < FLOAT32 else 0
    if moment in ("forward", "loss"):  # what an earlier pass of the step has left
        left = {"gradients": part} if setup.strategy == "zero2" else {"gather": bucket}
        return left if setup.accumulation > 1 else {}
    if setup.offload != "none":  # parts of gradients go to host memory, where the step is made
        return {"gather": bucket + min(room, size)} if moment == "backward" else {}
    if setup.strategy == "zero2":
        if moment == "backward":
            return {"gather": bucket + min(room, size), "gradients": part * min(2, setup.accumulation)}
        return {"gradients": 2 * part + again, "optimizer": states.temporary_bytes(setup, shards=setup.shards)}
    if moment == "backward":
        return {"gather": bucket}
    # Gradients move into the bucket, are reduced, and those of the rank's part get a place of their own.
    moved = _filled(setup, room // width) * width
    return {"gather": bucket, "gradients": max(part - moved, 0 if moved < size else -size + part)}


def _filled(setup: Setup, room: int) -> int:
    """Elements of the first gradients that go into the bucket together."""
    filled = 0
    for each in states.trained(setup):
        if filled + each.numel > room:
            break
        filled += each.numel
    return filled


def _besides_zero3(setup: Setup, moment: str) -> Mapping[str, int]:
    run = computed(setup)
    width = BYTES[run.dtype]
    least = _threshold(setup)
    sizes = [size for shape in setup.model.tensors.values() if (size := prod(shape)) > least]
    shared = sum(sizes)
    live = min(shared, setting(setup, "max_live_parameters", LIVE)) * width
    ahead = min(shared, setting(setup, "prefetch_bucket_size", PREFETCH) + max(sizes, default=0)) * width
    if moment == "step":
        part = states.gradient_bytes(run) // setup.shards
        again = part * FLOAT32 // width if width < FLOAT32 else 0
        return {"gather": live, "gradients": part + again if setup.offload == "none" else 0}
    return {"gather": live + (ahead if moment == "forward" else 0)}
