"""What makes two runs the same training: equal identities continue one another.

In: what changes the mathematics (model, data, mixture, method, batch in rows, schedule, seed). Out: where it runs,
how the batch is split, what is recomputed, saved, measured or reported. A value the recipe leaves to the hardware
(`auto` precision) stands here as `auto`, so that a run can move. The files' contents are compared where they are
prepared: neither paths nor file times are the same on two machines.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from launcher.recipe.schema import Recipe

# Trainer keys without influence on the result, or on the hardware's side of it.
_SPLIT = {"per_device_train_batch_size", "gradient_accumulation_steps", "global_batch_size"}
_OUT_OF_TRAINING = _SPLIT | {
    "on_oom",
    "activation_checkpointing",
    "activation_checkpointing_kwargs",
    "activation_offloading",
    "dataloader_num_workers",
    "dataloader_persistent_workers",
    "dataloader_pin_memory",
    "dataloader_prefetch_factor",
    "include_num_input_tokens_seen",
    "logging_dir",
    "logging_first_step",
    "logging_nan_inf_filter",
    "logging_steps",
    "logging_strategy",
    "log_level",
    "log_level_replica",
    "log_on_each_node",
    "skip_memory_metrics",
    "torch_compile",
    "torch_compile_backend",
    "torch_compile_mode",
}
_SCHEDULE_BY_STEPS = {"num_train_epochs"}
_OUT_OF_MODEL = {"attn_implementation", "chat_template_path"}
_OUT_OF_DATA = {"datasets", "eval_datasets", "max_bad_fraction", "max_cut_fraction", "num_proc"}


def identity(
    recipe: Recipe,
    *,
    training: Mapping[str, Any],
    method: str,
    batch_size: int,
    chat_template: str | None,
    commits: Mapping[str, str],
) -> dict[str, Any]:
    """Dotted key → value of all that changes the mathematics.

    Args:
        recipe: the recipe as written; paths stand here as its text.
        training: its `training:` section with every `auto` decided.
        method: full, lora, qlora or int8.
        batch_size: rows per optimizer step over all ranks.
        chat_template: text of the template file the recipe names.
        commits: commits of the hub's repositories that a lock file says: `model`, `tokenizer`, `adapter`, `data.LABEL`.
    """
    out = _OUT_OF_TRAINING | (_SCHEDULE_BY_STEPS if training["max_steps"] > 0 else set())
    values: dict[str, Any] = {"task": recipe.task, "method": method, "training.global_batch_size": batch_size}
    values |= _flat("model", _dump(recipe.model, _OUT_OF_MODEL))
    if chat_template is not None:
        values["model.chat_template"] = hashlib.sha256(chat_template.encode()).hexdigest()
    if recipe.quantization:
        # The type of the tensors that hold the codes follows the sharding; the codes are the same.
        values |= _flat("quantization", _dump(recipe.quantization, {"bnb_4bit_quant_storage"}))
    if recipe.peft:
        values |= _flat("peft", _dump(recipe.peft))
    values |= _flat("data", _data(recipe))
    values |= _commits(recipe, commits)
    values |= _flat("training", {key: value for key, value in training.items() if key not in out})
    return dict(sorted(values.items()))


def _commits(recipe: Recipe, commits: Mapping[str, str]) -> dict[str, str]:
    keys = {"model": "model.revision", "tokenizer": "model.tokenizer_revision", "adapter": "model.adapter_revision"}
    keys |= {f"data.{source.label}": f"data.datasets.{source.label}.revision" for source in recipe.data.datasets}
    return {keys[key]: commit for key, commit in commits.items() if key in keys}


def _data(recipe: Recipe) -> dict[str, Any]:
    held_out = [source for source in recipe.data.eval_datasets if source.from_]
    return {
        **_dump(recipe.data, _OUT_OF_DATA),
        "datasets": {source.label: _dump(source, {"label"}) for source in recipe.data.datasets},
        "eval_datasets": {
            source.label: {
                "from": source.from_,
                "fraction": source.fraction,
                "max_rows": source.max_rows,
                "group_by": source.group_by,
            }
            for source in held_out
        },
        # Rows come in the order of their sources.
        "order": [source.label for source in recipe.data.datasets],
    }


def _dump(section: Any, without: set[str] | None = None) -> dict[str, Any]:
    return dict(section.model_dump(mode="json", by_alias=True, exclude=without))


def _flat(key: str, value: Any) -> dict[str, Any]:
    """Nested mappings as dotted keys; what is empty or absent is left out."""
    if isinstance(value, dict):
        return {name: leaf for part, below in value.items() for name, leaf in _flat(f"{key}.{part}", below).items()}
    return {} if value is None or value == [] else {key: value}
