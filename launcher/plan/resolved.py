"""The recipe with every `auto` replaced by what the plan chose."""

from __future__ import annotations

from typing import Any

from launcher.plan.choices import Choices
from launcher.plan.parts import quant_storage
from launcher.plan.pins import Pins
from launcher.plan.types import Batch, ExportPlan
from launcher.recipe.schema import Recipe
from launcher.recipe.training import Training


def resolved_training(training: Training, choices: Choices, sizes: Batch) -> dict[str, Any]:
    """The `training:` section without any `auto`, the keys of SFTConfig that are not ours included."""
    farther = {"every_n_layers": choices.every_n_layers}
    return training.model_dump(mode="json") | {
        "global_batch_size": sizes.global_size,
        "per_device_train_batch_size": sizes.per_device,
        "gradient_accumulation_steps": sizes.accumulation,
        "learning_rate": choices.learning_rate.value,
        "optim": choices.optim.value,
        "activation_checkpointing": choices.checkpointing.value,
        **({"activation_checkpointing_kwargs": farther} if choices.every_n_layers else {}),
    }


def resolved_recipe(
    recipe: Recipe, choices: Choices, training: dict[str, Any], export: ExportPlan, pins: Pins
) -> dict[str, Any]:
    """The whole recipe as plain values, in the order of the language; `extends` is merged already and left out."""
    values = recipe.model_dump(mode="json", by_alias=True, exclude={"extends"})
    values["training"] = training
    values["model"] |= {"dtype": choices.dtype.value, "attn_implementation": choices.attention.value}
    _pin(values, pins)
    values["export"]["merge_base"] = export.base
    if export.base is None:  # no adapter
        del values["export"]["merge_base"]
    values["sharding"] |= {"strategy": choices.strategy.value, "offload": choices.offload.value}
    values["data"] |= {
        "loss_on": choices.loss_on.value,
        "eval_datasets": [
            _held_out(source) if source["from"] else source for source in values["data"]["eval_datasets"]
        ],
    }
    quantization = values.get("quantization")
    if quantization and quantization["bnb_4bit_compute_dtype"] == "auto":
        quantization["bnb_4bit_compute_dtype"] = choices.precision.value
    if quantization and quantization["bnb_4bit_quant_storage"] == "auto":
        quantization["bnb_4bit_quant_storage"] = quant_storage(choices)
    return values


def _pin(values: dict[str, Any], pins: Pins) -> None:
    """The commits of the lock file in place of branches and tags."""
    if "model" in pins:
        values["model"]["revision"] = pins["model"].commit
    for source in (*values["data"]["datasets"], *values["data"]["eval_datasets"]):
        if pin := pins.get(f"data.{source['label']}"):
            source["revision"] = pin.commit


def _held_out(source: dict[str, Any]) -> dict[str, Any]:
    """Held-out rows are read with their training source: the other keys of a source have no meaning there."""
    return {key: source[key] for key in ("label", "from", "fraction", "max_rows")}
