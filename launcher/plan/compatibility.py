"""Which strategy runs with which method and what in host memory: one table, from which refusals, documentation and tests come.

A cell that no row names works on CPUs and GPUs and is trained, killed, resumed and exported by a test.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Literal

from launcher.plan.sharding import ZERO
from launcher.recipe.optimizers import OPTIMIZERS

STRATEGIES = ("ddp", "fsdp2", "fsdp2 hybrid", "zero1", "zero2", "zero3")
OFFLOADS = ("none", "optimizer", "params")
METHODS = ("full", "lora", "qlora", "int8")
"""`qlora`: an adapter on a 4-bit base; `int8`: an adapter on an 8-bit one."""

Verdict = Literal["works", "refused", "needs GPU"]
_FSDP = ("fsdp2", "fsdp2 hybrid")


@dataclass(frozen=True)
class Cell:
    """One combination."""

    strategy: str
    offload: str
    method: str


@dataclass(frozen=True)
class Row:
    """What holds for all cells of some strategies, offloads and methods; the first row that fits a cell decides."""

    strategies: tuple[str, ...]
    offloads: tuple[str, ...]
    methods: tuple[str, ...]
    verdict: Verdict
    key: str
    """The recipe key that an error names."""
    reason: str
    hint: str
    source: str

    def fits(self, cell: Cell) -> bool:
        """Whether the row is about this cell."""
        return cell.strategy in self.strategies and cell.offload in self.offloads and cell.method in self.methods


ROWS = (
    Row(
        ("ddp",),
        ("optimizer", "params"),
        METHODS,
        "refused",
        "sharding.offload",
        "under ddp each rank keeps all of it on its device; torch's DistributedDataParallel moves nothing",
        "write `sharding: {strategy: zero2, offload: optimizer}`, or fsdp2 with `offload: params`",
        "torch.nn.parallel.DistributedDataParallel has no such argument",
    ),
    Row(
        _FSDP,
        ("optimizer",),
        METHODS,
        "refused",
        "sharding.offload",
        "FSDP2 moves weights, gradients and optimizer state together, or nothing",
        "write `offload: params`, or `strategy: zero2` to move the optimizer alone",
        "torch.distributed.fsdp.CPUOffloadPolicy",
    ),
    Row(
        ("zero1", "zero2"),
        ("params",),
        METHODS,
        "refused",
        "sharding.offload",
        "only ZeRO-3 shares the weights out and can move them",
        "write `strategy: zero3`, or `offload: optimizer`",
        "DeepSpeed configuration: offload_param is valid with stage 3 only",
    ),
    Row(
        _FSDP,
        OFFLOADS,
        ("int8",),
        "refused",
        "quantization.load_in_8bit",
        "bitsandbytes' 8-bit weights cannot be shared out: codes and scales of a layer are separate tensors of other types",
        "write `load_in_4bit: true`, or `strategy: ddp`",
        "bitsandbytes: FSDP-QLoRA is for 4-bit weights (quant_storage); Int8Params has no such storage",
    ),
    Row(
        ("zero3",),
        OFFLOADS,
        ("int8",),
        "refused",
        "quantization.load_in_8bit",
        "bitsandbytes' 8-bit weights cannot be shared out: codes and scales of a layer are separate tensors of other types",
        "write `load_in_4bit: true`, or `strategy: zero2`",
        "bitsandbytes: Int8Params has no float storage",
    ),
    Row(
        _FSDP,
        ("params",),
        METHODS,
        "needs GPU",
        "sharding.offload",
        "weights move between host memory and a device; with the CPU as the device there is nothing to move",
        "",
        "torch.distributed.fsdp.CPUOffloadPolicy pins host memory, which needs an accelerator",
    ),
)


@dataclass(frozen=True)
class Optimizers:
    """Optimizers that some strategies cannot run."""

    strategies: tuple[str, ...]
    names: frozenset[str]
    reason: str
    hint: str
    source: str


_BITSANDBYTES = frozenset(OPTIMIZERS) - {"adafactor", "adagrad", "adamw_torch", "adamw_torch_fused", "rmsprop", "sgd"}
OPTIMIZER_ROWS = (
    Optimizers(
        ("fsdp2",),
        _BITSANDBYTES,
        "bitsandbytes' optimizers step on plain tensors, not on the parts that FSDP2 gives a rank",
        "write `optim: adamw_torch_fused`; under fsdp2 each rank keeps only its part of the state",
        "measured: mixed Tensor and DTensor, or no sharding strategy for the operation",
    ),
    Optimizers(
        ("fsdp2",),
        frozenset({"adafactor", "adagrad"}),
        "it steps on plain tensors, not on the parts that FSDP2 gives a rank",
        "write `optim: adamw_torch_fused`; under fsdp2 each rank keeps only its part of the state",
        "measured: mixed Tensor and DTensor; KeyError",
    ),
    Optimizers(
        ZERO,
        frozenset({"adafactor"}),
        "ZeRO flattens the weights, of which Adafactor keeps rows and columns: it would be another optimizer",
        "write `optim: adamw_torch_fused`; under ZeRO each rank keeps only its part of the state",
        "measured: losses 1.1e-2 off after six steps",
    ),
    Optimizers(
        ZERO,
        frozenset({"adagrad"}),
        "DeepSpeed cannot step it",
        "write `optim: adamw_torch_fused`",
        "measured: IndexError in DeepSpeed's wrapper",
    ),
)


def optimizer_row(strategy: str, optim: str) -> Optimizers | None:
    """Why a strategy cannot run an optimizer; None: it can."""
    return next((each for each in OPTIMIZER_ROWS if strategy in each.strategies and optim in each.names), None)


@dataclass(frozen=True)
class Feature:
    """Something about an adapter that some strategies cannot run."""

    name: str
    strategies: tuple[str, ...]
    key: str
    reason: str
    hint: str
    source: str


FEATURES = (
    Feature(
        "rows of added tokens beside an adapter",
        ("fsdp2", "zero3"),
        "model.add_tokens",
        "peft writes the rows of added tokens into whole embeddings, which no rank holds under {strategy}",
        "write `strategy: zero2`, or train all weights",
        "measured with peft 0.21.2: FSDP2's `value was None`, ZeRO-3's missing device",
    ),
    Feature(
        "an adapter made of the base's weights (pissa, olora, …)",
        ("zero3",),
        "peft.init_lora_weights",
        "this start is made of whole weights, which no rank holds under {strategy}",
        "leave it out, or write `strategy: fsdp2`",
        "peft reads the weights when the adapter is made; ZeRO-3 has shared them out by then",
    ),
    Feature(
        "embeddings or the output head trained in full beside an adapter",
        ("fsdp2",),
        "peft.modules_to_save",
        "accelerate puts embeddings and output head into units of their own, and finds them twice",
        "write `strategy: zero3`, or leave them out",
        "measured: KeyError: attribute 'weight' already exists (accelerate 1.15.0)",
    ),
    Feature(
        "DoRA on a quantized base",
        ("fsdp2",),
        "peft.use_dora",
        "its magnitudes are float32 beside bfloat16 adapters, and a unit of FSDP2 has one type",
        "remove `use_dora`, or write `strategy: zero2`",
        "measured: FSDP expects uniform original parameter dtype",
    ),
)
"""What was trained and failed. All else of an adapter is trained under every strategy by a test, or like what is."""


_ELSEWHERE: dict[str, str] = {
    "zero3": "put together from another number of ranks, its optimizer state drifts: measured 1e-2 after six steps",
}
"""Strategies whose checkpoints go on on the number of ranks that saved them only."""


def cells() -> Iterator[Cell]:
    """Every cell."""
    for strategy, offload, method in product(STRATEGIES, OFFLOADS, METHODS):
        yield Cell(strategy, offload, method)


def row(cell: Cell) -> Row | None:
    """What the table says of a cell; None: it works."""
    return next((each for each in ROWS if each.fits(cell)), None)


def verdict(cell: Cell) -> Verdict:
    """Whether a cell works everywhere, is refused, or works on GPUs only."""
    found = row(cell)
    return found.verdict if found else "works"


def elsewhere(strategy: str) -> str | None:
    """Why a checkpoint of this strategy does not go on on another number of ranks; None: it does."""
    return _ELSEWHERE.get(strategy)


def refusal(saved: str, saved_ranks: int, planned: str, ranks: int) -> tuple[str, str] | None:
    """Why a checkpoint of one strategy and number of ranks does not go on under another, and what to do; None: it does."""
    if saved != planned:
        return (
            f"was saved under `{saved}`, and `{planned}` is planned: nothing converts one into the other",
            f"set `sharding: {{strategy: {saved}}}`, or start a run of its own: `--set name=NAME`",
        )
    why = elsewhere(planned)
    if why is None or saved_ranks == ranks:
        return None
    return (
        f"was saved by {saved_ranks} ranks of `{planned}`, not {ranks}: {why}",
        "go on with as many ranks as before; fsdp2 checkpoints go on on any number",
    )


def fewest_ranks(strategy: str) -> int:
    """The smallest number of ranks on which a strategy is itself."""
    return {"fsdp2 hybrid": 4, "fsdp2": 2}.get(strategy, 1)
