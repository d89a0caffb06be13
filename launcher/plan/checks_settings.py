"""Settings of the trainer against hardware and model: what fails in the first step, or costs more than it gives."""

from __future__ import annotations

from collections.abc import Iterator

from launcher.catalog.lacking import lacks
from launcher.cluster.schema import Cluster
from launcher.errors import RecipeError
from launcher.plan.facts import Facts
from launcher.plan.world import world
from launcher.recipe.load import LoadedRecipe
from launcher.recipe.optimizers import OPTIMIZERS
from launcher.text import quote

_CHECKPOINTING = "training.activation_checkpointing"
_KWARGS = "training.activation_checkpointing_kwargs"
_KERNELS = "model.model_init_kwargs.use_kernels"
_GRAPHS = ("reduce-overhead", "max-autotune")
"""Modes of torch.compile that record CUDA graphs."""


def faults(loaded: LoadedRecipe, cluster: Cluster, facts: Facts) -> Iterator[RecipeError]:
    """Settings with which this hardware or this model cannot train."""
    training = loaded.recipe.training
    extra, kind, on_gpu = training.model_extra or {}, facts.model.architecture, cluster.gpu is not None
    kwargs = extra.get("activation_checkpointing_kwargs") or {}
    if training.activation_checkpointing is True and lacks(kind, "activation_checkpointing"):
        message = f"models of type {quote(str(kind))} cannot recompute activations"
        yield loaded.error(message, key=_CHECKPOINTING, hint="write `activation_checkpointing: false`")
    if training.optim.startswith("paged_ademamix") and not on_gpu:
        hint = f"write `optim: ademamix{'_8bit' if '8bit' in training.optim else ''}`"
        yield loaded.error(f"`{training.optim}` cannot do without GPU memory to page", key="training.optim", hint=hint)
    if extra.get("activation_offloading") is True and not on_gpu:
        key = "training.activation_offloading"
        yield loaded.error("on a CPU activations are in host memory already", key=key, hint="remove it")
    if kwargs.get("offload") is True and not on_gpu:
        yield loaded.error(
            "on a CPU activations are in host memory already", key=f"{_KWARGS}.offload", hint="remove it"
        )
    if kwargs.get("use_reentrant") is True and _adapter(loaded) and _ranks(loaded, cluster) > 1:
        message = "reentrant checkpoints of an adapter fail on several ranks: gradients are ready twice"
        yield loaded.error(message, key=f"{_KWARGS}.use_reentrant", hint="remove it")
    if loaded.recipe.model.model_init_kwargs.get("use_kernels") is True and not on_gpu:
        yield loaded.error("the Hub's kernels are for GPUs", key=_KERNELS, hint="remove it")


def warnings(loaded: LoadedRecipe, cluster: Cluster) -> Iterator[str]:
    """Settings that train, but perhaps not as meant."""
    recipe, on_gpu = loaded.recipe, cluster.gpu is not None
    if recipe.training.optim in OPTIMIZERS and OPTIMIZERS[recipe.training.optim].paged and not on_gpu:
        yield f"training.optim {recipe.training.optim}: on a CPU there is nothing to page, its state stays where it is"
    if recipe.model.model_init_kwargs.get("use_kernels") is True:
        yield f"{_KERNELS} needs the package `kernels` where the run takes place, and the kernels in its hub cache"
    if (recipe.training.model_extra or {}).get("torch_compile") is True:
        yield from _compiled(loaded, on_gpu=on_gpu)


def _compiled(loaded: LoadedRecipe, *, on_gpu: bool) -> Iterator[str]:
    recipe, key = loaded.recipe, "training.torch_compile"
    extra = recipe.training.model_extra or {}
    if not on_gpu:
        yield f"{key}: on a CPU it takes minutes before the first step, and a C++ compiler"
    if not recipe.data.packing and not isinstance(extra.get("pad_to_multiple_of"), int):
        yield f"{key}: batches of other lengths are compiled anew; `pad_to_multiple_of: 128` leaves few lengths"
    if recipe.quantization is not None:
        yield f"{key}: a quantized base has not been tried with it, and may run in many small pieces"
    if extra.get("torch_compile_mode") in _GRAPHS and _adapter(loaded):
        yield f"{key}: CUDA graphs (`{extra['torch_compile_mode']}`) are known to fail with adapters (unsloth#3719)"


def _adapter(loaded: LoadedRecipe) -> bool:
    return loaded.recipe.peft is not None or loaded.recipe.model.adapter_name_or_path is not None


def _ranks(loaded: LoadedRecipe, cluster: Cluster) -> int:
    try:
        return world(loaded, cluster).size
    except RecipeError:  # said where the plan is made
        return 1
