"""What merging an adapter changes: logits, KL divergence and held-out loss of each way, beside the model that was trained.

    python -m benchmarks.merge [--steps 100] [--out benchmarks/results]

`launcher run` trains the demo (0.9 M parameters) with LoRA and with QLoRA (nf4, double quantization). Everything behind
that is plain transformers and peft: the trained model is the adapter on the quantized base with its layers in training
mode (no dropout), where bitsandbytes expands the weights exactly; in eval mode some CPUs round them to bfloat16. All
logits are computed in float32; a bfloat16 result has its weights rounded, once. RUN/merged of `launcher export` is
measured too. Deeper models are random, for the rounding alone; so is the large one, for memory.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import load_from_disk
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, Qwen3Config, Qwen3ForCausalLM, logging

from benchmarks import page

ROOT = Path(__file__).resolve().parent.parent
ROWS = 40
BASE = ROOT / "recipes" / "demo" / "base"
NF4 = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}
LARGE = """
name: large
model:
  tokenizer_name_or_path: TOKENIZER
  from_config: {model_type: qwen3, vocab_size: 1024, hidden_size: 1024, intermediate_size: 4096, num_hidden_layers: 8,
    num_attention_heads: 8, num_key_value_heads: 8, head_dim: 128, max_position_embeddings: 1024, tie_word_embeddings: true}
peft: {r: 16}
data:
  datasets: [{label: tickets, path: TRAIN, max_rows: 8}]
  max_length: 128
training: {global_batch_size: 1, max_steps: 1}
"""
Rows = list[dict[str, Any]]
Logits = list[torch.Tensor]


def main() -> int:
    """Train, merge in every way, measure, write the page."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--steps", type=int, default=100, help="steps of each training (default 100)")
    arguments.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="folder of the result")
    args = arguments.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        lines = [*_preface(args.steps), *compared(folder, args.steps), "", *depths(), "", *memory(folder)]
    page.write(args.out, "merge", lines)
    return 0


def compared(folder: Path, steps: int) -> Iterator[str]:
    """A table row for each method and each way to merge."""
    yield "| trained | merged | type | max abs. Δ logit | mean KL | held-out loss |"
    yield "| --- | --- | --- | ---: | ---: | ---: |"
    for method, sets in {"LoRA": [], "QLoRA nf4": ["quantization.load_in_4bit=true"]}.items():
        run = _trained(folder, method.split()[-1].lower(), steps, sets)
        rows = load_from_disk(run / "data" / "eval-held_out").to_list()[:ROWS]
        quantized = bool(sets)
        adapter = run / "model"
        reference = logits(PeftModel.from_pretrained(base(quantized=quantized), str(adapter)).train(), rows)
        yield _row(method, "no: adapter on its base", "float32", reference, reference, rows)
        for name, merged in ways(adapter, quantized=quantized):
            yield _row(method, name, "float32", logits(merged, rows), reference, rows)
            yield _row(method, name, "bfloat16", logits(_rounded(merged), rows), reference, rows)
        for each in ("quantized", "original") if quantized else ("original",):
            _launcher(folder, "export", run, "--merge-base", each)
            saved = AutoModelForCausalLM.from_pretrained(run / "merged")
            yield _row(
                method, f"`launcher export --merge-base {each}`", "float32", logits(saved, rows), reference, rows
            )
        untuned = logits(base(quantized=quantized).train(), rows)
        yield _row(method, "no: the base alone", "float32", untuned, reference, rows)


def ways(adapter: Path, *, quantized: bool) -> Iterator[tuple[str, Any]]:
    """Each way to merge, with the model that comes out, all weights expanded."""
    yield "original base", PeftModel.from_pretrained(base(), str(adapter)).merge_and_unload()
    if quantized:
        expanded = base(quantized=True).dequantize(dtype=torch.float32)
        yield "quantized base, expanded first", PeftModel.from_pretrained(expanded, str(adapter)).merge_and_unload()
        rounded_again = PeftModel.from_pretrained(base(quantized=True), str(adapter)).merge_and_unload()
        yield "into the 4-bit layers, as peft does", rounded_again.dequantize(dtype=torch.float32)


def depths() -> Iterator[str]:
    """How far rounding the merged weights to 16 bits moves the logits of random models, by depth."""
    yield "Rounding a merged model once, by depth (random weights, hidden size 256, an adapter of rank 16): max abs. Δ logit"
    yield "as a share of the largest logit."
    yield ""
    yield "| layers | float32 | bfloat16 | float16 |"
    yield "| ---: | ---: | ---: | ---: |"
    for layers in (2, 8, 24, 48):
        torch.manual_seed(0)
        config = Qwen3Config(vocab_size=1024, hidden_size=256, intermediate_size=768, num_hidden_layers=layers,
                             num_attention_heads=8, num_key_value_heads=4, head_dim=32, tie_word_embeddings=True,
                             initializer_range=0.06)  # fmt: skip
        settings = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", init_lora_weights=False)
        model = get_peft_model(Qwen3ForCausalLM(config), settings)
        rows: Rows = [{"input_ids": torch.randint(0, 1024, (64,)).tolist()} for _ in range(4)]
        before = logits(model, rows)
        merged = model.merge_and_unload()
        scale = max(float(each.abs().max()) for each in before)
        found = [largest(logits(merged, rows), before)]
        exact = {name: weight.clone() for name, weight in merged.state_dict().items()}
        for kind in (torch.bfloat16, torch.float16):
            merged.load_state_dict({name: weight.to(kind).float() for name, weight in exact.items()})
            found.append(largest(logits(merged, rows), before))
        yield f"| {layers} | " + " | ".join(f"{each / scale:.2g}" for each in found) + " |"


