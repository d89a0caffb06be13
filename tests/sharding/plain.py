"""What a person would write with TRL alone for the same rows, batch and schedule, on any number of gloo ranks with DDP."""

from __future__ import annotations

import torch
from datasets import load_from_disk
from peft import LoraConfig
from transformers import AutoTokenizer, BitsAndBytesConfig
from trl import SFTConfig, SFTTrainer

LORA = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.0, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
NF4 = {
    "load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True, "bnb_4bit_compute_dtype": torch.float32,
}  # fmt: skip
BASES = {"qlora": NF4, "int8": {"load_in_8bit": True}}


def losses(model: str, rows: str, output: str, method: str, accumulation: int) -> list[float]:
    args = SFTConfig(
        output_dir=output, per_device_train_batch_size=2, gradient_accumulation_steps=accumulation, max_steps=6,
        learning_rate=1e-3 if method == "full" else 1e-2, optim="adamw_torch", lr_scheduler_type="linear", seed=42,
        logging_steps=1, max_length=64, activation_checkpointing=False, dataset_kwargs={"skip_prepare_dataset": True},
        model_init_kwargs={"dtype": "float32"}, bf16=False, use_cpu=True, save_strategy="no", report_to="none",
        disable_tqdm=True,
    )  # fmt: skip
    trainer = SFTTrainer(
        model=model, args=args, train_dataset=load_from_disk(rows), processing_class=AutoTokenizer.from_pretrained(model),
        quantization_config=BitsAndBytesConfig(**BASES[method]) if method in BASES else None,
        peft_config=None if method == "full" else LoraConfig(**LORA),
    )  # fmt: skip
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def logits(base: str, result: str, ids: list[list[int]], method: str) -> list:
    """Logits of a result that is loaded by transformers and peft alone."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    quantized = BitsAndBytesConfig(**BASES[method]) if method in BASES else None
    where = result if method == "full" else base
    model = AutoModelForCausalLM.from_pretrained(where, dtype=torch.float32, quantization_config=quantized)
    if method != "full":
        model = PeftModel.from_pretrained(model, result)
    if quantized is None:
        model.eval()  # 4-bit layers are repacked in eval mode; without dropout it is the same
    with torch.no_grad():
        return model(input_ids=torch.tensor(ids), use_cache=False).logits.tolist()
