"""The model that is trained, from the plan: weights, quantization, vocabulary, adapter."""

from __future__ import annotations

from typing import Any

import torch
from peft import LoraConfig, PeftModel
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from launcher.errors import EnvironmentFault
from launcher.worker import attention, hub
from launcher.worker.job import Job


def load_model(job: Job, tokenizer: Any) -> Any:
    """The base model, quantized where planned, with an embedding for each token; an existing adapter on top where named.

    Raises:
        EnvironmentFault: the model or the adapter cannot be loaded.
    """
    plan = job.plan.model
    if plan.attn_implementation == attention.SDPA_DOCUMENTS:
        attention.register()
    local = plan.from_config is not None or job.placed("model") is not None
    try:
        model = AutoModelForCausalLM.from_pretrained(
            job.base_model,
            revision=None if local else plan.revision,
            dtype=getattr(torch, plan.dtype),
            attn_implementation=plan.attn_implementation,
            trust_remote_code=plan.trust_remote_code,
            local_files_only=not local and not hub.reachable(),
            quantization_config=BitsAndBytesConfig(**job.plan.quantization) if job.plan.quantization else None,
            **plan.init_kwargs,
        )
    except (OSError, ImportError) as fault:
        message, hint = f"model `{job.base_model}` cannot be loaded: {str(fault).splitlines()[0]}", None
        if not local and not isinstance(fault, ImportError):
            message, hint = hub.fault_of("model", job.base_model, fault)
        raise EnvironmentFault(message, hint=hint) from fault
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(tokenizer))
    return _with_adapter(job, model) if plan.adapter else model


def _with_adapter(job: Job, model: Any) -> Any:
    where = job.placed("adapter") or str(job.plan.model.adapter)
    try:
        return PeftModel.from_pretrained(model, where, is_trainable=True)
    except (OSError, ValueError) as fault:
        raise EnvironmentFault(f"adapter `{where}` cannot be loaded: {str(fault).splitlines()[0]}") from fault


def peft_config(job: Job) -> LoraConfig | None:
    """The new adapter to train; None for full fine-tuning, and when an existing adapter is trained on."""
    if job.plan.peft is None or job.plan.model.adapter:
        return None
    return LoraConfig(**job.plan.peft)
