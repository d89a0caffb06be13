"""One optimizer step of a model, with the places that it passes: its layers forward and back, the loss, the optimizer.

A place is `forward:3` or `backward:3` (a layer), `forward:start` (before the layers), `loss`, `backward:end` (behind
them), `clip` or `step`. The peak of a step is in one of them, and each grows evenly with the number of layers.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
from accelerate.utils import convert_outputs_to_fp32
from bitsandbytes.optim import GlobalOptimManager
from bitsandbytes.optim.optimizer import Optimizer8bit
from torch import Tensor, nn
from transformers import Trainer
from trl import SFTConfig, SFTTrainer

from launcher.plan.types import Plan
from launcher.worker.trace.layers import decoder_layers
from launcher.worker.trace.live import LiveBytes

_BITS_8 = 8


def optimizer_of(plan: Plan, model: nn.Module, args: SFTConfig) -> torch.optim.Optimizer:
    """The plan's optimizer, as transformers' Trainer makes it. State that is paged to host memory is counted as if it were not."""
    kind, arguments = Trainer.get_optimizer_cls_and_kwargs(args, model)
    if arguments.get("is_paged"):
        arguments["is_paged"] = False
    if kind is torch.optim.AdamW and not arguments.get("fused"):
        arguments["foreach"] = plan.device == "cuda"  # torch's own choice there
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    with mock.patch.object(Optimizer8bit, "fill_qmap", _empty_tables):
        made: torch.optim.Optimizer = kind(trained, **arguments)
    if arguments.get("optim_bits") == _BITS_8:
        for module in model.modules():
            if isinstance(module, nn.Embedding):
                GlobalOptimManager.get_instance().register_module_override(module, "weight", {"optim_bits": 32})
    return made


def _empty_tables(made: Any) -> None:
    """The tables of 8-bit values that bitsandbytes would compute."""
    made.name2qmap |= {"dynamic": torch.empty(256), "udynamic": torch.empty(256)}


def train_once(plan: Plan, model: Any, optimizer: Any, args: SFTConfig, batch: Any, live: LiveBytes) -> None:
    """A step behind the first: the optimizer's state is there, and gradients too where several passes add up."""
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    for weight in trained:
        weight.register_post_accumulate_grad_hook(lambda each: live.name(each.grad, "gradients"))
    with live:
        _first_step(optimizer, trained, live)
        if plan.batch.accumulation == 1:
            optimizer.zero_grad(set_to_none=True)
        handles = _watch(model, live)
        live.enter_place("forward:start", "activations")
        loss = _loss(plan, model, args, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        del loss
        for handle in handles:
            handle.remove()
        live.enter_place("clip", "workspace")
        if args.max_grad_norm:
            torch.nn.utils.clip_grad_norm_(trained, args.max_grad_norm)
        live.enter_place("step", "workspace")
        optimizer.step()
        live.enter_place("over")


def _first_step(optimizer: Any, trained: list[nn.Parameter], live: LiveBytes) -> None:
    """Have the optimizer make its state."""
    live.enter_place("first step", "gradients")
    for weight in trained:
        weight.grad = torch.zeros_like(weight)
    live.term = "optimizer"
    optimizer.step()
    for state in optimizer.state.values():
        for each in state.values():
            if isinstance(each, Tensor):
                live.name(each, "optimizer")


def _watch(model: Any, live: LiveBytes) -> list[Any]:
    """Have the layers say where we are."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    layers = decoder_layers(base)

    def forward(number: int) -> Any:
        def begun(_layer: nn.Module, inputs: tuple[Any, ...]) -> None:
            live.enter_place(f"forward:{number}")
            if number == 0 and inputs and isinstance(inputs[0], Tensor) and inputs[0].requires_grad:
                inputs[0].register_hook(lambda _: live.enter_place("backward:end"))  # type: ignore[no-untyped-call]

        return begun

    def backward(number: int) -> Any:
        def done(_layer: nn.Module, _inputs: Any, made: Any) -> None:
            hidden = made if isinstance(made, Tensor) else made[0]
            if hidden.requires_grad:
                hidden.register_hook(lambda _: live.enter_place(f"backward:{number}"))

        return done

    def ended(_model: nn.Module, _inputs: Any, made: Any) -> None:
        live.enter_place("loss", "loss")
        if made.last_hidden_state.requires_grad:
            made.last_hidden_state.register_hook(lambda _: live.enter_place("backward:start", "activations"))

    handles = [base.base_model.register_forward_hook(ended)]
    for number, layer in enumerate(layers):
        handles.append(layer.register_forward_pre_hook(forward(number)))
        handles.append(layer.register_forward_hook(backward(number)))
    return handles


def _loss(plan: Plan, model: Any, args: SFTConfig, batch: Any) -> Tensor:
    """TRL's own `compute_loss`, on as much of a trainer as it reads, under accelerate's autocast."""
    one = np.float64(1)
    text = model.config.get_text_config()
    weight = (
        getattr(text, "router_aux_loss_coef", 0.0) if args.router_aux_loss_coef is None else args.router_aux_loss_coef
    )
    balanced = hasattr(text, "output_router_logits") and weight != 0.0
    if hasattr(text, "router_aux_loss_coef"):
        text.output_router_logits, text.router_aux_loss_coef = balanced, weight
    trainer: Any = SimpleNamespace(
        model=model,
        args=args,
        aux_loss_enabled=balanced,
        router_aux_loss_coef=weight,
        compute_loss_func=None,
        label_smoother=None,
        accelerator=SimpleNamespace(parallelism_config=None, num_processes=1, gather_for_metrics=lambda _: one),
        get_tp_size=lambda: 1,
        current_gradient_accumulation_steps=plan.batch.accumulation,
        _metrics={"train": {name: [] for name in ("entropy", "mean_token_accuracy", "aux_loss")}},
        _total_train_tokens=0,
        _tp_size=1,
    )

    def forward(*inputs: Any, **named: Any) -> Any:
        with _autocast(plan):
            return model(*inputs, **named)

    wrapped = convert_outputs_to_fp32(forward) if plan.trainer.get("bf16") or plan.trainer.get("fp16") else forward
    tokens = torch.tensor(batch["labels"].numel())
    made: Tensor = SFTTrainer.compute_loss(trainer, wrapped, dict(batch), num_items_in_batch=tokens)
    return made


def _autocast(plan: Plan) -> AbstractContextManager[None]:
    """What accelerate wraps a model in; FSDP2 and DeepSpeed hand it weights of the products' type instead."""
    if plan.strategy != "ddp" or not (plan.trainer.get("bf16") or plan.trainer.get("fp16")):
        return nullcontext()
    return torch.autocast("cpu", torch.bfloat16)
