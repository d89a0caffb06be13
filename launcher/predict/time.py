"""Seconds of an optimizer step by part: what is computed, moved, sent and waited for.

- `compute`: matrix products at the device's rate (never faster than their weights are read), attention at its own, and what
  works on single elements at the memory's bandwidth.
- `dequantize`: quantized weights expanded for each pass over them.
- `optimizer`: gradients, state and weights read and written once; in host memory it is `offload`.
- `communication`: what ranks send and what does not hide behind a pass.
- `offload`: between device and host, what does not hide behind a pass.
- `overhead`: a GPU that waits for the program; on a CPU, what each operation costs beside its arithmetic.

Padding is counted as tokens. Loading, saving, measuring and waiting for data are not in it.
"""

from __future__ import annotations

from dataclasses import replace

from launcher.predict.flops import Flops, hardware_flops, is_recomputed, model_flops
from launcher.predict.links import collectives, exposed_s, gathered_bytes
from launcher.predict.memory_states import gradient_bytes, rule_of, state_bytes, trained
from launcher.predict.pairs import attention_is_whole
from launcher.predict.prediction import Time
from launcher.predict.rates import Rates, gpu_rates
from launcher.predict.setup import BYTES, Setup
from launcher.predict.traffic import element_bytes, expanded_bytes, weights_read

_CLIPPING = 3
"""Accesses of a gradient to bound its norm: read for the norm, read and written to scale it (`max_grad_norm`)."""
_OPERATIONS = {"block": 30, "compiled": 8, "matrix": 1, "adapter": 6, "head": 40, "step": 300}
"""Operations that a program asks a device for: of a block beside its matrices, of each matrix and adapter, of head and
loss, and of the trainer around a micro-batch."""
_BACKWARD = 1.5
"""A backward pass asks for so many times those of the forward pass; most run from C++."""
_UNFUSED = 3
"""`adamw_torch` on a GPU passes over state and gradients so many times as often as the fused one."""


def time(setup: Setup, rates: Rates | None = None) -> Time | None:
    """What a usual step is expected to take; None where nothing tells how fast the device is.

    Args:
        setup: what is trained.
        rates: the device's; None: the catalogue's for the setup's GPU. On a CPU there are none, see `rates.cpu_rates`.
    """
    if rates is None:
        if setup.gpu is None or setup.device == "cpu":
            return None
        rates = gpu_rates(setup.gpu, setup.precision, setup.ranks_per_node)
    setup = replace(setup, length=setup.usual_length, lengths=())
    done, needed = hardware_flops(setup), model_flops(setup)
    forward, backward = passes(setup, rates, done)
    micro = setup.accumulation
    parts = {
        "compute": micro * (forward + backward),
        "dequantize": micro * expanded_bytes(setup) * _times_expanded(setup) / rates.memory,
        "optimizer": 0.0 if setup.offload != "none" else _optimizer_bytes(setup) / rates.memory,
        "communication": exposed_s(collectives(setup), rates.links, micro * forward, micro * backward),
        "offload": _offload(setup, rates, micro * (forward + backward)),
    }
    parts["overhead"] = _overhead(setup, rates, parts["compute"] + parts["dequantize"])
    steps = micro * setup.ranks
    return Time(
        {name: seconds for name, seconds in parts.items() if seconds > 0},
        tokens=setup.tokens * steps,
        model_flops=needed.total * steps,
        hardware_flops=done.total * steps,
        rate=rates.origin,
    )


def passes(setup: Setup, rates: Rates, done: Flops) -> tuple[float, float]:
    """Seconds that one rank computes in the forward and in the backward pass of a micro-batch."""
    once, again = 1.0, _recomputed_share(setup)
    times = 2 + again + (setup.method == "full")  # products with each weight
    products = done.matrices + done.head
    read = weights_read(setup) / rates.memory
    attention = done.attention / (rates.masked if attention_is_whole(setup) else rates.attention)
    behind = (10 if setup.attention != "eager" else 8) / 4 + again
    elements_forward, elements_backward = element_bytes(setup)
    forward = max(products * once / times / rates.matrices, read) + attention / (1 + behind)
    backward = max(products * (times - once) / times / rates.matrices, read * (1 + again)) + attention * behind / (
        1 + behind
    )
    return forward + elements_forward / rates.memory, backward + elements_backward / rates.memory


def _recomputed_share(setup: Setup) -> float:
    blocks = len(setup.model.per_layer)
    return sum(is_recomputed(block, setup) for block in range(blocks)) / blocks if blocks else 0.0


def _times_expanded(setup: Setup) -> float:
    """Passes over a quantized weight: forward, the gradient of its input, and what is computed again."""
    return 2 + _recomputed_share(setup)


def _optimizer_bytes(setup: Setup) -> float:
    """Bytes of an optimizer step on one rank: state and weights read and written, gradients read, and clipped before."""
    weights = sum(each.numel * each.width for each in trained(setup))
    passed = 2 * state_bytes(setup) + 2 * weights + (1 + _CLIPPING) * gradient_bytes(setup)
    slow = _UNFUSED if rule_of(setup.optim).temporaries != (0, 0) and setup.device == "cuda" else 1
    return passed * slow / setup.shards


def _offload(setup: Setup, rates: Rates, behind_s: float) -> float:
    """Seconds that the device waits for what lies in host memory."""
    seconds = 0.0
    if setup.offload != "none":
        grads = gradient_bytes(setup) / setup.shards
        # Gradients down, updated weights up, and the optimizer's step on the host between them: nothing hides it.
        seconds += 2 * grads / rates.host + _optimizer_bytes(setup) / rates.host_memory
    if rule_of(setup.optim).paged and setup.device == "cuda" and setup.offload == "none":
        seconds += 2 * state_bytes(setup) / setup.shards / rates.host  # as if none of it found room on the device
    moved = 0.0
    if setup.offload == "params":
        moved += 2 * setup.accumulation * gathered_bytes(setup) / setup.shards
    kept = setup.checkpointing
    if kept and kept.offload:
        blocks = sum(is_recomputed(block, setup) for block in range(len(setup.model.per_layer)))
        moved += 2.0 * setup.accumulation * blocks * setup.tokens * setup.model.hidden * BYTES[setup.precision]
    return seconds + max(0.0, moved / rates.host - behind_s)


def _overhead(setup: Setup, rates: Rates, busy_s: float) -> float:
    asked_s = operations(setup) * rates.launch_s
    return max(0.0, asked_s - busy_s) if rates.asynchronous else asked_s


def operations(setup: Setup) -> float:
    """Operations that the program of one rank asks for in a step, about."""
    model = setup.model
    blocks = len(model.per_layer)
    each = _OPERATIONS["compiled" if setup.compile else "block"]
    experts = 8 * model.experts if model.experts else 0
    forward = blocks * (each + experts) + _OPERATIONS["matrix"] * len(model.linear)
    if setup.adapter is not None:
        forward += _OPERATIONS["adapter"] * len(setup.adapter.ranks)
    forward += _OPERATIONS["head"]
    again = _recomputed_share(setup)
    return setup.accumulation * (forward * (1 + again + _BACKWARD) + _OPERATIONS["step"])
