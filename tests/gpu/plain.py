"""The same training by plain TRL, and the result read by plain transformers and peft. `plain.py losses|loss RUN`; imports no launcher."""

import json
import sys
from pathlib import Path

import torch
from datasets import load_from_disk
from peft import LoraConfig, PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, set_seed
from trl import SFTConfig, SFTTrainer


def base(run: Path, plan: dict):
    """The base model as the plan describes it."""
    return AutoModelForCausalLM.from_pretrained(
        run / "base",
        dtype=getattr(torch, plan["model"]["dtype"]),
        attn_implementation=plan["model"]["attn_implementation"],
        quantization_config=BitsAndBytesConfig(**plan["quantization"]) if plan["quantization"] else None,
    )


def losses(run: Path) -> list[float]:
    """Loss of each step of a plain `SFTTrainer` with the run's rows and arguments."""
    plan = json.loads((run / "plan.json").read_text())
    args = SFTConfig(output_dir=str(run.parent / "plain"), **{**plan["trainer"], "save_strategy": "no"})
    set_seed(args.seed)
    trainer = SFTTrainer(
        model=base(run, plan),
        args=args,
        train_dataset=load_from_disk(run / "data" / "train"),
        processing_class=AutoTokenizer.from_pretrained(run / "tokenizer"),
        peft_config=LoraConfig(**plan["peft"]) if plan["peft"] else None,
    )
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def loss(run: Path) -> float:
    """Mean loss of the result on the first eight rows, one by one, in float32 without autocast."""
    plan = json.loads((run / "plan.json").read_text())
    model = AutoModelForCausalLM.from_pretrained(run / "model", dtype=torch.float32) if not plan["peft"] else None
    if model is None:
        model = PeftModel.from_pretrained(base(run, plan), run / "model")
    model = model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    found = []
    for row in load_from_disk(run / "data" / "train").select(range(8)):
        ids, labels = (torch.tensor([row[name]], device=model.device) for name in ("input_ids", "labels"))
        with torch.no_grad():
            found.append(model(input_ids=ids, labels=labels, use_cache=False).loss.item())
    return sum(found) / len(found)


if __name__ == "__main__":
    print(json.dumps({"losses": losses, "loss": loss}[sys.argv[1]](Path(sys.argv[2]))))
