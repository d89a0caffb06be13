"""What the recipe leaves open (`auto`), decided one by one. A decision without a reason is the recipe's own word."""

from __future__ import annotations

from dataclasses import dataclass

from launcher.catalog.lacking import lacks
from launcher.cluster.schema import Cluster
from launcher.plan.facts import Facts
from launcher.plan.options import Picked
from launcher.plan.presets import Preset
from launcher.plan.types import Decision, Method
from launcher.plan.world import World
from launcher.recipe.formats import FORMATS
from launcher.recipe.schema import Recipe

_LEARNING_RATES = {"full": 2e-5, "lora": 2e-4, "qlora": 2e-4, "int8": 2e-4}
_AS_WRITTEN = ""


@dataclass(frozen=True)
class Choices:
    """One decision for each open key, in the order a person would ask for them."""

    device: Decision
    strategy: Decision
    offload: Decision
    dtype: Decision
    """Type of the weights in memory."""
    precision: Decision
    """Type of the matrix products; float32 means no autocast."""
    attention: Decision
    checkpointing: Decision
    every_n_layers: int | None
    """Where checkpoints are farther apart than every layer."""
    optim: Decision
    learning_rate: Decision
    loss_on: Decision
    template: Decision
    """Where answers are marked by another text than the tokenizer's chat template."""

    def decided(self) -> tuple[Decision, ...]:
        """Those that the recipe did not say."""
        every = (getattr(self, name) for name in self.__dataclass_fields__)
        return tuple(each for each in every if isinstance(each, Decision) and each.reason != _AS_WRITTEN)


_TAKEN_APART = frozenset(
    {"gemma3_text", "gpt2", "granite", "llama", "mistral", "olmo2", "phi3", "qwen2", "qwen3", "smollm3"}
)
"""Model types for which `sdpa_documents` was tested to give what `sdpa` gives."""


def choose(
    recipe: Recipe,
    cluster: Cluster,
    world: World,
    method: Method,
    formats: tuple[str | None, ...],
    facts: Facts,
    picked: Picked,
) -> Choices:
    """Decide all that is `auto`.

    Args:
        recipe: what was asked.
        cluster: the hardware.
        world: ranks.
        method: full, lora, qlora or int8.
        formats: format of each training source; None where only `prepare` will see it.
        facts: the model, its chat template, and the sharding preset.
        picked: what was chosen by prediction; it stands above the rules below.
    """
    on_gpu, model, preset = cluster.gpus_per_node > 0, facts.model, facts.preset
    dtype, strategy = _dtype(recipe, cluster, method), picked.strategy or _strategy(recipe, world, preset)
    return Choices(
        device=_device(cluster),
        strategy=strategy,
        offload=picked.offload or _offload(recipe, preset),
        dtype=dtype,
        precision=_precision(recipe, cluster, dtype),
        attention=_attention(recipe, model.architecture, on_gpu=on_gpu),
        checkpointing=picked.checkpointing or _checkpointing(recipe, model.architecture, on_gpu=on_gpu),
        every_n_layers=picked.every_n_layers,
        optim=picked.optim or _optim(recipe),
        learning_rate=_learning_rate(recipe, method),
        loss_on=_loss_on(recipe, formats),
        template=_template(recipe, formats, facts.training_copy),
    )


def fast_type(cluster: Cluster) -> str:
    """The 16-bit type of the GPUs' matrix units; float32 without GPUs."""
    if cluster.gpu is None:
        return "float32"
    return "bfloat16" if cluster.gpu.bf16 else "float16"


def _device(cluster: Cluster) -> Decision:
    if cluster.gpu is None:
        return Decision("device", "cpu", f"`{cluster.name}` has no GPU to use")
    return Decision("device", "cuda", f"{cluster.gpus_per_node} × {cluster.gpu.name} on `{cluster.name}`")


def _strategy(recipe: Recipe, world: World, preset: Preset) -> Decision:
    if recipe.sharding.strategy != "auto":
        return Decision("sharding.strategy", recipe.sharding.strategy, _AS_WRITTEN)
    if recipe.sharding.preset is not None:
        return Decision("sharding.strategy", preset.strategy, f"named by `{recipe.sharding.preset}`")
    if world.size == 1:
        return Decision("sharding.strategy", "ddp", "one process: nothing is shared out")
    return Decision("sharding.strategy", "ddp", f"each of the {world.size} ranks holds the whole model")


def _offload(recipe: Recipe, preset: Preset) -> Decision:
    key, written = "sharding.offload", recipe.sharding.offload
    if written not in ("auto", "none") or preset.offload == "none":
        return Decision(key, "none" if written == "auto" else written, _AS_WRITTEN)
    return Decision(key, preset.offload, f"named by `{recipe.sharding.preset}`")


