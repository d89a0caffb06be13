"""What a real training step takes on a CPU, by torch's allocator: the independent side of the trace's tests."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from torch.profiler import ProfilerActivity, profile
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig, TrainerCallback
from trl import SFTConfig, SFTTrainer

from launcher.plan.types import Plan


class _Second(TrainerCallback):
    """Records the allocator in the second step: the optimizer has its state by then."""

    def __init__(self) -> None:
        self.trainer: Any = None
        self.before = self.peak = 0

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 1:
            gc.collect()
            self.before = held(self.trainer)
            self._recorded = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
            self._recorded.__enter__()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 2:
            self._recorded.__exit__(None, None, None)
            now = most = 0
            for event in self._recorded.profiler.kineto_results.events():
                if event.name() == "[memory]":
                    now += event.nbytes()
                    most = max(most, now)
            self.peak = self.before + most


class _Padded:
    """TRL's collator, for rows that differ in length: a batch of full ones would go without a mask."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __call__(self, examples: Any) -> Any:
        batch = self._inner(examples)
        batch["attention_mask"][0, -1] = 0
        return batch


def held(trainer: Any) -> int:
    """Bytes of weights, quantization constants and optimizer state, each storage once."""
    tensors = [*trainer.model.parameters(), *trainer.model.buffers()]
    for module in trainer.model.modules():
        state = getattr(module, "state", None) or getattr(getattr(module, "weight", None), "quant_state", None)
        tensors += [each for each in vars(state).values() if isinstance(each, torch.Tensor)] if state else []
        nested = getattr(state, "state2", None)
        tensors += [each for each in vars(nested).values() if isinstance(each, torch.Tensor)] if nested else []
    for state in trainer.optimizer.state.values():
        tensors += [each for each in state.values() if isinstance(each, torch.Tensor)]
    return sum({each.untyped_storage()._cdata: each.untyped_storage().nbytes() for each in tensors}.values())


def measured(plan: Plan, config: dict[str, Any], folder: Path) -> int:
    """The most that torch's CPU allocator has given out in a second step of TRL's trainer, on random rows of full length."""
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(**config),
        dtype=getattr(torch, plan.model.dtype),
        attn_implementation=plan.model.attn_implementation,
    )
    if plan.quantization:
        model.save_pretrained(folder / "base")
        model = AutoModelForCausalLM.from_pretrained(
            folder / "base",
            dtype=getattr(torch, plan.model.dtype),
            attn_implementation=plan.model.attn_implementation,
            quantization_config=BitsAndBytesConfig(**plan.quantization),
        )
    rows, length = plan.batch.per_device, plan.data.max_length
    ids = torch.randint(1, config["vocab_size"], (rows * 4 * plan.batch.accumulation, length)).tolist()
    columns: dict[str, Any] = {"input_ids": ids, "labels": ids}
    if plan.data.packing:
        columns["seq_lengths"] = [[length]] * len(ids)
    second = _Second()
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(output_dir=str(folder / "out"), **{**plan.trainer, "max_steps": 2, "save_strategy": "no"}),
        train_dataset=Dataset.from_dict(columns),
        processing_class=_tokenizer(),
        peft_config=LoraConfig(**plan.peft) if plan.peft else None,
        callbacks=[second],
    )
    second.trainer = trainer
    if rows > 1 and not plan.data.packing:
        trainer.data_collator = _Padded(trainer.data_collator)
    trainer.train()
    return second.peak


def _tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained("recipes/demo/tokenizer")
