"""What can be changed in a recipe that does not fit: the words to write, and what each gives and costs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from launcher.plan import compatibility
from launcher.plan.compatibility import Cell
from launcher.plan.options import divisors, with_every, with_rows
from launcher.plan.types import Plan
from launcher.predict.setup import Setup
from launcher.recipe.load import LoadedRecipe
from launcher.recipe.optimizers import OPTIMIZERS
from launcher.text import counted

_CHECKPOINTING = "training.activation_checkpointing"
_KWARGS = f"{_CHECKPOINTING}_kwargs"
_ROWS = "training.per_device_train_batch_size"
_PASSES = "training.gradient_accumulation_steps"
_SHORTEST = 512


@dataclass(frozen=True)
class Lever:
    """One change: `--set` words, what it gives and costs in a few words, and a guess of the setup that comes of it."""

    sets: tuple[str, ...]
    reason: str
    guess: Setup | None = None
    """The setup with only this changed, to leave out early what cannot fit; None: only a new plan tells."""
    changes: int = 0
    """0: what is trained stays the same; 1: weights in other types, or other weights are trained; 2: shorter rows."""


def small(loaded: LoadedRecipe, setup: Setup) -> Iterator[Lever]:
    """Fewer rows at a time, activations computed again, or both: where the recipe itself says them, for `auto` has tried."""
    fewer, again = tuple(_fewer_rows(loaded, setup)), tuple(_again(loaded, setup))
    yield from fewer
    yield from again
    for second in again:
        for first in fewer:
            if first.guess and second.guess:
                guess = replace(first.guess, checkpointing=second.guess.checkpointing)
                yield Lever((*second.sets, *first.sets), f"{second.reason}; {first.reason}", guess)


def large(loaded: LoadedRecipe, plan: Plan, setup: Setup) -> Iterator[Lever]:
    """Changes of the optimizer, of what ranks share, of where things lie, of number types and of what is trained."""
    yield from _processes(setup)
    yield from _strategies(loaded, plan, setup)
    yield from _optimizers(plan, setup)
    yield from _offloads(plan, setup)
    yield from _smaller_types(plan, setup)


def shorter(setup: Setup) -> Iterator[Lever]:
    """Rows of half the length, and half of that."""
    length = setup.length // 2
    while length >= _SHORTEST:
        reason = f"rows of {length:,} tokens: longer ones are cut, or split"
        yield Lever((f"data.max_length={length}",), reason, replace(setup, length=length), changes=2)
        length //= 2


def both(one: Lever, other: Lever) -> Lever:
    """Two changes together."""
    return Lever((*one.sets, *other.sets), f"{one.reason}; {other.reason}", None, max(one.changes, other.changes))


def _fewer_rows(loaded: LoadedRecipe, setup: Setup) -> Iterator[Lever]:
    """All smaller numbers of rows, the largest first."""
    training = loaded.recipe.training
    if (training.per_device_train_batch_size, training.gradient_accumulation_steps) == ("auto", "auto"):
        return
    for rows in reversed(divisors(setup.rows * setup.accumulation)):
        if rows < setup.rows:
            passes = setup.rows * setup.accumulation // rows
            sets = [f"{_ROWS}={rows}"]
            if training.gradient_accumulation_steps != "auto":
                sets.append(f"{_PASSES}={passes}")
            reason = f"{counted(rows, 'row')} at a time, {passes} passes per step: the same step in smaller pieces"
            yield Lever(tuple(sets), reason, with_rows(setup, rows))


def _again(loaded: LoadedRecipe, setup: Setup) -> Iterator[Lever]:
    training = loaded.recipe.training
    if training.activation_checkpointing == "auto" and not _kwargs(loaded):
        return
    if setup.checkpointing is None or setup.checkpointing.every_n_layers > 1:
        sets = [f"{_CHECKPOINTING}=true"] if training.activation_checkpointing is not True else []
        if _kwargs(loaded):
            sets.append(f"{_KWARGS}=null")
        yield Lever(
            tuple(sets), "each layer's activations are computed again: a third more compute", with_every(setup, 1)
        )


def _kwargs(loaded: LoadedRecipe) -> Any:
    return (loaded.recipe.training.model_extra or {}).get("activation_checkpointing_kwargs")


def _processes(setup: Setup) -> Iterator[Lever]:
    if setup.device == "cpu" and setup.ranks_per_node > 1:
        reason = "one process has the memory that several share"
        yield Lever(("launch.processes=1",), reason)


def _strategies(loaded: LoadedRecipe, plan: Plan, setup: Setup) -> Iterator[Lever]:
    if loaded.recipe.sharding.strategy == "auto" and setup.device == "cuda":
        return  # the search has tried them
    for strategy in ("zero2", "fsdp2", "zero3"):
        if _may(plan, setup, strategy, plan.offload) and strategy != plan.strategy and setup.ranks > 1:
            reason = f"{strategy} over {counted(setup.ranks, 'rank')}: each holds its part"
            yield Lever((f"sharding.strategy={strategy}",), reason, replace(setup, strategy=strategy, group=None))


def _optimizers(plan: Plan, setup: Setup) -> Iterator[Lever]:
    name = "paged_adamw_8bit" if setup.device == "cuda" else "adamw_8bit"
    now = OPTIMIZERS.get(setup.optim)
    allowed = compatibility.optimizer_row(plan.strategy, name) is None
    if plan.method == "full" and now and now.state_bytes > OPTIMIZERS[name].state_bytes and allowed:
        reason = "the optimizer's state in 8 bits" + (", in host memory when it must" if "paged" in name else "")
        yield Lever((f"training.optim={name}",), reason, replace(setup, optim=name))


def _smallest_states(plan: Plan, setup: Setup) -> Iterator[Lever]:
    """Weights and gradients in 16 bits and the optimizer's state in 8; one rank needs no strategy that forbids that."""
    name = "paged_adamw_8bit"
    strategy = "ddp" if setup.ranks == 1 and compatibility.optimizer_row(plan.strategy, name) else plan.strategy
    if setup.device == "cpu" or plan.offload != "none" or compatibility.optimizer_row(strategy, name):
        return
    sets = ["model.dtype=bfloat16", f"training.optim={name}"]
    if strategy != plan.strategy:
        sets.append(f"sharding.strategy={strategy}")
    reason = "weights and gradients in bfloat16, which rounds each update; the optimizer's state in 8 bits"
    guess = replace(setup, dtype="bfloat16", optim=name, strategy=strategy)  # type: ignore[arg-type]
    yield Lever(tuple(sets), reason, guess, changes=1)


