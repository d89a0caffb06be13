"""The configurations of docs/PREDICTOR.md. Small, but each with a share of activations, states and loss that shows."""

from __future__ import annotations

from typing import Any

from benchmarks.predictor.cases import Case

CHECKPOINTED = ("training.activation_checkpointing=true",)
EVERY_2 = (*CHECKPOINTED, "training.activation_checkpointing_kwargs={every_n_layers: 2}")
SELECTIVE = (*CHECKPOINTED, "training.activation_checkpointing_kwargs={selective: true}")
DEEP: dict[str, Any] = {"num_hidden_layers": 8, "vocab_size": 1024}
WIDE: dict[str, Any] = {
    "hidden_size": 384, "intermediate_size": 1536, "num_attention_heads": 6, "num_key_value_heads": 2, "vocab_size": 2048,
    "num_hidden_layers": 6,
}  # fmt: skip
FEW: dict[str, Any] = {
    "hidden_size": 1024, "intermediate_size": 8192, "num_attention_heads": 16, "num_key_value_heads": 4, "vocab_size": 512,
    "num_hidden_layers": 2,
}  # fmt: skip
"""Layers so wide that their own backward pass is the peak, and not the loss."""
HALF: dict[str, Any] = WIDE | {"dtype": "bfloat16", "num_hidden_layers": 3}
BFLOAT16 = ("model.dtype=bfloat16",)
LLAMA: dict[str, Any] = {"model_type": "llama"}
GEMMA: dict[str, Any] = {"model_type": "gemma2", "sliding_window": 4096, "tie_word_embeddings": True}
EXPERTS: dict[str, Any] = {
    "model_type": "qwen3_moe", "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 384,
    "decoder_sparse_step": 1,
}  # fmt: skip


FAMILIES: dict[str, dict[str, Any]] = {
    "granite": {}, "smollm3": {"pad_token_id": 0}, "mistral": {}, "qwen2": {}, "gemma": {}, "gemma3_text": {},
    "phi3": {"pad_token_id": 0}, "olmo2": {}, "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "gpt2": {"n_embd": 256, "n_layer": 3, "n_head": 4, "n_positions": 2048, "n_inner": 768},
}  # fmt: skip
"""Types whose layers differ from llama's, beside those above."""


def _attention(kind: str) -> tuple[str, ...]:
    return (f"model.attn_implementation={kind}",)


def _optim(name: str) -> tuple[str, ...]:
    return (f"training.optim={name}",)


