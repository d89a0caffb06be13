"""One training, timed: a real `SFTTrainer` on a model with random weights, and its figures."""

from __future__ import annotations

import dataclasses
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer
from trl.models import enable_selective_activation_checkpointing

from benchmarks.gpu import attention, batches, machine, models
from benchmarks.gpu.arithmetic import datasheet_flops, expected_memory_gib, flops_per_token
from benchmarks.gpu.record import Skipped
from benchmarks.gpu.setup import Scale, Setup

TOKENIZER = Path(__file__).resolve().parents[2] / "recipes" / "demo" / "tokenizer"


def measure(setup: Setup, scale: Scale, matmul_flops: float | None = None) -> dict[str, Any]:
    """Train warm-up and timed steps; speed, memory against expectation, first and last loss.

    Args:
        setup: what to train; made tiny in the smoke mode.
        scale: device and number of steps.
        matmul_flops: this card's measured rate of large bf16 products, if it was measured in this run.

    Raises:
        Skipped: the kernel or package it needs is not here.
        torch.OutOfMemoryError: it does not fit.
    """
    setup = scale.fit(setup)
    attention.require(setup.attention, scale.device)
    if setup.liger:
        _require_liger(scale)
    machine.release()
    steps = scale.warm_up + scale.timed
    trainer, counted = make_trainer(setup, scale, steps)
    clock = _Clock(scale)
    losses = (_bare if setup.loop == "bare" else _trained)(trainer, clock, steps)
    return {
        **_speed(setup, scale, clock.seconds(), counted.batches[scale.warm_up : steps], matmul_flops),
        **_memory(setup, scale),
        "trainable_parameters": sum(each.numel() for each in trainer.model.parameters() if each.requires_grad),
        "loss_first": losses[0],
        "loss_last": losses[-1],
    }


def make_trainer(setup: Setup, scale: Scale, steps: int) -> tuple[SFTTrainer, batches.Counting]:
    """TRL's trainer of the setup, and the collator that counts for it."""
    names = {each.name for each in dataclasses.fields(SFTConfig)}
    # transformers below 5.23 know it by its old name.
    recompute = "activation_checkpointing" if "activation_checkpointing" in names else "gradient_checkpointing"
    arguments: dict[str, Any] = {recompute: setup.checkpointing}
    if setup.checkpointing_kwargs:
        arguments[f"{recompute}_kwargs"] = dict(setup.checkpointing_kwargs)
    if setup.torch_compile:
        arguments |= {"torch_compile": True} | ({"torch_compile_backend": "eager"} if scale.smoke else {})
    args = SFTConfig(
        output_dir=tempfile.mkdtemp(prefix="gpu-"), max_steps=steps, per_device_train_batch_size=setup.rows,
        max_length=setup.max_length, packing=setup.packing, dataset_kwargs={"skip_prepare_dataset": True},
        optim=setup.optim, learning_rate=1e-4, warmup_steps=0, logging_steps=1 if scale.smoke else 10,
        bf16=not scale.smoke, use_cpu=scale.smoke, report_to="none", save_strategy="no", disable_tqdm=True,
        seed=0, **arguments,
    )  # fmt: skip
    model = models.build(setup, scale.device)
    if setup.method != "full" and dict(setup.checkpointing_kwargs).get("selective"):
        # TRL 1.16 wraps the adapter's `gradient_checkpointing_enable`; transformers 5.23 calls the base's new name.
        enable_selective_activation_checkpointing(model)
    trainer = SFTTrainer(
        model=model,
        args=args,
        train_dataset=batches.dataset(setup, steps),
        processing_class=AutoTokenizer.from_pretrained(TOKENIZER),
        peft_config=models.lora_config(setup),
    )
    trainer.data_collator = counted = batches.Counting(trainer.data_collator)
    return trainer, counted


class _Clock(TrainerCallback):
    """A mark at the end of each step: a CUDA event, which costs the step nothing, or the processor's clock."""

    def __init__(self, scale: Scale) -> None:
        self._scale = scale
        self._marks: list[Any] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        if self._scale.smoke:
            self._marks.append(time.perf_counter())
            return
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        self._marks.append(event)

    def seconds(self) -> list[float]:
        """From the end of one step to the end of the next, the fetching of its batch included; warm-up left out."""
        marks = self._marks[self._scale.warm_up - 1 :]
        if self._scale.smoke:
            return [after - before for before, after in pairwise(marks)]
        torch.cuda.synchronize()
        return [before.elapsed_time(after) / 1e3 for before, after in pairwise(marks)]


def _trained(trainer: SFTTrainer, clock: _Clock, _: int) -> list[float]:
    trainer.add_callback(clock)
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def _bare(trainer: SFTTrainer, clock: _Clock, steps: int) -> list[float]:
    """TRL's batches and loss without the Trainer's loop: what is left is the model's own time."""
    model, device = trainer.model.train().to(trainer.args.device), trainer.args.device
    if trainer.args.gradient_checkpointing:
        model.gradient_checkpointing_enable(dict(trainer.args.gradient_checkpointing_kwargs or {}) or None)
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=1e-4, fused=True)
    losses = []
    for number, batch in enumerate(trainer.get_train_dataloader()):
        moved = {key: value.to(device) if hasattr(value, "to") else value for key, value in batch.items()}
        with torch.autocast(device.type, torch.bfloat16, enabled=trainer.args.bf16):
            loss = trainer.compute_loss(model, moved)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        clock.on_step_end()
        if number in (0, steps - 1):
            losses.append(loss.item())
        if number == steps - 1:
            break
    return losses


def _speed(
    setup: Setup, scale: Scale, seconds: list[float], held: list[tuple[int, int, int, int]], matmul_flops: float | None
) -> dict[str, Any]:
    real, computed = sum(each[0] for each in held), sum(each[1] for each in held)
    tokens, squares = sum(each[2] for each in held), sum(each[3] for each in held)
    flops = flops_per_token(setup, squares / tokens)
    counts = {
        "timed_steps": len(seconds),
        "real_tokens": real,
        "computed_tokens": computed,
        "computed_without_label": round(1 - real / computed, 4),
        "model_flops_per_token": round(flops),
    }
    names = ("step_s", "real_tokens_per_s", "computed_tokens_per_s", "mfu_datasheet", "mfu_matmul")
    if scale.smoke:
        return {**counts, **dict.fromkeys(names)}
    rate = statistics.median(each[0] / time for each, time in zip(held, seconds, strict=True))
    datasheet = datasheet_flops(torch.cuda.get_device_name())
    figures = (
        statistics.median(seconds),
        rate,
        statistics.median(each[1] / time for each, time in zip(held, seconds, strict=True)),
        rate * flops / datasheet if datasheet else None,
        rate * flops / matmul_flops if matmul_flops else None,
    )
    return {**counts, **dict(zip(names, figures, strict=True))}


def _memory(setup: Setup, scale: Scale) -> dict[str, Any]:
    expected, seen = expected_memory_gib(setup, smoke=scale.smoke), machine.peaks()
    if scale.smoke:
        seen = dict.fromkeys(seen)
    peak = seen["peak_allocated_gib"]
    ratio = None if peak is None else round(peak / expected["total"], 3)
    return {**seen, "expected_gib": expected, "peak_to_expected": ratio}


def _require_liger(scale: Scale) -> None:
    from importlib.util import find_spec

    if scale.smoke:
        raise Skipped("Liger's kernels are Triton's, which needs a GPU")
    if find_spec("liger_kernel") is None:
        raise Skipped("the package liger-kernel is not installed")
