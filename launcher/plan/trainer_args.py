"""The arguments of TRL's SFTConfig, from the plan's parts. The worker adds `output_dir` and the counted `max_steps`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from launcher.plan.sharding import Sharding
from launcher.plan.types import Batch, CheckpointPlan, DataPlan, EvaluationPlan

_NOT_TRLS = ("global_batch_size", "on_oom")
"""Keys of `training:` that are ours; all others are SFTConfig's."""


def trainer_args(
    training: Mapping[str, Any],
    *,
    device: Literal["cpu", "cuda"],
    precision: Literal["float32", "bfloat16", "float16"],
    batch: Batch,
    data: DataPlan,
    checkpoint: CheckpointPlan,
    evaluation: EvaluationPlan,
    sharding: Sharding,
) -> dict[str, Any]:
    """Keyword arguments of SFTConfig.

    Args:
        training: the recipe's `training:` section, without any `auto`; `global_batch_size` and `on_oom` are left out.
        device: where the model is trained.
        precision: type of the matrix products; `float32` means no autocast.
        batch: rows per device and accumulation.
        data: row length and packing.
        checkpoint: how often the run is saved.
        evaluation: rows per forward pass when the loss is measured.
        sharding: how the model is spread over the ranks.
    """
    chosen = {key: value for key, value in training.items() if key not in _NOT_TRLS}
    return {
        # A loss that is not a number must be seen, not replaced by the mean of the steps before it.
        "logging_nan_inf_filter": False,
        "dataloader_pin_memory": device == "cuda",
        **chosen,
        "per_device_train_batch_size": batch.per_device,
        "per_device_eval_batch_size": evaluation.per_device_batch_size,
        "gradient_accumulation_steps": batch.accumulation,
        "activation_checkpointing": bool(chosen.get("activation_checkpointing", False)),
        "use_cpu": device == "cpu",
        "bf16": precision == "bfloat16",
        "fp16": precision == "float16",
        "max_length": data.max_length,
        "packing": data.packing,
        # `prepare` has packed the rows; this makes TRL's collator keep the pieces of a row apart, those of `wrapped` too.
        "packing_strategy": "bfd",
        "eval_packing": False,
        "dataset_kwargs": {"skip_prepare_dataset": True},
        "save_strategy": "steps",
        "save_steps": checkpoint.save_steps,
        "save_total_limit": None,
        # Evaluation and tracking are callbacks of the worker, which keep the random state.
        "eval_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        **sharding.trainer_args(),
    }
