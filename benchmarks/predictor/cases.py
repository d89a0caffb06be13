"""What is measured: models with random weights, and recipes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any
from unittest import mock

from launcher.plan import checks_sharding
from launcher.plan.facts import gather
from launcher.plan.make import Planned, make_plan
from launcher.predict.architecture import architecture
from launcher.recipe.load import load_recipe
from launcher.render import files
from launcher.runs.paths import RunDir
from tests.support import planning, tiny, trained, warm

METHODS = {
    "full": "",
    "lora": "peft: {r: 16}\n",
    "qlora": "peft: {r: 16}\nquantization: {load_in_4bit: true}\n",
    "int8": "peft: {r: 16}\nquantization: {load_in_8bit: true}\n",
}
MODEL = {
    "model_type": "qwen3", "hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 4096, "max_position_embeddings": 2048, "tie_word_embeddings": False,
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One configuration."""

    method: str = "full"
    model: dict[str, Any] = field(default_factory=dict)
    length: int = 512
    rows: int = 1
    packed: int = 0
    """Documents of a packed row; 0: rows are not packed."""
    strategy: str = "ddp"
    ranks: int = 1
    offload: str = "none"
    accumulation: int = 1
    bucket: int = 1_000_000
    """Elements of DeepSpeed's buckets; its default, 500 million, is larger than these models."""
    sets: tuple[str, ...] = ()


RECIPE = """\
model: {{model_name_or_path: ./model}}
{method}data:
  datasets: [{{label: train, path: train.jsonl, format: tokenized}}]
  max_length: {length}
  packing: {packing}
  deduplicate: none
  decontaminate: false
sharding: {{strategy: {strategy}, offload: {offload}{preset}}}
training: {{global_batch_size: {batch}, per_device_train_batch_size: {rows}, max_steps: 4, logging_steps: 1,
  activation_checkpointing: false, optim: adamw_torch_fused}}
checkpoint: {{save_steps: 4}}
"""


def config(case: Case) -> dict[str, Any]:
    """The model's configuration."""
    return {**MODEL, **case.model}


def planned(case: Case, base: Path) -> Planned:
    """The plan of a case whose model, a configuration and a tokenizer, lies in `base`; weights are needed only to run it."""
    folder = base / "model"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "config.json").exists():
        (folder / "config.json").write_text(json.dumps(config(case)))
        _hollow(folder / "model.safetensors", config(case))
    tiny.tokenizer(folder)
    batch = case.rows * case.ranks * case.accumulation
    tiny.jsonl(base / "train.jsonl", _rows(case, batch * 4))
    if case.strategy.startswith("zero"):
        settings = {"stage": int(case.strategy[-1]), "reduce_bucket_size": case.bucket}
        (base / "preset.json").write_text(json.dumps({"zero_optimization": settings}))
    recipe = base / "run.yaml"
    recipe.write_text(
        RECIPE.format(
            method=METHODS[case.method], length=case.length, packing=str(bool(case.packed)).lower(),
            strategy=case.strategy, offload=case.offload, batch=batch, rows=case.rows,
            preset=", preset: preset.json" if case.strategy.startswith("zero") else "",
        )
    )  # fmt: skip
    with mock.patch.object(checks_sharding, "NEEDS_GPU", ()):
        loaded = load_recipe(recipe, [f"launch.processes={case.ranks}", *case.sets])
        return make_plan(loaded, planning.CPU, gather(loaded, planning.CPU))


def _hollow(file: Path, settings: dict[str, Any]) -> None:
    """A weights file of the right names and shapes whose numbers are a hole in it."""
    model = architecture(settings)
    assert model is not None
    header, end = {}, 0
    for name, shape in model.tensors.items():
        start, end = end, end + 4 * prod(shape)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    with file.open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        out.truncate(8 + len(text) + end)


def measured(case: Case, base: Path) -> list[dict[str, Any]]:
    """What each rank measured.

    Raises:
        RuntimeError: a rank did not end well; its log is in the message.
    """
    folder = str(base / "model")
    made = warm.run("benchmarks.predictor.cases:make_model", {"folder": folder, "settings": config(case)})
    if made.codes != (0,):
        raise RuntimeError(made.logs[0])
    found = planned(case, base)
    run = RunDir(base / "run")
    files.write(found, run.root)
    trained.prepare(run)
    train = next(job for job in found.plan.jobs if job.stage == "train")
    variables = {**train.env, "LAUNCHER_ATTEMPT": "1", "OMP_NUM_THREADS": "1"}
    result = warm.run(
        "benchmarks.predictor.measure:rank", {"run_dir": str(run.root)}, ranks=case.ranks, torchrun=True, env=variables,
        timeout=900,
    )  # fmt: skip
    written = [run.root / f"memory-{rank}.json" for rank in range(case.ranks)]
    if set(result.codes) != {0} or not all(each.exists() for each in written):
        logs = [run.rank_log(1, rank) for rank in range(case.ranks)]
        text = "\n".join(each.read_text(errors="replace")[-3000:] for each in logs if each.exists())
        raise RuntimeError(f"exit codes {result.codes}\n{text}")
    return [json.loads(each.read_text()) for each in written]


def _rows(case: Case, number: int) -> list[dict[str, Any]]:
    """Rows of exactly the row's length; where more than one makes a batch unpacked, every other is half as long."""
    if case.packed:
        piece = case.length // case.packed
        return [{"input_ids": _ids(piece, seed)} for seed in range(number * case.packed)]
    return [{"input_ids": _ids(case.length // (1 + (case.rows > 1) * (seed % 2)), seed)} for seed in range(number)]


def _ids(length: int, seed: int) -> list[int]:
    return [(seed * 131 + place * 7919) % 300 + 5 for place in range(length)]


def make_model(folder: str, settings: dict[str, Any]) -> int:
    """Save a model with random weights; returns its parameters."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    chosen = dict(settings)
    dtype = getattr(torch, chosen.pop("dtype", "float32"))
    config = AutoConfig.for_model(chosen.pop("model_type"), **chosen)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    model.save_pretrained(folder)
    return int(sum(each.numel() for each in model.parameters()))