def _dtype(recipe: Recipe, cluster: Cluster, method: Method) -> Decision:
    key, written = "model.dtype", recipe.model.dtype
    if written != "auto":
        return Decision(key, written, _AS_WRITTEN)
    if cluster.gpu is None:
        return Decision(key, "float32", "CPU: 16-bit arithmetic is slower there, not faster")
    if method == "full":
        return Decision(key, "float32", f"all weights are trained: kept in float32, multiplied in {fast_type(cluster)}")
    return Decision(
        key, fast_type(cluster), f"the base is frozen, and {cluster.gpu.name} multiplies {fast_type(cluster)}"
    )


def _precision(recipe: Recipe, cluster: Cluster, dtype: Decision) -> Decision:
    """Follows the weights; only full fine-tuning with `dtype: auto` multiplies in another type than it stores."""
    value = fast_type(cluster) if recipe.model.dtype == "auto" else dtype.value
    return Decision("training.precision", value, _AS_WRITTEN)


def _attention(recipe: Recipe, architecture: str | None, *, on_gpu: bool) -> Decision:
    key, written = "model.attn_implementation", recipe.model.attn_implementation
    if written != "auto":
        return Decision(key, written, _AS_WRITTEN)
    reason = "part of torch, on every device"
    if lacks(architecture, "sdpa"):
        return Decision(key, "eager", f"transformers has no other for `{architecture}` that needs no further package")
    if not recipe.data.packing:
        return Decision(key, "sdpa", reason)
    if not on_gpu and architecture in _TAKEN_APART and not recipe.training.model_dump().get("torch_compile"):
        return Decision(
            key, "sdpa_documents", "no flash kernel on a CPU: each example of a packed row is computed apart"
        )
    if not on_gpu:
        return Decision(key, "sdpa", f"{reason}, and keeps packed examples apart")
    return Decision(
        key,
        "sdpa",
        "keeps packed examples apart by a mask; flash kernels and `sdpa_varlen` need none, not measured yet",
    )


def _checkpointing(recipe: Recipe, architecture: str | None, *, on_gpu: bool) -> Decision:
    key, written = "training.activation_checkpointing", recipe.training.activation_checkpointing
    if written != "auto":
        return Decision(key, written, _AS_WRITTEN)
    if lacks(architecture, "activation_checkpointing"):
        return Decision(key, value=False, reason=f"models of type `{architecture}` cannot recompute activations")
    if (recipe.training.model_extra or {}).get("activation_checkpointing_kwargs"):
        return Decision(key, value=True, reason="the recipe says how, in `activation_checkpointing_kwargs`")
    if on_gpu:
        return Decision(key, value=True, reason="memory is not predicted: a third more compute is the safer price")
    return Decision(key, value=False, reason="CPU: host memory is larger than time is cheap")


def _optim(recipe: Recipe) -> Decision:
    """AdamW; other optimizers are chosen by prediction alone."""
    key, written, fused = "training.optim", recipe.training.optim, "adamw_torch_fused"
    if written != "auto":
        return Decision(key, written, _AS_WRITTEN)
    small = "; of an adapter its state is small, in 8 bits little would be saved" if recipe.peft else ""
    return Decision(key, fused, f"AdamW in one kernel per step; needs no further package{small}")


def _learning_rate(recipe: Recipe, method: Method) -> Decision:
    key, written = "training.learning_rate", recipe.training.learning_rate
    if written != "auto":
        return Decision(key, written, _AS_WRITTEN)
    reason = "all weights move: TRL's own default" if method == "full" else "an adapter starts at zero and needs more"
    return Decision(key, _LEARNING_RATES[method], reason)


def _loss_on(recipe: Recipe, formats: tuple[str | None, ...]) -> Decision:
    key, written = "data.loss_on", recipe.data.loss_on
    if written != "auto":
        return Decision(key, written, _AS_WRITTEN)
    known = {each.name: each.default_loss_on for each in FORMATS.values() if each.name in formats}
    found = set(known.values())
    if None in formats or len(found) != 1:
        return Decision(key, "auto", "each source by its format: assistant turns, the completion, or all of a text")
    return Decision(key, found.pop(), f"the rows are `{'`, `'.join(known)}`")


def _template(recipe: Recipe, formats: tuple[str | None, ...], training_copy: str | None) -> Decision:
    key, talk = "data.chat_template", not {None, "messages", "sharegpt", "alpaca"}.isdisjoint(formats)
    if training_copy is None or not talk or recipe.data.loss_on in ("all", "completion"):
        return Decision(key, None, _AS_WRITTEN)
    reason = (
        "it marks the answers; its text differs in places from what the model sees in use (`launcher inspect` shows it)"
    )
    return Decision(key, f"TRL's training copy of {training_copy}", reason)
