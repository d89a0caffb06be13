# ruff: noqa: FBT003
"""Names that other tools use for training, sharding, checkpoints, evaluation, tracking and the run itself."""

from launcher.recipe.deprecated import INSTEAD
from launcher.recipe.dialect import AXOLOTL, FACTORY, OLD, UNSLOTH, Row

_CHECKPOINTING = {
    "true": "training: {activation_checkpointing: true}",
    "false": "training: {activation_checkpointing: false}",
    "unsloth": "training: {activation_checkpointing: true}",
}
_LAYER_KERNELS = {"true": "model: {model_init_kwargs: {use_kernels: true}}"}
_HUB_REPO = "export: {push_to_hub: {repo: VALUE}}"
_RUN_DIRECTORY = "set `name`; the run directory is RUNS/NAME, and `--runs DIR` moves RUNS"
_COMMAND = "remove it: the command line says what is done (`launcher run`, `launcher report`)"
_OVERWRITE = "remove it: `launcher run` continues a run, and a changed recipe starts NAME-2"
_SAVES = "write `checkpoint: {save_steps: 200}`; the last step is always saved"
_EVALS = "write `evaluation: {eval_steps: 200}`; without it the loss is measured before and after training"
_CREDENTIAL = "set HF_TOKEN in the environment"
_SAFETENSORS = "remove it: weights are always saved as safetensors"
_NO_CPU = "remove it, and use `--gpus none` on the command line"

