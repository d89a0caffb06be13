"""Models with random weights, made on the device: plain, or 4-bit layer by layer so that a 70B one never exists whole."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from benchmarks.gpu.setup import Setup


def build(setup: Setup, device: str) -> Any:
    """The base model of a setup, on the device, frozen or not as its trainer will have it."""
    torch.manual_seed(0)
    settings = setup.shape.config()
    config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    dtype = getattr(torch, setup.dtype)
    model = (_quantized if setup.method == "qlora" else _plain)(config, setup, dtype, device)
    if setup.liger:
        _with_liger(model, setup.shape.kind)
    return model


def lora_config(setup: Setup) -> Any:
    """The adapter of a setup; None for full fine-tuning."""
    from peft import LoraConfig

    if setup.method == "full":
        return None
    return LoraConfig(r=setup.rank, lora_alpha=2 * setup.rank, target_modules="all-linear", task_type="CAUSAL_LM")


def _plain(config: Any, setup: Setup, dtype: torch.dtype, device: str) -> Any:
    with torch.device(device):
        return AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=setup.attention)


def _quantized(config: Any, setup: Setup, dtype: torch.dtype, device: str) -> Any:
    """One layer at a time is made in `dtype` and put into 4 bits; the largest moment is the model so far and one layer."""
    layers = config.num_hidden_layers
    config.num_hidden_layers, kinds = 1, getattr(config, "layer_types", None)
    if kinds:
        config.layer_types = kinds[:1]
    model = _plain(config, setup, dtype, device)
    config = model.config
    config.num_hidden_layers = layers
    if kinds:
        config.layer_types = kinds
    make = type(model.model.layers[0])
    model.model.layers = torch.nn.ModuleList()
    for index in range(layers):
        model.model.layers.append(_in_four_bits(_layer(make, config, index, dtype, device), dtype))
    model.requires_grad_(requires_grad=False)
    model.is_loaded_in_4bit = True  # what peft and TRL ask
    return model


def _layer(make: Any, config: Any, index: int, dtype: torch.dtype, device: str) -> torch.nn.Module:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            layer: torch.nn.Module = make(config, index)
    finally:
        torch.set_default_dtype(before)
    for module in layer.modules():
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.normal_(module.weight, std=config.initializer_range)
    return layer


def _in_four_bits(layer: torch.nn.Module, dtype: torch.dtype) -> torch.nn.Module:
    import bitsandbytes as bnb

    for parent in list(layer.modules()):
        for name, child in list(parent.named_children()):
            if not isinstance(child, torch.nn.Linear):
                continue
            four = bnb.nn.Linear4bit(
                child.in_features, child.out_features, bias=child.bias is not None, compute_dtype=dtype,
                compress_statistics=True, quant_type="nf4", device="meta",
            )  # fmt: skip
            weight = bnb.nn.Params4bit(child.weight.data, compress_statistics=True, quant_type="nf4", module=four)
            four.weight = weight.to(child.weight.device)  # quantizes
            four.bias = child.bias
            setattr(parent, name, four)
    return layer


def _with_liger(model: Any, kind: str) -> None:
    from liger_kernel import transformers as liger

    apply = getattr(liger, f"apply_liger_kernel_to_{kind}")
    apply(rope=True, swiglu=True, rms_norm=True, cross_entropy=False, fused_linear_cross_entropy=False, model=model)
