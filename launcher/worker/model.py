"""The model that is trained, from the plan: weights, quantization, vocabulary, an adapter that exists."""

from __future__ import annotations

import logging
from typing import Any

import torch
from peft import PeftModel
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
    if plan.attn_implementation in (attention.SDPA_DOCUMENTS, attention.SDPA_VARLEN):
        attention.register()
    if job.plan.method == "int8":  # it would say at every layer of every pass that it rounds its inputs to float16
        logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    copy = job.local_copy
    local = plan.from_config is not None or job.placed("model") is not None or copy is not None
    try:
        model = AutoModelForCausalLM.from_pretrained(
            copy or job.base_model,
            revision=None if local else plan.revision,
            dtype=getattr(torch, plan.dtype),
            attn_implementation=plan.attn_implementation,
            trust_remote_code=plan.trust_remote_code,
            local_files_only=not local and not hub.reachable(),
            quantization_config=BitsAndBytesConfig(**job.plan.quantization) if job.plan.quantization else None,
            device_map=_device_map(job),
            **plan.init_kwargs,
        )
    except (OSError, ImportError) as fault:
        message, hint = f"model `{job.base_model}` cannot be loaded: {str(fault).splitlines()[0]}", None
        if not local and not isinstance(fault, ImportError):
            message, hint = hub.fault_of("model", job.base_model, fault)
        raise EnvironmentFault(message, hint=hint) from fault
    if copy is not None:  # what is saved names its base, which must be found from other nodes too
        model.config.name_or_path = model.name_or_path = job.base_model
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(tokenizer))
    return _with_adapter(job, model) if plan.adapter else model


def _device_map(job: Job) -> dict[str, str] | None:
    """Weights go from their files straight to this rank's GPU, one at a time: no rank needs host memory for a whole model.

    Where ranks share the weights out, FSDP2 and ZeRO-3 say how they are loaded.
    """
    quantized = job.plan.method in ("qlora", "int8")
    sharded = job.plan.strategy in ("fsdp2", "zero3") and not quantized
    if job.plan.device == "cpu" or sharded:
        return None
    return {"": f"cuda:{torch.cuda.current_device()}"}


def _with_adapter(job: Job, model: Any) -> Any:
    where = job.placed("adapter") or str(job.plan.model.adapter)
    try:
        revision = None if job.placed("adapter") else job.plan.model.adapter_revision
        return PeftModel.from_pretrained(model, where, is_trainable=True, revision=revision)
    except (OSError, ValueError) as fault:
        raise EnvironmentFault(f"adapter `{where}` cannot be loaded: {str(fault).splitlines()[0]}") from fault