def memory(folder: Path) -> Iterator[str]:
    """Peak memory of the export stage beside the size of the weights."""
    tokenizer, train = ROOT / "recipes" / "demo" / "tokenizer", ROOT / "recipes" / "demo" / "train.jsonl"
    (folder / "large.yaml").write_text(LARGE.replace("TOKENIZER", str(tokenizer)).replace("TRAIN", str(train)))
    yield "Peak resident memory of the export stage, less that of the same stage on the demo's model (imports). The base's file"
    yield "(float32, 0.50 GiB) is mapped while it is read; of the peak, its pages are what the system may drop."
    yield ""
    yield "| trained | type | base | RUN/merged | peak | seconds |"
    yield "| --- | --- | --- | ---: | ---: | ---: |"
    small = _exported(folder / "runs" / "lora")["memory_gib"]
    for method, dtype, sets in (
        ("LoRA", "float32", []),
        ("QLoRA nf4", "bfloat16", ["quantization.load_in_4bit=true"]),
    ):
        name = f"large-{method.split()[-1].lower()}-{dtype}"
        run = _run(folder, folder / "large.yaml", [f"name={name}", f"model.dtype={dtype}", *sets])
        for each in ("original", "quantized") if "nf4" in method else ("original",):
            _launcher(folder, "export", run, "--merge-base", each)
            found = _exported(run)
            size = f"{found['bytes'] / 2**30:.2f} GiB"
            yield f"| {method} | {dtype} | {each} | {size} | {found['memory_gib'] - small:.2f} GiB | {found['seconds']:.0f} |"


def base(*, quantized: bool = False) -> Any:
    """The demo's base, in float32 or in 4 bits."""
    settings = BitsAndBytesConfig(**NF4, bnb_4bit_compute_dtype=torch.float32) if quantized else None
    return AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32, quantization_config=settings)


@torch.no_grad()
def logits(model: Any, rows: Rows) -> Logits:
    """[T, V] for each row."""
    return [model(input_ids=torch.tensor([row["input_ids"]])).logits[0].float() for row in rows]


def largest(one: Logits, other: Logits) -> float:
    """The largest absolute difference."""
    return max(float((a - b).abs().max()) for a, b in zip(one, other, strict=True))


def _rounded(model: Any) -> Any:
    return model.to(torch.bfloat16).float()


def _row(method: str, name: str, kind: str, found: Logits, reference: Logits, rows: Rows) -> str:
    away = [
        torch.nn.functional.kl_div(a.log_softmax(-1), b.log_softmax(-1), reduction="none", log_target=True).sum(-1)
        for a, b in zip(found, reference, strict=True)
    ]
    loss = torch.cat(
        [
            torch.nn.functional.cross_entropy(each[:-1], torch.tensor(row["labels"])[1:], reduction="none")[
                torch.tensor(row["labels"])[1:] != -100
            ]
            for each, row in zip(found, rows, strict=True)
        ]
    )
    mean = max(0.0, float(torch.cat(away).mean()))
    return f"| {method} | {name} | {kind} | {largest(found, reference):.2g} | {mean:.2g} | {float(loss.mean()):.6f} |"


def _trained(folder: Path, name: str, steps: int, sets: Sequence[str]) -> Path:
    quick = ["evaluation={}", f"training.max_steps={steps}", f"checkpoint.save_steps={steps}"]
    return _run(folder, ROOT / "recipes" / "demo.yaml", [f"name={name}", *quick, *sets])


def _run(folder: Path, recipe: Path, sets: Sequence[str]) -> Path:
    words = [word for each in sets for word in ("--set", each)]
    _launcher(folder, "run", recipe, "--gpus", "none", *words)
    return folder / "runs" / sets[0].removeprefix("name=")


def _launcher(folder: Path, *words: object) -> None:
    argv = [sys.executable, "-m", "launcher", *map(str, words), "--runs", str(folder / "runs")]
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(argv)}\n{done.stderr}")


def _exported(run: Path) -> Mapping[str, Any]:
    lines = (run / "events.jsonl").read_text(encoding="utf-8").splitlines()
    return next(each for each in map(json.loads, reversed(lines)) if each["event"] == "export")


def _preface(steps: int) -> list[str]:
    return [
        f"`python -m benchmarks.merge --steps {steps}`: the demo's base, {ROWS} held-out rows, all their tokens; the loss is of the",
        "tokens that are trained. Differences are from the trained model, the first line of each method.",
        "",
    ]


if __name__ == "__main__":
    torch.set_num_threads(2)
    raise SystemExit(main())
