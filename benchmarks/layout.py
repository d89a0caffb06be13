"""Real tokens per CPU second of the layouts a packed batch can have on a machine without a flash kernel, in one run.

    OMP_NUM_THREADS=1 python benchmarks/layout.py [-n 5] [--out benchmarks/results]

The same documents (log-normal, median 180 tokens, σ 0.45, as long as answers to GSM8K are) go through TRL's collator
and loss, forward and backward, in one thread: in one row as TRL lays a packed batch out, one packed row at a time with
gradients accumulated, and unpacked as a padded batch. The layouts take turns; the median of N is reported, without the
optimizer's step. Losses and gradients are compared with those of the first layout.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from startup import installed, processor
from tokenizers import Tokenizer, models
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen3Config
from trl import SFTConfig, SFTTrainer
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from launcher.worker import attention  # noqa: E402 - found once the path is set
from launcher.worker.data.packing import pack  # noqa: E402

VERSIONS = ("finetune-launcher", "torch", "transformers", "trl")
MAX_LENGTH = 1024
MODELS = {"small": (64, 2, 1024), "larger": (160, 4, 4096)}
"""Hidden size, layers, vocabulary; heads of 32, two queries to a key."""


@dataclass
class Layout:
    """Which trainer computes which batches, and what it took."""

    name: str
    implementation: str
    batches: list[dict[str, Any]]
    seconds: list[float] = field(default_factory=list)
    loss: float = 0.0
    gradient: torch.Tensor = field(default_factory=lambda: torch.zeros(0))


def main() -> int:
    """Measure, print the table, write it to a dated file."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("-n", type=int, default=5, help="runs of each layout (default 5)")
    arguments.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="folder of the result")
    args = arguments.parse_args()
    torch.set_num_threads(1)
    attention.register()
    text = report([table(name, rows, args.n) for name in MODELS for rows in (2, 4)], args.n)
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / f"{dt.datetime.now(dt.UTC):%Y-%m-%d}-layout.md"
    path.write_text(text, encoding="utf-8")
    print(text)
    print(f"written to {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")
    return 0


def table(name: str, rows: int, runs: int) -> list[str]:
    """The lines of one model and batch size."""
    hidden, layers, vocabulary = MODELS[name]
    documents = packed_documents(rows, vocabulary)
    tokens = sum(len(each) for row in documents for each in row)
    trainers = {each: trainer(each, hidden, layers, vocabulary) for each in ("sdpa", attention.SDPA_DOCUMENTS)}
    layouts = layouts_of(documents)
    for run in range(runs + 1):  # the first one warms up
        for layout in layouts:
            measure(layout, trainers[layout.implementation])
            if not run:
                layout.seconds.clear()
    first = layouts[0]
    lines = []
    for each in layouts:
        speed = tokens / statistics.median(each.seconds)
        ratio = speed * statistics.median(first.seconds) / tokens
        apart = (each.gradient - first.gradient).abs().max() / first.gradient.abs().max()
        lines.append(
            f"| {name}, {rows} rows | {each.name} | `{each.implementation}` | {speed:,.0f} | {ratio:.2f} "
            f"| {abs(each.loss - first.loss):.0e} | {apart:.0e} |"
        )
        print(lines[-1], flush=True)
    return lines


def packed_documents(rows: int, vocabulary: int) -> list[list[list[int]]]:
    """Rows of documents, packed best-fit decreasing and drawn from a larger set."""
    random = np.random.default_rng(0)
    lengths = np.clip(random.lognormal(np.log(180), 0.45, rows * 50), 8, MAX_LENGTH).astype(int)
    plan = pack(lengths, MAX_LENGTH, "bfd")
    chosen = random.permutation(len(plan) - 1)[:rows]  # the last row is not full
    parts = [range(plan.ends[row - 1] if row else 0, plan.ends[row]) for row in chosen]
    return [[random.integers(3, vocabulary, plan.stop[piece]).tolist() for piece in part] for part in parts]


