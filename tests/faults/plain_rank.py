"""The script a person writes with TRL: train, save, and resume from the last checkpoint. Runs in forked processes."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from tests.faults.ranks import Operations


def train(run_dir: str, out: str, victim: int = -1, operation: int = 0) -> None:
    """Train on the rows, the model and the settings of a prepared run, with nothing of `launcher` in it.

    Args:
        run_dir: a prepared run, for its data, tokenizer, model and trainer settings.
        out: the output folder; steps are noted in `steps.jsonl`, the result is `result/`.
        victim: the rank that dies by SIGKILL before its file-system operation number `operation`.
        operation: that number, from 1.
    """
    from datasets import load_from_disk
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback, set_seed
    from transformers.trainer_utils import get_last_checkpoint
    from trl import SFTConfig, SFTTrainer

    class Steps(TrainerCallback):
        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.is_world_process_zero:
                self.note({"event": "save", "step": state.global_step})

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
            if logs and "loss" in logs and state.is_world_process_zero:
                figures = {"loss": logs["loss"], "grad_norm": logs["grad_norm"]}
                self.note({"event": "step", "step": state.global_step, **figures})

        def note(self, line: dict[str, Any]) -> None:
            with Path(out, "steps.jsonl").open("a") as file:
                file.write(json.dumps({**line, "time": time.time()}) + "\n")

    if int(os.environ.get("RANK", "0")) == victim:
        Operations(Path(out), operation, "")
    run = Path(run_dir)
    plan, placement = json.loads((run / "plan.json").read_text()), json.loads((run / "placement.json").read_text())
    keep = plan["checkpoint"]["keep"]
    args = SFTConfig(output_dir=out, **{**plan["trainer"], "save_total_limit": keep})
    set_seed(args.seed)
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(placement["model"], dtype="float32"),
        args=args,
        train_dataset=load_from_disk(str(run / "data" / "train")),
        processing_class=AutoTokenizer.from_pretrained(str(run / "tokenizer")),
        peft_config=LoraConfig(**plan["peft"]) if plan["peft"] else None,
    )
    trainer.add_callback(Steps())
    trainer.train(resume_from_checkpoint=get_last_checkpoint(out))
    trainer.save_model(f"{out}/result")
