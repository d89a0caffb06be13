"""What a person would write with TRL alone; a launcher run must give the same losses and weights, bit for bit."""

import torch
from datasets import load_from_disk
from peft import LoraConfig
from transformers import AutoTokenizer, BitsAndBytesConfig
from trl import SFTConfig, SFTTrainer

LORA = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
NF4 = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True, "bnb_4bit_compute_dtype": torch.float32}


def train(model: str, rows: str, output: str, *, lora: bool, dropout: float, nf4: bool, packing: bool) -> list[float]:
    args = SFTConfig(
        output_dir=output, per_device_train_batch_size=4, num_train_epochs=2, learning_rate=1e-2 if lora else 1e-3,
        optim="adamw_torch", seed=42, logging_steps=1, packing=packing, max_length=64, activation_checkpointing=False,
        dataset_kwargs={"skip_prepare_dataset": True}, model_init_kwargs={"dtype": "float32"}, bf16=False,
        use_cpu=True, save_strategy="no", report_to="none",
    )  # fmt: skip
    trainer = SFTTrainer(
        model=model, args=args, train_dataset=load_from_disk(rows), processing_class=AutoTokenizer.from_pretrained(model),
        quantization_config=BitsAndBytesConfig(load_in_4bit=True, **NF4) if nf4 else None,
        peft_config=LoraConfig(**LORA, lora_dropout=dropout) if lora else None,
    )  # fmt: skip
    trainer.train()
    trainer.save_model(output)
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
