"""What a person would write with TRL alone; a launcher run must give the same losses and weights, bit for bit."""

from typing import Any

import torch
from datasets import load_from_disk
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, set_seed
from trl import SFTConfig, SFTTrainer

LORA = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
NF4 = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True, "bnb_4bit_compute_dtype": torch.float32}


def train(
    model: str, rows: str, output: str, *, lora: bool, dropout: float, nf4: bool, packing: bool,
    int8: bool = False, peft: dict[str, Any] | None = None, tokens: tuple[str, ...] = (),
) -> list[float]:  # fmt: skip
    args = SFTConfig(
        output_dir=output, per_device_train_batch_size=4, num_train_epochs=2, learning_rate=1e-2 if lora else 1e-3,
        optim="adamw_torch", seed=42, logging_steps=1, packing=packing, max_length=64, activation_checkpointing=False,
        dataset_kwargs={"skip_prepare_dataset": True}, bf16=False, use_cpu=True, save_strategy="no", report_to="none",
    )  # fmt: skip
    set_seed(42)
    quantized = BitsAndBytesConfig(load_in_4bit=True, **NF4) if nf4 else BitsAndBytesConfig(load_in_8bit=True)
    network = AutoModelForCausalLM.from_pretrained(
        model, dtype="float32", quantization_config=quantized if nf4 or int8 else None
    )
    tokenizer = AutoTokenizer.from_pretrained(model)
    settings = {**LORA, "lora_dropout": dropout, **(peft or {})}
    if tokens:
        tokenizer.add_tokens(list(tokens))
        network.resize_token_embeddings(len(tokenizer))
        settings["trainable_token_indices"] = tokenizer.convert_tokens_to_ids(list(tokens))
    trainer = SFTTrainer(
        model=network, args=args, train_dataset=load_from_disk(rows), processing_class=tokenizer,
        peft_config=LoraConfig(**settings) if lora else None,
    )  # fmt: skip
    if tokens:
        trainer.model.get_base_model().lm_head.bias = None
    start = None
    if str(settings.get("init_lora_weights", "")).startswith(("pissa", "olora")):  # the way of peft's documentation
        start = f"{output}/start"
        trainer.model.peft_config["default"].init_lora_weights = True
        trainer.model.save_pretrained(start)
    trainer.train()
    if lora:
        trainer.model.save_pretrained(
            output, save_embedding_layers=False, path_initial_model_for_weight_conversion=start
        )
    else:
        trainer.save_model(output)
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
