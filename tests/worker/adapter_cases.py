"""Functions that the adapter tests run in forked ranks (see `tests.support.warm`)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

LOGITS = "logits.safetensors"


def rank(run_dir: str) -> None:
    """One training rank that leaves what the trained model answers to the first row, before the result is written."""
    import torch
    from safetensors.torch import save_file

    from launcher.worker import main
    from launcher.worker.tasks import sft

    write = sft._write_result

    def noted(job: Any, trainer: Any, number: int, draft: Path) -> None:
        ids = torch.tensor([trainer.train_dataset[0]["input_ids"]])
        with torch.no_grad():
            logits = trainer.model.eval()(input_ids=ids, use_cache=False).logits
        save_file({"ids": ids, "logits": logits.float().contiguous()}, Path(run_dir) / LOGITS)
        write(job, trainer, number, draft)

    sft._write_result = noted
    raise SystemExit(main.main(run_dir, os.getppid()))


def read_alone(adapter: str, base: str, quantization: dict[str, Any] | None, logits: str) -> dict[str, Any]:
    """What peft and transformers make of a result alone: the largest difference from `logits`, and what the file holds.

    On a quantized base the adapter is given the bfloat16 in which TRL trained it; peft reads it as float32.
    """
    import torch
    from peft import AutoPeftModelForCausalLM
    from safetensors.torch import load_file
    from transformers import BitsAndBytesConfig

    quantized = BitsAndBytesConfig(**quantization) if quantization else None
    model = AutoPeftModelForCausalLM.from_pretrained(adapter, dtype="float32", quantization_config=quantized).eval()
    was, tensors = load_file(logits), load_file(f"{adapter}/adapter_model.safetensors")
    differences = []
    for kind in (None, torch.bfloat16) if quantized else (None,):
        for name, weight in model.named_parameters():
            if kind and ("lora_A" in name or "lora_B" in name or "trainable_tokens" in name):
                weight.data = weight.data.to(kind)
        with torch.no_grad():
            answer = model(input_ids=was["ids"], use_cache=False).logits.float()
        differences.append(float((answer - was["logits"]).abs().max()))
    config = model.peft_config["default"]
    assert Path(config.base_model_name_or_path) == Path(base)
    return {
        "difference": differences[-1],
        "as_float32": differences[0],
        "apart_from_the_start": float((was["logits"] - _base_logits(model, was["ids"])).abs().max()),
        "rank": config.r,
        "start": config.init_lora_weights,
        "bytes": sum(each.numel() * each.element_size() for each in tensors.values()),
        "others": sorted(name for name in tensors if "lora_" not in name),
    }


def _base_logits(model: Any, ids: Any) -> Any:
    import torch

    with torch.no_grad(), model.disable_adapter():
        return model(input_ids=ids, use_cache=False).logits.float()


def bias_of_a_wrapped_head(model: str) -> str:
    """What TRL's loss meets in peft's wrapper of single rows, when nobody sets it."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    settings = LoraConfig(r=2, target_modules=["q_proj"], trainable_token_indices=[5], task_type="CAUSAL_LM")
    wrapped = get_peft_model(AutoModelForCausalLM.from_pretrained(model), settings)
    try:
        return str(wrapped.get_base_model().get_output_embeddings().bias)
    except AttributeError as fault:
        return str(fault)