CASES: dict[str, Case] = {
    "full": Case(model=WIDE),
    "full, 2 rows padded": Case(model=DEEP, rows=2, length=256),
    "full, 4 rows padded": Case(model=WIDE, rows=4, length=128),
    "full, 1,024 tokens": Case(model=DEEP, length=1024),
    "full, tied": Case(model=WIDE | {"tie_word_embeddings": True}),
    "full, tied, large vocabulary": Case(model={"vocab_size": 16384, "tie_word_embeddings": True}, length=128),
    "full, large vocabulary": Case(model={"vocab_size": 16384}, length=128),
    "full, accumulation 2": Case(model=WIDE, length=128, accumulation=2),
    "full, packed, documents": Case(model=WIDE, packed=4),
    "full, packed, mask": Case(model=DEEP, packed=4, sets=_attention("sdpa")),
    "full, packed, 2 rows": Case(model=DEEP, packed=4, rows=2, length=256),
    "full, eager": Case(model=DEEP, sets=_attention("eager")),
    "full, eager, padded": Case(model=DEEP, rows=2, length=256, sets=_attention("eager")),
    "full, checkpointed": Case(model=WIDE, sets=CHECKPOINTED),
    "full, checkpointed every 2": Case(model=WIDE, sets=EVERY_2),
    "full, checkpointed, selective": Case(model=WIDE, sets=SELECTIVE),
    "full, adamw_torch": Case(model=WIDE, length=64, sets=_optim("adamw_torch")),
    "full, adamw_8bit": Case(model=WIDE, length=64, sets=_optim("adamw_8bit")),
    "full, sgd": Case(model=WIDE, length=128, sets=_optim("sgd")),
    "full, adafactor": Case(model=WIDE, length=64, sets=_optim("adafactor")),
    "full, llama": Case(model=WIDE | LLAMA),
    "full, llama, checkpointed": Case(model=DEEP | LLAMA, length=1024, sets=CHECKPOINTED),
    "full, gemma2": Case(model=GEMMA, sets=_attention("eager")),
    "full, experts": Case(model=EXPERTS),
    **{
        f"full, {kind}": Case(model={"model_type": kind, "num_hidden_layers": 3, **more})
        for kind, more in FAMILIES.items()
    },
    "lora": Case("lora", model=WIDE),
    "lora, dropout": Case("lora", model=DEEP, sets=("peft.lora_dropout=0.1",)),
    "lora, attention only": Case("lora", model=WIDE, sets=("peft.target_modules=[q_proj, v_proj]",)),
    "lora, checkpointed": Case("lora", model=WIDE, length=1024, sets=CHECKPOINTED),
    "lora, packed, checkpointed": Case("lora", model=DEEP, packed=4, length=1024, sets=CHECKPOINTED),
    "lora, 2 rows padded": Case("lora", model=WIDE, rows=2, length=256),
    "qlora": Case("qlora", model=WIDE),
    "qlora, checkpointed": Case("qlora", model=WIDE, length=1024, sets=CHECKPOINTED),
    "qlora, dropout, packed": Case("qlora", model=DEEP, packed=2, sets=("peft.lora_dropout=0.1",)),
    "int8": Case("int8", model=WIDE),
    "int8, checkpointed": Case("int8", model=DEEP, sets=CHECKPOINTED),
    "lora, wide layers": Case("lora", model=FEW, length=256, sets=CHECKPOINTED),
    "full, wide layers": Case(
        model=FEW | {"intermediate_size": 6144}, length=256, sets=(*CHECKPOINTED, *_optim("sgd"))
    ),
    "qlora, wide layers": Case("qlora", model=FEW, length=256, sets=CHECKPOINTED),
    "full, bfloat16": Case(model=HALF, length=256, sets=BFLOAT16),
    "full, bfloat16, checkpointed": Case(model=HALF, length=256, sets=(*BFLOAT16, *CHECKPOINTED)),
    "lora, bfloat16": Case("lora", model=HALF, length=256, sets=BFLOAT16),
    "qlora, bfloat16": Case("qlora", model=HALF, length=256, sets=BFLOAT16),
    "lora, head trained whole": Case("lora", model=WIDE, length=256, sets=("peft.modules_to_save=[lm_head]",)),
    "lora, dora": Case("lora", model=WIDE, length=256, sets=("peft.use_dora=true",)),
    "lora, eager, padded": Case("lora", model=DEEP, rows=2, length=256, sets=_attention("eager")),
    "lora, dropout, checkpointed": Case("lora", model=DEEP, sets=(*CHECKPOINTED, "peft.lora_dropout=0.1")),
    "lora, every 2, padded": Case("lora", model=DEEP, rows=2, length=256, sets=EVERY_2),
    "qlora, plain constants": Case(
        "qlora", model=WIDE, length=256, sets=("quantization.bnb_4bit_use_double_quant=false",)
    ),
    "int8, dropout": Case("int8", model=DEEP, length=256, sets=("peft.lora_dropout=0.1",)),
    "full, lion_8bit": Case(model=WIDE, length=64, sets=_optim("lion_8bit")),
    "full, ademamix_8bit": Case(model=WIDE, length=64, sets=_optim("ademamix_8bit")),
    "full, rmsprop": Case(model=WIDE, length=64, sets=_optim("rmsprop")),
    "full, paged_adamw_32bit": Case(model=WIDE, length=64, sets=_optim("paged_adamw_32bit")),
    "full, fsdp2 × 2, accumulation 2": Case(model=DEEP, length=64, strategy="fsdp2", ranks=2, accumulation=2),
    "full, zero2 × 2, accumulation 2": Case(model=DEEP, length=64, strategy="zero2", ranks=2, accumulation=2),
    "full, zero3 × 2, checkpointed": Case(model=DEEP, length=512, strategy="zero3", ranks=2, sets=CHECKPOINTED),
    "full, zero2 × 2, offload": Case(model=WIDE, length=128, strategy="zero2", ranks=2, offload="optimizer"),
    "full, zero3 × 2, offload": Case(model=WIDE, length=128, strategy="zero3", ranks=2, offload="params"),
    "full, zero1 × 2, accumulation 2": Case(model=DEEP, length=64, strategy="zero1", ranks=2, accumulation=2),
    "full, tied, fsdp2 × 2": Case(
        model=DEEP | {"tie_word_embeddings": True, "vocab_size": 4096}, length=64, strategy="fsdp2", ranks=2
    ),
    "full, ddp × 2": Case(model=WIDE, length=128, strategy="ddp", ranks=2),
    "lora, ddp × 2": Case("lora", model=WIDE, length=256, strategy="ddp", ranks=2),
    "qlora, ddp × 2": Case("qlora", model=DEEP, length=256, strategy="ddp", ranks=2),
    "full, fsdp2 × 2": Case(model=WIDE, length=128, strategy="fsdp2", ranks=2),
    "full, fsdp2 × 2, checkpointed": Case(model=WIDE, length=512, strategy="fsdp2", ranks=2, sets=CHECKPOINTED),
    "lora, fsdp2 × 2": Case("lora", model=WIDE, length=256, strategy="fsdp2", ranks=2),
    "full, fsdp2 × 2, states": Case(model=DEEP, length=32, strategy="fsdp2", ranks=2),
    "full, zero1 × 2": Case(model=WIDE, length=128, strategy="zero1", ranks=2),
    "full, zero2 × 2": Case(model=WIDE, length=128, strategy="zero2", ranks=2),
    "full, zero2 × 2, states": Case(model=DEEP, length=32, strategy="zero2", ranks=2),
    "full, zero3 × 2": Case(model=WIDE, length=128, strategy="zero3", ranks=2),
    "lora, zero3 × 2": Case("lora", model=WIDE, length=256, strategy="zero3", ranks=2),
    "lora, zero2 × 2": Case("lora", model=WIDE, length=256, strategy="zero2", ranks=2),
}
"""Name → configuration."""
