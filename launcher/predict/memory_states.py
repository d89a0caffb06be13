"""What a training holds from step to step: weights, quantization's constants, optimizer state; and what the optimizer's step needs.

Bytes of one rank that shares nothing; `launcher.predict.memory_sharding` says what becomes of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod

from launcher.predict.architecture import Architecture
from launcher.predict.setup import BYTES, Adapter, Setup

FLOAT32 = 4
NF4_BLOCK, NESTED_BLOCK, OPTIMIZER_BLOCK = 64, 256, 256
"""Elements that share a constant: bitsandbytes' defaults, which transformers does not change."""
SMALL = 4096
"""Tensors with fewer elements keep their optimizer state in 32 bits (`min_8bit_size` of bitsandbytes)."""
_CODES_NF4, _CODES_DYNAMIC = 16 * FLOAT32, 256 * FLOAT32
"""Tables: the 16 values of a 4-bit type, one per matrix; the 256 of an 8-bit type, one for all."""


@dataclass(frozen=True)
class Rule:
    """What an optimizer keeps for a trained tensor, in copies of it, and needs while it works on one."""

    states: int
    """Copies of the tensor."""
    bits: int | None = None
    """8, 32, or None: as the tensor's own type."""
    paged: bool = False
    factored: bool = False
    """A row and a column instead of a matrix, in float32 (Adafactor)."""
    temporaries: tuple[int, int] = (0, 0)
    """Copies of the tensor that it works on (CPU, one after the other), and of all trained tensors (GPU, `foreach`)."""
    lingers: bool = False
    """The last copy of one tensor is still there when the next one's are made."""


_ADAM = Rule(2)
RULES: dict[str, Rule] = {
    "adamw_torch_fused": _ADAM,
    "adamw_torch": Rule(2, temporaries=(2, 1), lingers=True),
    "sgd": Rule(0),
    "adagrad": Rule(1, temporaries=(1, 1), lingers=True),
    "rmsprop": Rule(1, temporaries=(1, 1), lingers=True),
    "adafactor": Rule(0, factored=True, temporaries=(3, 0)),
    "adamw_8bit": Rule(2, 8),
    "adamw_bnb_8bit": Rule(2, 8),
    "paged_adamw_8bit": Rule(2, 8, paged=True),
    "paged_adamw_32bit": Rule(2, 32, paged=True),
    "lion_8bit": Rule(1, 8),
    "lion_32bit": Rule(1, 32),
    "paged_lion_8bit": Rule(1, 8, paged=True),
    "paged_lion_32bit": Rule(1, 32, paged=True),
    "ademamix": Rule(3, 32),
    "ademamix_8bit": Rule(3, 8),
    "paged_ademamix_32bit": Rule(3, 32, paged=True),
    "paged_ademamix_8bit": Rule(3, 8, paged=True),
    "rmsprop_bnb": Rule(1, 32),
    "rmsprop_bnb_32bit": Rule(1, 32),
    "rmsprop_bnb_8bit": Rule(1, 8),
}
"""By transformers' names (`launcher.recipe.optimizers` says which are offered)."""


def rule_of(optim: str) -> Rule:
    """The optimizer's rule; of one that we do not know, AdamW's."""
    return RULES.get(optim, _ADAM)


@dataclass(frozen=True)
class Trained:
    """One trained tensor."""

    name: str
    shape: tuple[int, ...]
    width: int
    embedding: bool = False

    @cached_property
    def numel(self) -> int:
        """Elements."""
        return prod(self.shape)


_Parts = tuple[Architecture, Adapter | None]
_known: dict[tuple[object, ...], tuple[_Parts, list[Trained]]] = {}
_MOST_KNOWN = 100


def trained(setup: Setup) -> list[Trained]:
    """Every tensor that is trained, in no order. Made once for a model and an adapter: a search asks again and again."""
    adapter = setup.adapter
    beside = adapter and (id(adapter.ranks), adapter.dtype, adapter.dora, adapter.whole, adapter.new_rows)
    key = (id(setup.model), beside, setup.dtype)
    if key not in _known:
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        _known[key] = (
            (setup.model, setup.adapter),
            list(_trained(setup)),
        )  # both are kept, so that their ids stay theirs
    return _known[key][1]


def _trained(setup: Setup) -> Iterator[Trained]:
    model, width = setup.model, BYTES[setup.dtype]
    if setup.adapter is None:
        for name, shape in model.tensors.items():
            yield Trained(name, tuple(shape), width, name in model.embeddings)
        return
    yield from _of_adapter(model, setup.adapter)
    for module in setup.adapter.whole:
        for name, shape in model.tensors.items():
            if name.startswith(f"{module}."):
                yield Trained(name, tuple(shape), width, name in model.embeddings)
        if module == "lm_head" and model.tied:
            yield Trained("lm_head.weight", model.head, width)