def layouts_of(documents: list[list[list[int]]]) -> list[Layout]:
    """The layouts compared, the reference first."""
    rows = [
        {"input_ids": list(chain.from_iterable(row)), "seq_lengths": [len(each) for each in row]} for row in documents
    ]
    flat: Callable[[Any], Any] = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)
    padded: Callable[[Any], Any] = DataCollatorForLanguageModeling(pad_token_id=0)
    each = [flat([row]) for row in rows]
    ours = attention.SDPA_DOCUMENTS
    return [
        Layout("one row of all, as TRL lays it out", "sdpa", [flat(rows)]),
        Layout("a packed row at a time", "sdpa", each),
        Layout(
            "unpacked, padded to the longest", "sdpa", [padded([{"input_ids": d} for row in documents for d in row])]
        ),
        Layout("one row of all, as TRL lays it out", ours, [flat(rows)]),
        Layout("a packed row at a time", ours, each),
    ]


def trainer(implementation: str, hidden: int, layers: int, vocabulary: int) -> SFTTrainer:
    """TRL's trainer of a Qwen3 model with random weights, the same for each implementation."""
    words = {"<pad>": 0, "<s>": 1, "</s>": 2}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, "<s>")), pad_token="<pad>", eos_token="</s>"
    )
    config = Qwen3Config(
        vocab_size=vocabulary, hidden_size=hidden, intermediate_size=3 * hidden, num_hidden_layers=layers, head_dim=32,
        num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True, use_cache=False, pad_token_id=0,
    )  # fmt: skip
    args = SFTConfig(
        output_dir=tempfile.mkdtemp(prefix="layout-"), use_cpu=True, bf16=False, report_to="none", packing=True,
        max_length=MAX_LENGTH, dataset_kwargs={"skip_prepare_dataset": True}, activation_checkpointing=False,
    )  # fmt: skip
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=implementation, dtype=torch.float32)
    some = Dataset.from_list([{"input_ids": [3, 4], "labels": [3, 4], "seq_lengths": [2]}])
    return SFTTrainer(model, args, train_dataset=some, processing_class=tokenizer)


def measure(layout: Layout, trainer_: SFTTrainer) -> None:
    """Forward and backward of all batches, once."""
    model = trainer_.model
    model.zero_grad()
    trained = sum((batch["labels"][:, 1:] != -100).sum() for batch in layout.batches)
    before, layout.loss = time.process_time(), 0.0
    for batch in layout.batches:
        loss = trainer_.compute_loss(model, dict(batch), num_items_in_batch=trained)
        loss.backward()
        layout.loss += loss.item()
    layout.seconds.append(time.process_time() - before)
    layout.gradient = torch.cat([weight.grad.flatten() for weight in model.parameters()])


def report(tables: list[list[str]], runs: int) -> str:
    """The result as a page."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    shapes = "; ".join(f"{name}: hidden {h}, {n} layers, vocabulary {v:,}" for name, (h, n, v) in MODELS.items())
    lines = [
        f"# Layout of packed batches, {dt.datetime.now(dt.UTC):%Y-%m-%d}",
        "",
        f"`OMP_NUM_THREADS=1 python benchmarks/layout.py -n {runs}`: forward and backward of TRL's loss, median of {runs} runs in turn;",
        f"rows of {MAX_LENGTH:,} tokens, float32, one thread. Qwen3 ({shapes}).",
        "Loss and gradient: largest difference to the first layout, the gradient's as a part of its largest value.",
        "",
        "| model, batch | layout | attention | tokens per CPU s | ratio | loss | gradient |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: |",
        *(line for each in tables for line in each),
        "",
        f"Machine: {processor()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}; load {load}.",
        f"Python {platform.python_version()}; {', '.join(f'{name} {installed(name)}' for name in VERSIONS)}.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    raise SystemExit(main())