ROWS: dict[str, Row] = {
    # training
    "micro_batch_size": Row(AXOLOTL, 2, "training: {per_device_train_batch_size: VALUE}"),
    "batch_size": Row("torchtune", 2, "training: {per_device_train_batch_size: VALUE}"),
    "train_batch_size": Row("scripts", 2, "training: {per_device_train_batch_size: VALUE}"),
    "per_gpu_train_batch_size": Row(OLD, 2, "training: {per_device_train_batch_size: VALUE}"),
    "effective_batch_size": Row("scripts", 16, "training: {global_batch_size: VALUE}"),
    "total_batch_size": Row("scripts", 16, "training: {global_batch_size: VALUE}"),
    "grad_accum_steps": Row("scripts", 8, "training: {gradient_accumulation_steps: VALUE}"),
    "accumulate_grad_batches": Row("Lightning", 8, "training: {gradient_accumulation_steps: VALUE}"),
    "eval_batch_size": Row(AXOLOTL, 2, "evaluation: {per_device_eval_batch_size: VALUE}"),
    "per_gpu_eval_batch_size": Row(OLD, 2, "evaluation: {per_device_eval_batch_size: VALUE}"),
    "num_epochs": Row(AXOLOTL, 3, "training: {num_train_epochs: VALUE}"),
    "epochs": Row("torchtune", 3, "training: {num_train_epochs: VALUE}"),
    "n_epochs": Row("scripts", 3, "training: {num_train_epochs: VALUE}"),
    "max_epochs": Row("Lightning", 3, "training: {num_train_epochs: VALUE}"),
    "lr": Row("torchtune", 1e-4, "training: {learning_rate: VALUE}"),
    "lr_scheduler": Row(AXOLOTL, "cosine", "training: {lr_scheduler_type: VALUE}"),
    "scheduler": Row("scripts", "cosine", "training: {lr_scheduler_type: VALUE}"),
    "cosine_min_lr_ratio": Row(
        AXOLOTL, 0.1, "training: {lr_scheduler_type: cosine_with_min_lr, lr_scheduler_kwargs: {min_lr_rate: VALUE}}"
    ),
    "warmup_ratio": Row(f"{OLD}, {AXOLOTL}, {FACTORY}", 0.03, "training: {warmup_steps: VALUE}"),
    "num_warmup_steps": Row("scripts", 100, "training: {warmup_steps: VALUE}"),
    "optimizer": Row(AXOLOTL, "adamw_torch_fused", "training: {optim: VALUE}"),
    "adafactor": Row(OLD, True, {"true": "training: {optim: adafactor}"}),
    "clip_grad": Row("scripts", 1.0, "training: {max_grad_norm: VALUE}"),
    "gradient_clip_val": Row("Lightning", 1.0, "training: {max_grad_norm: VALUE}"),
    "gradient_clipping": Row("DeepSpeed", 1.0, "training: {max_grad_norm: VALUE}"),
    "gradient_checkpointing": Row(OLD, True, _CHECKPOINTING),
    "use_gradient_checkpointing": Row(UNSLOTH, "unsloth", _CHECKPOINTING),
    "disable_gradient_checkpointing": Row(
        FACTORY,
        True,
        {
            "true": "training: {activation_checkpointing: false}",
            "false": "training: {activation_checkpointing: true}",
        },
    ),
    "gradient_checkpointing_kwargs": Row(
        OLD, {"use_reentrant": False}, "training: {activation_checkpointing_kwargs: VALUE}"
    ),
    "neftune_noise": Row("scripts", 5, "training: {neftune_noise_alpha: VALUE}"),
    "noisy_embedding_alpha": Row("older axolotl", 5, "training: {neftune_noise_alpha: VALUE}"),
    "enable_liger_kernel": Row(FACTORY, True, _LAYER_KERNELS),
    "use_liger": Row("older TRL", True, _LAYER_KERNELS),
    "use_liger_kernel": Row(f"{OLD}, {AXOLOTL}", True, _LAYER_KERNELS),
    "random_state": Row(UNSLOTH, 3407, "training: {seed: VALUE}"),
    "group_by_length": Row(
        f"{OLD}, {AXOLOTL}", False, note="write `data: {packing: true}`: packed rows have no padding"
    ),
    "include_tokens_per_second": Row(OLD, True, note="remove it: tokens per second are always recorded"),
    "half_precision_backend": Row(OLD, "auto", note="remove it: the plan chooses the precision from the hardware"),
    "label_smoothing": Row("scripts", 0.1, note=INSTEAD["label_smoothing_factor"]),
    "no_cuda": Row(OLD, True, note=_NO_CPU),
    "use_mps_device": Row(OLD, True, note=_NO_CPU),
    # sharding and launch
    "fsdp_config": Row(
        "transformers", {}, note="write `sharding: {strategy: fsdp2}`, or name your own file in `sharding.preset`"
    ),
    "fsdp": Row(
        "transformers",
        ["full_shard"],
        {"true": "sharding: {strategy: fsdp2}", "*": "sharding: {strategy: fsdp2}"},
    ),
    "fsdp_version": Row(AXOLOTL, 2, {"2": "sharding: {strategy: fsdp2}"}),
    "deepspeed": Row("transformers", "zero3.json", "sharding: {preset: VALUE}"),
    "deepspeed_config": Row("accelerate", "zero3.json", "sharding: {preset: VALUE}"),
    "zero_stage": Row(
        "accelerate",
        3,
        {
            "1": "sharding: {strategy: zero1}",
            "2": "sharding: {strategy: zero2}",
            "3": "sharding: {strategy: zero3}",
        },
    ),
    "num_processes": Row("accelerate", 8, "launch: {gpus: VALUE}"),
    "num_gpus": Row("scripts", 8, "launch: {gpus: VALUE}"),
    "num_machines": Row("accelerate", 2, "launch: {nodes: VALUE}"),
    "nproc_per_node": Row("torchrun", 8, "launch: {gpus_per_node: VALUE}"),
    "nnodes": Row("torchrun", 2, "launch: {nodes: VALUE}"),
    "time": Row("SLURM", "12:00:00", "launch: {time_limit: VALUE}"),
    "walltime": Row("PBS", "12:00:00", "launch: {time_limit: VALUE}"),
    # checkpoints and evaluation
    "saves_per_epoch": Row(AXOLOTL, 1, note=_SAVES),
    "save_strategy": Row("transformers", "epoch", note=_SAVES),
    "save_every": Row("scripts", 200, "checkpoint: {save_steps: VALUE}"),
    "save_safetensors": Row(f"{OLD}, {AXOLOTL}", True, note=_SAFETENSORS),
    "keep_last_n": Row("scripts", 3, "checkpoint: {save_total_limit: VALUE}"),
    "metric_for_best_model": Row("transformers", "eval_held_out_loss", "checkpoint: {keep_best: VALUE}"),
    "load_best_model_at_end": Row("transformers", True, note="write `checkpoint: {keep_best: eval_LABEL_loss}`"),
    "early_stopping_patience": Row(
        AXOLOTL, 3, note="write `evaluation: {early_stopping: {metric: eval_LABEL_loss, patience: 3}}`"
    ),
    "evaluation_strategy": Row(OLD, "steps", note=_EVALS),
    "eval_strategy": Row("transformers", "steps", note=_EVALS),
    "do_eval": Row(f"transformers, {FACTORY}", True, note=_EVALS),
    "evals_per_epoch": Row(AXOLOTL, 4, note=_EVALS),
    "eval_every": Row("scripts", 200, note=_EVALS),
    "predict_with_generate": Row(FACTORY, True, note="name sets to answer in `evaluation.generate`"),
    "do_bench_eval": Row(AXOLOTL, True, note="name tasks in `evaluation.harness`"),
    # tracking, export, the run itself
    "wandb_project": Row(AXOLOTL, "support", "tracking: {report_to: [wandb], project: VALUE}"),
    "wandb_entity": Row(AXOLOTL, "lab", "tracking: {report_to: [wandb], entity: VALUE}"),
    "wandb_name": Row(AXOLOTL, "run", note="write `name` at the top: it names the run everywhere"),
    "wandb_run_name": Row("scripts", "run", note="write `name` at the top: it names the run everywhere"),
    "run_name": Row("transformers", "my-run", "name: VALUE"),
    "wandb_mode": Row(AXOLOTL, "offline", note="set WANDB_MODE in the environment"),
    "wandb_watch": Row(AXOLOTL, "false", note="remove it: losses and the gradient norm are always recorded"),
    "wandb_log_model": Row(AXOLOTL, "false", note="remove it: the model stays in the run directory"),
    "use_wandb": Row("scripts", True, {"true": "tracking: {report_to: [wandb]}"}),
    "use_tensorboard": Row(AXOLOTL, True, {"true": "tracking: {report_to: [tensorboard]}"}),
    "mlflow_experiment_name": Row(AXOLOTL, "support", "tracking: {report_to: [mlflow], project: VALUE}"),
    "logging_dir": Row(OLD, "logs", note=_RUN_DIRECTORY),
    "plot_loss": Row(FACTORY, True, note="remove it: report.html has the curves"),
    "output_dir": Row("transformers", "out", note=_RUN_DIRECTORY),
    "save_dir": Row("scripts", "out", note=_RUN_DIRECTORY),
    "overwrite_output_dir": Row(OLD, True, note=_OVERWRITE),
    "resume_from_checkpoint": Row("transformers", True, note=_OVERWRITE),
    "auto_resume_from_checkpoints": Row(AXOLOTL, True, note=_OVERWRITE),
    "stage": Row(FACTORY, "sft", {"sft": "task: sft"}),
    "do_train": Row(f"transformers, {FACTORY}", True, note=_COMMAND),
    "do_predict": Row("transformers", True, note="name sets to answer in `evaluation.generate`"),
    "merge_lora": Row(AXOLOTL, True, "export: {merge: VALUE}"),
    "merge_and_unload": Row("peft", True, "export: {merge: VALUE}"),
    "export_dir": Row(FACTORY, "out", note="write `export: {merge: true}`; the result is RUN/model"),
    "hub_model_id": Row("transformers", "organisation/name", _HUB_REPO),
    "push_to_hub_model_id": Row(OLD, "organisation/name", _HUB_REPO),
    "export_hub_model_id": Row(FACTORY, "organisation/name", _HUB_REPO),
    "hub_private_repo": Row("transformers", True, note="write `private: true` in `export.push_to_hub`"),
    "hub_token": Row("transformers", "x", note=_CREDENTIAL),
    "push_to_hub_token": Row(OLD, "x", note=_CREDENTIAL),
}