def _of_adapter(model: Architecture, adapter: Adapter) -> Iterator[Trained]:
    width = BYTES[adapter.dtype]
    for layer, rank in adapter.ranks.items():
        experts, out, into = _layer(model, layer)
        yield Trained(f"{layer}.lora_A", (experts * rank, into), width)
        yield Trained(f"{layer}.lora_B", (out, experts * rank), width)
        if adapter.dora:
            yield Trained(f"{layer}.lora_magnitude_vector", (out,), width)
    if adapter.new_rows:
        for place in range(1 if model.tied else 2):
            yield Trained(f"new rows {place}", (adapter.new_rows, model.hidden), FLOAT32)


def _layer(model: Architecture, name: str) -> tuple[int, int, int]:
    """(experts, out, in) of an adapted layer."""
    if name in model.expert_tensors:
        return model.expert_tensors[name]
    found = model.linear.get(name) or model.tensors.get(f"{name}.weight") or model.head
    return (1, found[0], found[1])


def weight_bytes(setup: Setup) -> int:
    """Weights as they lie in memory: quantized matrices in 4 or 8 bits, adapters beside them."""
    model, width = setup.model, BYTES[setup.dtype]
    linear = model.linear_parameters if setup.method in ("qlora", "int8") else 0
    quantized = linear // 2 if setup.method == "qlora" else linear
    adapters = sum(each.numel * each.width for each in trained(setup)) if setup.adapter else 0
    return (model.parameters - linear) * width + quantized + adapters


def constant_bytes(setup: Setup) -> int:
    """What quantization needs beside the codes: a scale for each 64 elements (4 bits) or each row (8 bits).

    Source: QLoRA, arXiv:2305.14314, section 3: with double quantization the scales take 8 bits, and 32 for each 256 of them.
    """
    if setup.method == "int8":
        return sum(out * FLOAT32 for out, _ in setup.model.linear.values())
    if setup.method != "qlora":
        return 0
    total = 0
    for out, into in setup.model.linear.values():
        blocks = -(-out * into // NF4_BLOCK)
        scales = blocks + -(-blocks // NESTED_BLOCK) * FLOAT32 + FLOAT32 if setup.double_quant else blocks * FLOAT32
        total += scales + _CODES_NF4
    return total + (_CODES_DYNAMIC if setup.double_quant else 0)


def state_bytes(setup: Setup) -> int:
    """Optimizer state of all trained tensors, wherever it lies."""
    rule = rule_of(setup.optim)
    total = sum(_state(rule, each) for each in trained(setup))
    return total + (rule.states * _CODES_DYNAMIC if rule.bits == 8 else 0)


def _state(rule: Rule, tensor: Trained) -> int:
    if rule.factored:
        if len(tensor.shape) < 2:
            return tensor.numel * FLOAT32
        return FLOAT32 * (tensor.numel // tensor.shape[-1] + tensor.numel // tensor.shape[-2])
    if rule.bits == 8 and tensor.numel >= SMALL and not tensor.embedding:
        return rule.states * (tensor.numel + -(-tensor.numel // OPTIMIZER_BLOCK) * FLOAT32)
    return rule.states * tensor.numel * (FLOAT32 if rule.bits else tensor.width)


_BNB_8BIT, _BNB_32BIT, _BNB_THREE_STATES = 5, 3, 9
"""On a CPU bitsandbytes works with torch's operations, in float32: so many copies of a tensor at once. Its GPU kernels need none."""


def temporary_bytes(setup: Setup, *, shards: int = 1) -> int:
    """What the optimizer's step holds besides, at most."""
    rule, tensors = rule_of(setup.optim), trained(setup)
    if setup.device == "cuda" and not rule.factored:
        return rule.temporaries[1] * sum(each.numel * each.width for each in tensors) // shards
    most = before = 0
    # The trainer has two groups: matrices, whose weights decay, before vectors.
    for each in sorted(tensors, key=lambda tensor: len(tensor.shape) < 2):
        size = each.numel * FLOAT32
        most = max(most, _copies(rule, each) * size + before)
        before = size if rule.lingers else 0
    return most // shards


def _copies(rule: Rule, tensor: Trained) -> int:
    if rule.bits is None:
        return rule.temporaries[0]
    if rule.bits == 8 and tensor.numel >= SMALL and not tensor.embedding:
        return _BNB_8BIT if rule.states < 3 else _BNB_THREE_STATES
    return _BNB_32BIT if rule.states < 3 else _BNB_8BIT


def gradient_bytes(setup: Setup) -> int:
    """Gradients of all trained tensors."""
    return sum(each.numel * each.width for each in trained(setup))