def _offloads(plan: Plan, setup: Setup) -> Iterator[Lever]:
    if setup.device == "cpu" or plan.offload == "params":
        return
    for strategy, moved in (("zero2", "optimizer"), ("fsdp2", "params"), ("zero3", "params")):
        if _may(plan, setup, strategy, moved) and (plan.strategy, plan.offload) != (strategy, moved):
            sets = [f"sharding.offload={moved}"]
            if plan.strategy != strategy:
                sets.insert(0, f"sharding.strategy={strategy}")
            what = "the optimizer's state" if moved == "optimizer" else "weights and the optimizer's state"
            guess = replace(setup, strategy=strategy, offload=moved, group=None)  # type: ignore[arg-type]
            yield Lever(tuple(sets), f"{what} in host memory ({strategy}): slower, by the link to the host", guess)


def _may(plan: Plan, setup: Setup, strategy: str, moved: str) -> bool:
    found = compatibility.row(Cell(strategy, moved, plan.method))
    enough = setup.ranks >= compatibility.fewest_ranks(strategy)
    return enough and (found is None or (found.verdict == "needs GPU" and setup.device == "cuda"))


def _smaller_types(plan: Plan, setup: Setup) -> Iterator[Lever]:
    four_bit = "quantization={load_in_4bit: true}"
    if plan.method == "lora" and plan.peft is not None:
        yield Lever((four_bit,), "the frozen base in 4 bits (QLoRA)", replace(setup, method="qlora"), changes=1)
    if plan.method == "int8" and plan.quantization is not None:
        sets = ("quantization.load_in_8bit=false", "quantization.load_in_4bit=true")
        yield Lever(sets, "the frozen base in 4 bits in place of 8", replace(setup, method="qlora"), changes=1)
    if plan.method == "full":
        if plan.model.dtype == "float32" and setup.precision == "bfloat16":
            reason = "weights, gradients and optimizer state in bfloat16: half of each, with coarser updates"
            yield Lever(("model.dtype=bfloat16",), reason, replace(setup, dtype="bfloat16"), changes=1)
            yield from _smallest_states(plan, setup)
        adapter = "an adapter of rank 16 is trained in place of all weights (LoRA)"
        yield Lever(("peft={r: 16}",), adapter, changes=1)
        yield Lever(("peft={r: 16}", four_bit), f"{adapter}, on a base in 4 bits", changes=1)
