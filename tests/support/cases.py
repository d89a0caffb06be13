"""Functions that tests run in forked ranks (see `tests.support.warm`)."""

from __future__ import annotations

import os
from itertools import groupby
from typing import Any


def prepare(run_dir: str) -> int:
    """The stage `prepare`, as its own process would run it."""
    from launcher.worker import stage

    return stage.main(run_dir, "prepare")


def rank(run_dir: str) -> None:
    """One training rank, as torchrun would start it; ends with the worker's exit code."""
    from launcher.worker import main

    raise SystemExit(main.main(run_dir, os.getppid()))


def rank_with_fault(run_dir: str, failing: int, step: int, fault: str) -> None:
    """A rank like `rank`, but rank `failing` raises (`error`) or hangs (`hang`) when `step` steps are done."""
    import time

    from launcher.worker import main
    from launcher.worker.trainer import Trainer

    train_step = Trainer.training_step

    def broken(self: Trainer, *args: Any, **kwargs: Any) -> Any:
        if int(os.environ["RANK"]) == failing and self.state.global_step == step:
            if fault == "error":
                raise RuntimeError("this rank is broken\nand says so at length")
            time.sleep(600)
        return train_step(self, *args, **kwargs)

    Trainer.training_step = broken
    raise SystemExit(main.main(run_dir, os.getppid()))


def prepared(run_dir: str, label: str) -> dict[str, Any]:
    """The prepared rows of one set."""
    from datasets import load_from_disk

    from launcher.runs.paths import RunDir

    return dict(load_from_disk(RunDir(_path(run_dir)).prepared(label))[:])


def _path(text: str) -> Any:
    from pathlib import Path

    return Path(text)


def marked(run_dir: str, label: str) -> list[str]:
    """Prepared rows as text, with ⟦ ⟧ around the tokens that are trained."""
    from transformers import AutoTokenizer

    from launcher.runs.paths import RunDir

    tokenizer = AutoTokenizer.from_pretrained(RunDir(_path(run_dir)).tokenizer)
    rows = prepared(run_dir, label)
    return [_marked(tokenizer, *pair) for pair in zip(rows["input_ids"], rows["labels"], strict=True)]


def _marked(tokenizer: Any, ids: list[int], labels: list[int]) -> str:
    assert all(label in (-100, token) for token, label in zip(ids, labels, strict=True)), "a label is another token"
    parts = []
    for trained, group in groupby(zip(ids, labels, strict=True), key=lambda pair: pair[1] != -100):
        text = tokenizer.decode([token for token, _ in group])
        parts.append(f"⟦{text}⟧" if trained else text)
    return "".join(parts)


def trl_template(name: str) -> str:
    """Text of a chat template that TRL knows."""
    from importlib.resources import files

    return (files("trl") / "chat_templates" / f"{name}.jinja").read_text()


def prepared_by_trl(model: str, row: dict[str, Any]) -> list[list[int]]:
    """Ids and labels that TRL's own preparation gives one row."""
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    args = SFTConfig(output_dir=f"{model}/out", use_cpu=True, bf16=False, report_to="none", max_length=256)
    tokenizer = AutoTokenizer.from_pretrained(model)
    trainer = SFTTrainer(model, args, train_dataset=Dataset.from_list([row]), processing_class=tokenizer)
    first = trainer.train_dataset[0]
    return [list(first["input_ids"]), list(first["labels"])]


def gradients(model: str, rows: list[dict[str, list[int]]], packing: bool) -> dict[str, Any]:
    """Loss of one batch as the trainer computes it, and a sha256 of all gradients, in float64."""
    import hashlib

    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    args = SFTConfig(
        output_dir=f"{model}/out", use_cpu=True, bf16=False, report_to="none", packing=packing, max_length=64,
        dataset_kwargs={"skip_prepare_dataset": True}, activation_checkpointing=False,
    )  # fmt: skip
    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float64)
    dataset = Dataset.from_list(rows)
    tokenizer = AutoTokenizer.from_pretrained(model)
    trainer = SFTTrainer(network, args, train_dataset=dataset, processing_class=tokenizer)
    batch = trainer.data_collator(rows)
    trained = (batch["labels"][..., 1:] != -100).sum()
    loss = trainer.compute_loss(network, batch, num_items_in_batch=trained)
    loss.backward()
    digest = hashlib.sha256()
    largest = 0.0
    for weight in network.parameters():
        if weight.grad is not None:
            digest.update(weight.grad.numpy().tobytes())
            largest = max(largest, float(weight.grad.abs().max()))
    return {"loss": float(loss), "gradients": digest.hexdigest(), "largest": largest, "trained": int(trained)}


def optimizer_settings(checkpoint: str) -> list[dict[str, Any]]:
    """What the optimizer of a checkpoint trains by, one mapping per group of weights."""
    import torch

    groups = torch.load(f"{checkpoint}/optimizer.pt", weights_only=True)["param_groups"]
    return [{name: value for name, value in group.items() if name != "params"} for group in groups]


def borders(folder: str, rows: list[list[str]]) -> dict[str, list[int]]:
    """Where the completion of each (prompt, completion) begins, as the encoder finds it, and by TRL's rule: tokenising both."""
    from transformers import AutoTokenizer
    from trl.data_utils import common_prefix_length

    from launcher.worker.data.chat import ChatTemplate
    from launcher.worker.data.encode import Encoded, Encoder
    from launcher.worker.data.examples import Pair

    tokenizer = AutoTokenizer.from_pretrained(folder)
    made = Encoder(tokenizer, ChatTemplate(tokenizer)).encode([Pair(*row) for row in rows], "completion")
    end = tokenizer.eos_token
    return {
        "ours": [row.spans[0][0] if isinstance(row, Encoded) else -1 for row in made],
        "theirs": [
            common_prefix_length(tokenizer(p)["input_ids"], tokenizer(p + c + end)["input_ids"]) for p, c in rows
        ],
    }


def embedding(run_dir: str, token: str) -> dict[str, int]:
    """The id of a token in the result's tokenizer, and the number of rows in the result's embedding."""
    from safetensors.torch import load_file
    from transformers import AutoTokenizer

    from launcher.runs.paths import RunDir

    run = RunDir(_path(run_dir))
    number = AutoTokenizer.from_pretrained(run.model).convert_tokens_to_ids(token)
    return {"id": number, "rows": len(load_file(run.model / "model.safetensors")["model.embed_tokens.weight"])}


def evaluate(run_dir: str) -> int:
    """The stage `evaluate`, as its own process would run it."""
    from launcher.worker import stage

    return stage.main(run_dir, "evaluate")
