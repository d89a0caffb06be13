"""The model that a plan trains, with as many layers as asked for: base, quantization, adapter and checkpointing, without weights.

It is made by the same functions that a run calls (transformers, peft, TRL), on the meta device; then each weight becomes
a tensor of the trace, ties kept.
"""

from __future__ import annotations

from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import BitsAndBytesConfig
from transformers.quantizers.auto import AutoHfQuantizer
from trl.models.selective_activation_checkpointing import enable_selective_activation_checkpointing
from trl.trainer.utils import add_fused_lm_head

from launcher.plan.types import Plan
from launcher.worker.trace import layers
from launcher.worker.trace.live import LiveBytes
from launcher.worker.trace.quantized import NESTED_CODES, stand_in

_USUAL = {"r": 16, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
"""An adapter that exists and is trained on, of which the plan knows no sizes: as the formula takes it."""


def build(plan: Plan, config: Any, *, dtype: torch.dtype) -> Any:
    """The model on the meta device, ready to be trained: quantized layers, adapter, TRL's loss.

    Args:
        plan: what is trained.
        config: the model's configuration, with the attention to use.
        dtype: type of the weights that are not quantized.
    """
    model = layers.meta_model(config, dtype)
    if plan.quantization:
        quantizer = AutoHfQuantizer.from_config(BitsAndBytesConfig(**plan.quantization), pre_quantized=False)
        quantizer._process_model_before_weight_loading(model, device_map=None)  # noqa: SLF001 - chooses the layers
        quantizer._process_model_after_weight_loading(model)  # noqa: SLF001 - says so to peft
    if plan.method != "full":
        model = _adapted(plan, model)
    _checkpointed(plan, model)
    base = model.get_base_model() if plan.method != "full" else model
    add_fused_lm_head(base, outputs=("log_probs", "entropy", "is_top1"))
    return model.train()


def materialize(model: nn.Module, live: LiveBytes, *, on_gpu: bool) -> None:
    """Give each weight and buffer a tensor on the device of the moment, tied ones the same, and count them.

    To be called within the mode that makes tensors fake; outside it they are real, and then nothing may be quantized.
    """
    table = torch.empty(NESTED_CODES)
    for module in model.modules():
        stand_in(module, live, table, on_gpu=on_gpu)
    made: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, weight in list(module._parameters.items()):  # noqa: SLF001 - to keep ties
            if weight is not None:
                if id(weight) not in made:
                    made[id(weight)] = _tensor(weight)
                module._parameters[name] = made[id(weight)]  # noqa: SLF001
        for name, buffer in list(module._buffers.items()):  # noqa: SLF001
            if buffer is not None and buffer.is_meta:
                module._buffers[name] = torch.zeros(buffer.shape, dtype=buffer.dtype)  # noqa: SLF001
        for name, tensor in list(vars(module).items()):
            if isinstance(tensor, Tensor) and tensor.is_meta:  # such as `original_inv_freq`
                setattr(module, name, torch.zeros(tensor.shape, dtype=tensor.dtype))
    count(model, live)


def count(model: nn.Module, live: LiveBytes) -> None:
    """Name the model's tensors in the count: weights, and what quantization keeps beside them."""
    for weight in model.parameters():
        live.name(weight, "weights")
    for name, buffer in model.named_buffers():
        live.name(buffer, "quantization" if name.rpartition(".")[2].startswith("quant_") else "weights")


def _tensor(weight: nn.Parameter) -> nn.Parameter:
    if not weight.is_meta:
        return weight
    return nn.Parameter(torch.zeros(weight.shape, dtype=weight.dtype), requires_grad=weight.requires_grad)


def _adapted(plan: Plan, model: Any) -> Any:
    """With a new adapter, in the type that TRL gives it, or in which a strategy gathers it."""
    config = LoraConfig(**(plan.peft or _USUAL))
    if plan.model.add_tokens:
        rows = model.get_input_embeddings().num_embeddings
        taken = list(range(rows - len(plan.model.add_tokens), rows))
        config.trainable_token_indices = {"embed_tokens": taken}
    whole = plan.strategy == "zero3" and not plan.quantization
    adapted = get_peft_model(
        model, config, low_cpu_mem_usage=True, **({"autocast_adapter_dtype": False} if whole else {})
    )
    gathered = plan.strategy != "ddp" and plan.trainer.get("bf16")
    for name, weight in adapted.named_parameters():
        if weight.requires_grad and (gathered or (plan.quantization and "lora_magnitude_vector" not in name)):
            weight.data = weight.data.to(torch.bfloat16)
    return adapted


def _checkpointed(plan: Plan, model: Any) -> None:
    """Activation checkpointing as transformers' Trainer applies it; FSDP's own keeps and recomputes the same."""
    asked = dict(plan.trainer.get("activation_checkpointing_kwargs") or {})
    by_fsdp = bool((plan.trainer.get("fsdp_config") or {}).get("activation_checkpointing"))
    if not plan.trainer.get("activation_checkpointing") and not by_fsdp:
        return
    every, selective = asked.pop("every_n_layers", 1), asked.pop("selective", False)
    if plan.method != "full":
        model.enable_input_require_grads()
    if selective:
        enable_selective_activation_checkpointing(model)
    model.activation_checkpointing_enable(activation_checkpointing_kwargs=asked or None, every_n_layers=every)
