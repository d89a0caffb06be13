"""Merged models judged by plain transformers and peft; functions for forked ranks (see `tests.support.warm`)."""

from __future__ import annotations

from typing import Any

ROWS = [list(range(3, 53)), [7, 300, 11, 5, 250, 9] * 4]


def adapt(model: str, out: str, lora: dict[str, Any], tokenizer: str) -> None:
    """An adapter whose every trained number is off its start, saved as a trainer saves it, with a tokenizer."""
    import shutil

    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    adapted = get_peft_model(base, LoraConfig(**lora))
    for weight in adapted.parameters():
        if weight.requires_grad:
            weight.data += 0.05 * torch.randn_like(weight)
    adapted.save_pretrained(out)
    shutil.copytree(tokenizer, out, dirs_exist_ok=True)


def export(run_dir: str, base: str) -> int:
    """The stage `export`, as its own process would run it."""
    from launcher.worker import stage

    return stage.main(run_dir, "export", base)


def export_losing_the_adapter(run_dir: str, base: str) -> int:
    """The same with a merge that leaves the base as it is, without an error."""
    from peft import PeftModel

    PeftModel.merge_and_unload = lambda self, **_: self.unload()
    return export(run_dir, base)


def compare(
    base: str, adapter: str, merged: str, quantization: dict[str, Any] | None = None, dtype: str = "float32"
) -> dict[str, Any]:
    """The largest |Δlogit| between a merged folder and the adapter on its base, in float32 as in training, dropout off.

    Quantized layers stay in training mode: in eval mode bitsandbytes rounds their weights to bfloat16 on some CPUs, and
    the inputs of 8-bit layers to 8 bits.
    """
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    settings = BitsAndBytesConfig(**quantization) if quantization else None
    loaded = AutoModelForCausalLM.from_pretrained(base, dtype=getattr(torch, dtype), quantization_config=settings)
    tuned = PeftModel.from_pretrained(loaded, adapter).train()
    plain = AutoModelForCausalLM.from_pretrained(merged)
    kinds = sorted({str(weight.dtype).removeprefix("torch.") for weight in plain.parameters()})
    if quantization is None:
        tuned = tuned.float()
    plain = plain.float().eval()
    with torch.no_grad():
        pairs = [
            (tuned(input_ids=torch.tensor([row])).logits, plain(input_ids=torch.tensor([row])).logits) for row in ROWS
        ]
        with tuned.disable_adapter():
            untuned = [tuned(input_ids=torch.tensor([row])).logits for row in ROWS]
    return {
        "away": max(float((a - b).abs().max()) for a, b in pairs),
        "adapter": max(float((a - b).abs().max()) for (a, _), b in zip(pairs, untuned, strict=True)),
        "largest": max(float(a.abs().max()) for a, _ in pairs),
        "dtypes": kinds,
        "quantized": hasattr(plain.config, "quantization_config"),
    }
