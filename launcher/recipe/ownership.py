"""Who decides each field of SFTConfig: one fact has one key.

`OWNED` fields are refused in `training:` with a pointer to their owner; `PASSED_ON` fields go to the trainer as they
are, within these limits; the rest are the keys of `Training` itself. A test holds the three to the installed TRL.
"""

from __future__ import annotations

from dataclasses import dataclass

from launcher.recipe.deprecated import INSTEAD

HARDWARE = "remove it: the plan decides this from the hardware and prints its choice"
RESUME = "remove it: `launcher run` continues a run from its newest complete checkpoint by itself"
PRECISION = "remove it: the plan uses bf16 autocast where the hardware has it; `model.dtype` is the type of the weights"
SHARD = "write `sharding: {strategy: fsdp2}` (or zero1, zero2, zero3), or name your own file in `sharding.preset`"
EVALUATE = "write `evaluation: {eval_steps: 200}`; without it the loss is measured before and after training"
CHECKPOINTS = "write `checkpoint: {save_steps: 200}`; the last step is always saved"
BEST = "write `checkpoint: {keep_best: eval_LABEL_loss}`; lower is better"
HUB = "write `export: {push_to_hub: {repo: organisation/name}}`"
LOSS_ON = "write `data: {loss_on: assistant}`, or completion, or all"
COLLATION = "remove it: `prepare` writes rows that the collator takes as they are"

OWNED: dict[str, dict[str, str]] = {
    "data": {
        "max_length": "write `data.max_length`",
        "truncation_mode": "remove it: rows longer than `data.max_length` are cut at the end",
        "packing": "write `data.packing`",
        "packing_strategy": "write `data.packing_strategy`",
        "eval_packing": "remove it: eval sets are not packed",
        "padding_free": "remove it: `data.packing: true` has no padding",
        "completion_only_loss": LOSS_ON,
        "assistant_only_loss": LOSS_ON,
        "dataset_text_field": "write `columns: {text: …}` in the item of `data.datasets`",
        "dataset_kwargs": "remove it: rows are prepared before the trainer sees them",
        "dataset_num_proc": "remove it: `prepare` uses the cores it finds",
        "shuffle_dataset": "remove it: rows are shuffled each epoch by `training.seed`",
        "eos_token": "remove it: the tokenizer's own is used",
        "pad_token": INSTEAD["pad_token"],
        "data_seed": "write `training.seed` for row order, `data.mixture.seed` for mixture and splits",
    },
    "model": {
        "chat_template_path": "write `model.chat_template_path`",
        "model_init_kwargs": "write `model.model_init_kwargs`",
        "trust_remote_code": "write `model.trust_remote_code`",
        "bf16": PRECISION,
        "fp16": PRECISION,
    },
    "training": {
        "gradient_checkpointing": INSTEAD["gradient_checkpointing"],
        "gradient_checkpointing_kwargs": INSTEAD["gradient_checkpointing_kwargs"],
        "label_smoothing_factor": INSTEAD["label_smoothing_factor"],
        "use_liger_kernel": INSTEAD["use_liger_kernel"],
        "liger_kernel_config": INSTEAD["use_liger_kernel"],
    },
    "checkpoint": {
        "save_steps": "write `checkpoint.save_steps`",
        "save_total_limit": "write `checkpoint.save_total_limit`",
        "save_strategy": CHECKPOINTS,
        "save_only_model": "remove it: a checkpoint can always be continued",
        "save_on_each_node": "remove it: checkpoints go to the run directory, which all nodes share",
        "load_best_model_at_end": BEST,
        "metric_for_best_model": BEST,
        "greater_is_better": BEST,
        "enable_jit_checkpoint": "remove it: a stop request saves at the next step",
        "ignore_data_skip": RESUME,
        "resume_from_checkpoint": RESUME,
        "restore_callback_states_from_checkpoint": RESUME,
    },
    "evaluation": {
        "eval_strategy": EVALUATE,
        "eval_steps": "write `evaluation.eval_steps`",
        "eval_delay": EVALUATE,
        "eval_on_start": "remove it: the loss is always measured before training",
        "per_device_eval_batch_size": "write `evaluation.per_device_eval_batch_size`",
        "eval_accumulation_steps": "remove it: the loss needs no logits to be kept",
        "eval_do_concat_batches": "remove it: the loss needs no logits to be kept",
        "eval_use_gather_object": "remove it: the loss needs no logits to be kept",
        "batch_eval_metrics": "remove it: metrics are named in `evaluation.generate`",
        "include_for_metrics": "remove it: metrics are named in `evaluation.generate`",
        "prediction_loss_only": "remove it: metrics are named in `evaluation.generate`",
        "bf16_full_eval": PRECISION,
        "fp16_full_eval": PRECISION,
        "do_train": "remove it: `launcher run` trains",
        "do_eval": EVALUATE,
        "do_predict": "name sets to answer in `evaluation.generate`",
    },
    "tracking": {
        "report_to": "write `tracking.report_to`",
        "project": "write `tracking.project`",
        "run_name": "write `name` at the top: it names the run everywhere",
        "trackio_space_id": "write `tracking: {report_to: [trackio]}`; set TRACKIO_SPACE_ID in the environment",
        "trackio_bucket_id": "write `tracking: {report_to: [trackio]}`",
        "trackio_static_space_id": "write `tracking: {report_to: [trackio]}`",
    },
    "export": {
        "push_to_hub": HUB,
        "hub_model_id": HUB,
        "hub_private_repo": "write `export: {push_to_hub: {repo: organisation/name, private: true}}`",
        "hub_token": "set HF_TOKEN in the environment",
        "hub_strategy": HUB,
        "hub_always_push": HUB,
        "hub_revision": HUB,
    },
    "plan": {
        "output_dir": "write `name`; the run directory is RUNS/NAME, and `--runs DIR` moves RUNS",
        "use_cpu": "remove it, and use `--gpus none` on the command line",
        "fsdp": SHARD,
        "fsdp_config": SHARD,
        "deepspeed": SHARD,
        "accelerator_config": HARDWARE,
        "parallelism_config": HARDWARE,
        "ddp_find_unused_parameters": HARDWARE,
        "ddp_bucket_cap_mb": HARDWARE,
        "ddp_broadcast_buffers": HARDWARE,
        "ddp_static_graph": HARDWARE,
        "ddp_backend": HARDWARE,
        "ddp_timeout": HARDWARE,
        "local_rank": "remove it: torchrun sets the rank of each process",
        "auto_find_batch_size": "write `training.per_device_train_batch_size: auto`",
        "remove_unused_columns": COLLATION,
        "label_names": COLLATION,
        "length_column_name": COLLATION,
        "train_sampling_strategy": "remove it: rows are shuffled each epoch by `training.seed`",
        "disable_tqdm": "remove it: `launcher run` draws the progress",
        "logging_strategy": "write `training.logging_steps`",
        "use_cache": "remove it: attention caches are off while training",
    },
}


