"""Sharding against method and hardware, by the table of `launcher.plan.compatibility`."""

from __future__ import annotations

from collections.abc import Iterator

from launcher.cluster.schema import Cluster
from launcher.errors import RecipeError
from launcher.plan import compatibility
from launcher.plan.compatibility import Cell
from launcher.plan.facts import Facts
from launcher.plan.method import method_of
from launcher.plan.world import world
from launcher.recipe.load import LoadedRecipe
from launcher.text import quote

NEEDS_GPU = ("fsdp2",)
"""Strategies that do not exist on CPUs: accelerate would run them as ddp there, without a word."""

_ENDS = {"embed_tokens", "lm_head", "wte", "embed_in", "embed_out"}


def faults(loaded: LoadedRecipe, cluster: Cluster, facts: Facts) -> Iterator[RecipeError]:
    """Combinations that would fail late, or run as something else."""
    yield from _device(loaded, cluster, facts)
    yield from _cell(loaded, cluster, facts)
    yield from _group(loaded, cluster, facts)
    yield from _storage(loaded, facts)
    yield from _optimizer(loaded, facts)
    yield from _features(loaded, facts)
    yield from _contradiction(loaded, facts)
    yield from _checkpointing(loaded, facts)


def _device(loaded: LoadedRecipe, cluster: Cluster, facts: Facts) -> Iterator[RecipeError]:
    strategy = facts.preset.strategy
    if cluster.gpu is None and strategy in NEEDS_GPU:
        key = "sharding.strategy" if loaded.place("sharding.strategy") else "sharding.preset"
        yield loaded.error(
            f"`{strategy}` needs GPUs: on a CPU accelerate would run plain ddp in its place, and say nothing",
            key=key,
            hint="write `strategy: ddp` (or zero1, zero2, zero3), or plan for GPUs: `--on H100x8`",
        )


def _cell(loaded: LoadedRecipe, cluster: Cluster, facts: Facts) -> Iterator[RecipeError]:
    sharding = loaded.recipe.sharding
    name = facts.preset.strategy
    if name == "fsdp2" and sharding.dp_shard_size is not None:
        name = "fsdp2 hybrid"
    offload = facts.preset.offload if sharding.offload in ("auto", "none") else sharding.offload
    found = compatibility.row(Cell(name, offload, method_of(loaded.recipe, facts)))
    if found is None or (found.verdict == "needs GPU" and cluster.gpu is not None):
        return
    if found.verdict == "needs GPU":
        if facts.preset.strategy not in NEEDS_GPU:
            yield loaded.error(f"needs GPUs: {found.reason}", key=found.key, hint="leave it out")
        return
    yield loaded.error(found.reason, key=found.key, hint=found.hint)


def _group(loaded: LoadedRecipe, cluster: Cluster, facts: Facts) -> Iterator[RecipeError]:
    group, key = loaded.recipe.sharding.dp_shard_size, "sharding.dp_shard_size"
    if group is None:
        return
    if facts.preset.strategy != "fsdp2":
        message = f"`{facts.preset.strategy}` has no groups of ranks: hybrid sharding is fsdp2's"
        yield loaded.error(message, key=key, hint="remove it, or write `strategy: fsdp2`")
        return
    ranks = world(loaded, cluster).size
    if ranks % group or ranks < 2 * group:
        fitting = [size for size in range(2, ranks // 2 + 1) if ranks % size == 0]
        hint = f"write one of {', '.join(map(str, fitting))}" if fitting else "leave it out: all ranks share one copy"
        yield loaded.error(
            f"{group} ranks to a copy do not divide {ranks} ranks into two copies or more", key=key, hint=hint
        )


def _storage(loaded: LoadedRecipe, facts: Facts) -> Iterator[RecipeError]:
    quantization, key = loaded.recipe.quantization, "quantization.bnb_4bit_quant_storage"
    if quantization is None or not quantization.load_in_4bit or facts.preset.strategy not in ("fsdp2", "zero3"):
        return
    if quantization.bnb_4bit_quant_storage == "uint8":
        yield loaded.error(
            f"4-bit codes stored as uint8 are not shared out under {facts.preset.strategy}: each rank would keep all of them",
            key=key,
            hint="leave it out: the plan takes the type of the other weights",
        )


def _optimizer(loaded: LoadedRecipe, facts: Facts) -> Iterator[RecipeError]:
    optim = loaded.recipe.training.optim
    found = compatibility.optimizer_row(facts.preset.strategy, optim)
    if found:
        yield loaded.error(f"{quote(optim)}: {found.reason}", key="training.optim", hint=found.hint)


def _features(loaded: LoadedRecipe, facts: Facts) -> Iterator[RecipeError]:
    strategy, used = facts.preset.strategy, set(_used(loaded, facts))
    for each in compatibility.FEATURES:
        if each.key in used and strategy in each.strategies:
            yield loaded.error(each.reason.format(strategy=strategy), key=each.key, hint=each.hint)


def _used(loaded: LoadedRecipe, facts: Facts) -> Iterator[str]:
    """Keys of features that the recipe uses."""
    peft, method = loaded.recipe.peft, method_of(loaded.recipe, facts)
    if method != "full" and loaded.recipe.model.add_tokens:
        yield "model.add_tokens"
    if peft is None:
        return
    if peft.init_lora_weights not in (True, False, "gaussian"):
        yield "peft.init_lora_weights"
    if _ENDS & {name.rpartition(".")[2] for name in peft.modules_to_save}:
        yield "peft.modules_to_save"
    if peft.use_dora and method in ("qlora", "int8"):
        yield "peft.use_dora"


def _contradiction(loaded: LoadedRecipe, facts: Facts) -> Iterator[RecipeError]:
    written, named = loaded.recipe.sharding.offload, facts.preset.offload
    if written != "auto" and named not in ("none", written) and loaded.place("sharding.offload") is not None:
        message = f"{quote(written)}, and the preset moves `{named}`"
        yield loaded.error(message, key="sharding.offload", hint=f"leave it out, or write `offload: {named}`")


def _checkpointing(loaded: LoadedRecipe, facts: Facts) -> Iterator[RecipeError]:
    kwargs = (loaded.recipe.training.model_extra or {}).get("activation_checkpointing_kwargs")
    if kwargs and facts.preset.strategy == "fsdp2":
        yield loaded.error(
            "FSDP2 checkpoints each layer itself and reads none of these",
            key="training.activation_checkpointing_kwargs",
            hint="leave it out: `activation_checkpointing: true` checkpoints each layer",
        )
