"""What the forked processes of `test_settings.py` run: the same settings with TRL alone, and runs that stand no deprecation."""

from __future__ import annotations

import os
import warnings
from typing import Any


def plain(model: str, rows: str, settings: list[dict[str, Any]], max_steps: int = -1) -> list[list[float]]:
    """Losses of a plain SFTTrainer, for each of `settings` (further arguments of SFTConfig)."""
    from datasets import load_from_disk
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    losses = []
    for more in settings:
        args = SFTConfig(
            **{
                "output_dir": f"{model}/out", "per_device_train_batch_size": 4, "num_train_epochs": 1,
                "max_steps": max_steps, "learning_rate": 1e-3, "optim": "adamw_torch", "seed": 42, "logging_steps": 1,
                "max_length": 64, "activation_checkpointing": False, "bf16": False, "use_cpu": True,
                "dataset_kwargs": {"skip_prepare_dataset": True}, "model_init_kwargs": {"dtype": "float32"},
                "save_strategy": "no", "report_to": "none", "disable_tqdm": True, **more,
            }
        )  # fmt: skip
        tokenizer = AutoTokenizer.from_pretrained(model)
        trainer = SFTTrainer(model, args, train_dataset=load_from_disk(rows), processing_class=tokenizer)
        trainer.train()
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    return losses


def rank_without_deprecations(run_dir: str) -> None:
    """A training rank in which a use of anything deprecated is an error, but for what peft itself still calls."""
    from launcher.worker import main

    warnings.simplefilter("error", FutureWarning)
    warnings.simplefilter("error", DeprecationWarning)
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
    warnings.filterwarnings("default", category=DeprecationWarning, module=r"(?!trl|transformers|peft|accelerate)")
    raise SystemExit(main.main(run_dir, os.getppid()))


def state_bytes(names: list[str]) -> dict[str, float]:
    """Bytes of state that each optimizer keeps for one element of a matrix, as transformers builds it."""
    import torch
    from transformers.trainer_optimizer import _OPTIMIZER_HANDLERS, OptimizerContext
    from transformers.training_args import TrainingArguments

    measured = {}
    for name in names:
        args = TrainingArguments(optim=name, use_cpu=True)
        adam = {"betas": (0.9, 0.999), "eps": 1e-8}
        kind, kwargs = _OPTIMIZER_HANDLERS[name](OptimizerContext(args, None, {"lr": 1e-3}, adam, {}))
        weight = torch.nn.Parameter(torch.zeros(1024, 1024))
        weight.grad = torch.ones_like(weight)
        optimizer = kind([weight], **kwargs)
        optimizer.step()
        # code books are shared, and do not grow with the weights
        kept = {key: value for key, value in optimizer.state[weight].items() if not key.startswith("qmap")}
        tensors = [value for value in kept.values() if isinstance(value, torch.Tensor)]
        measured[name] = sum(each.numel() * each.element_size() for each in tensors) / weight.numel()
    return measured


def compiled(model: str) -> dict[str, list[float]]:
    """Losses of three steps, compiled by torch and not."""
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    from tests.support import tiny

    tokenizer = AutoTokenizer.from_pretrained(model)
    rows = [{"input_ids": tokenizer(f"{row['question']} {row['answer']}")["input_ids"]} for row in tiny.words(12)]
    losses = {}
    for name, more in {"eager": {}, "compiled": {"torch_compile": True}}.items():
        args = SFTConfig(
            output_dir=f"{model}/out", use_cpu=True, bf16=False, report_to="none", max_length=64, max_steps=3,
            dataset_kwargs={"skip_prepare_dataset": True}, activation_checkpointing=False, logging_steps=1,
            per_device_train_batch_size=4, learning_rate=1e-3, save_strategy="no", seed=1, disable_tqdm=True,
            pad_to_multiple_of=32, model_init_kwargs={"dtype": "float32"}, **more,
        )  # fmt: skip
        trainer = SFTTrainer(model, args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
        trainer.train()
        losses[name] = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        losses[f"{name} wrapper"] = [type(trainer.model_wrapped).__name__]
    return losses