@dataclass(frozen=True)
class Limits:
    """Accepted range of a number."""

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None

    def hold(self, value: float) -> bool:
        """Whether `value` lies within."""
        return (
            (self.ge is None or value >= self.ge)
            and (self.gt is None or value > self.gt)
            and (self.le is None or value <= self.le)
            and (self.lt is None or value < self.lt)
        )


SHARE = Limits(ge=0, lt=1)
ANY = Limits()

PASSED_ON: dict[str, Limits] = {
    "activation_checkpointing_kwargs": ANY,
    "activation_offloading": ANY,
    "adam_beta1": SHARE,
    "adam_beta2": SHARE,
    "adam_epsilon": Limits(gt=0, le=1),
    "average_tokens_across_devices": ANY,
    "dataloader_drop_last": ANY,
    "dataloader_in_order": ANY,
    "dataloader_multiprocessing_context": ANY,
    "dataloader_num_workers": Limits(ge=0, le=1024),
    "dataloader_persistent_workers": ANY,
    "dataloader_pin_memory": ANY,
    "dataloader_prefetch_factor": Limits(ge=1, le=10_000),
    "debug": ANY,
    "full_determinism": ANY,
    "include_num_input_tokens_seen": ANY,
    "log_level": ANY,
    "log_level_replica": ANY,
    "log_on_each_node": ANY,
    "logging_first_step": ANY,
    "logging_nan_inf_filter": ANY,
    "loss_type": ANY,
    "lr_scheduler_kwargs": ANY,
    "max_grad_norm": Limits(ge=0, le=1e6),
    "neftune_noise_alpha": Limits(gt=0, le=1000),
    "optim_args": ANY,
    "optim_target_modules": ANY,
    "pad_to_multiple_of": Limits(ge=1, le=65_536),
    "router_aux_loss_coef": Limits(ge=0, le=1000),
    "skip_memory_metrics": ANY,
    "tf32": ANY,
    "torch_compile": ANY,
    "torch_compile_backend": ANY,
    "torch_compile_mode": ANY,
    "torch_empty_cache_steps": Limits(ge=1, le=1_000_000_000),
    "weight_decay": Limits(ge=0, le=10),
}


WORDS: dict[str, tuple[str, ...]] = {
    "include_num_input_tokens_seen": ("all", "non_padding", "no"),
    "pad_to_multiple_of": ("auto",),
}
"""Words that a field accepts where SFTConfig's types do not list them."""


def owner_of(name: str) -> tuple[str, str] | None:
    """The section (or `plan`) that owns a field of SFTConfig, and what to do instead; None when `training:` does."""
    return next(((owner, names[name]) for owner, names in OWNED.items() if name in names), None)
