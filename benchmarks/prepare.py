"""Speed of `prepare` against TRL's own preparation: same rows, same tokenizer, same machine, in turn.

    python -m benchmarks.prepare --data FOLDER [-n 3] [--out benchmarks/results]

FOLDER/gsm8k/train.jsonl is GSM8K (7,473 rows). As prompt and completion it is read as it is; as chat, three questions
and answers with a system prompt are one conversation of seven messages. Each measurement is a fresh process, warmed up on a few rows;
CPU seconds are user + system of the process and its children, from the file to the labelled rows on disk.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks import page

ROOT = Path(__file__).resolve().parent.parent
MAX_LENGTH = 2048
SYSTEM = "You are a patient teacher. Solve the problem step by step and give the result after ####."
VARIANTS = ("floor", "trl", "ours", "ours, 2 processes", "ours, with quality steps")


def main() -> int:
    """Measure every variant in turn, n times, and write the page."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--data", type=Path, required=True, help="folder that holds gsm8k/train.jsonl")
    arguments.add_argument("-n", type=int, default=3, help="runs of each variant (default 3)")
    arguments.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="folder of the result")
    arguments.add_argument("--case", nargs=3, help=argparse.SUPPRESS)
    args = arguments.parse_args()
    if args.case:
        print("result", json.dumps(CASES[args.case[0]](*args.case[1:])))
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for kind in ("pair", "chat"):
            _rows(folder / f"{kind}.jsonl", _read(args.data / "gsm8k" / "train.jsonl"), kind)
        found: dict[tuple[str, str], list[dict[str, float]]] = {}
        for _ in range(args.n):
            for kind in ("pair", "chat"):
                for variant in VARIANTS:
                    found.setdefault((kind, variant), []).append(_measured(variant, folder, kind))
        starts = [_cached_start(folder) for _ in range(args.n)]
    page.write(args.out, "prepare", _page(found, starts, args.n))
    return 0


def _read(file: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def _rows(file: Path, rows: list[dict[str, str]], kind: str) -> None:
    made = ({"prompt": row["question"], "completion": row["answer"]} for row in rows)
    chats = ({"messages": list(_conversation(rows[at : at + 3]))} for at in range(0, len(rows), 3))
    with file.open("w", encoding="utf-8") as out:
        out.writelines(json.dumps(row) + "\n" for row in (made if kind == "pair" else chats))


def _conversation(rows: list[dict[str, str]]) -> Iterator[dict[str, str]]:
    yield {"role": "system", "content": SYSTEM}
    for row in rows:
        yield {"role": "user", "content": row["question"]}
        yield {"role": "assistant", "content": row["answer"]}


def _measured(variant: str, folder: Path, kind: str) -> dict[str, float]:
    """One variant in a process of its own."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    argv = [sys.executable, "-m", "benchmarks.prepare", "--data", ".", "--case", variant, str(folder), kind]
    said = subprocess.run(argv, cwd=ROOT, env=env, check=True, capture_output=True, text=True).stdout
    result = next(line for line in said.splitlines() if line.startswith("result "))
    shutil.rmtree(folder / "work", ignore_errors=True)
    return dict(json.loads(result.removeprefix("result ")))


# ── what is measured ──────────────────────────────────────────────────────────────────────────────────────────────


def _timed(work: Callable[[], tuple[int, int]]) -> dict[str, float]:
    before, clock = _cpu_s(), time.perf_counter()
    rows, tokens = work()
    return {"cpu_s": _cpu_s() - before, "wall_s": time.perf_counter() - clock, "rows": rows, "tokens": tokens}


def _cpu_s() -> float:
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


def _tokenizer() -> Any:
    from transformers import AutoTokenizer

    from tests.support import tiny

    tokenizer = AutoTokenizer.from_pretrained(ROOT / "recipes" / "demo" / "tokenizer")
    tokenizer.chat_template = tiny.CHATML
    return tokenizer


def floor(folder: str, kind: str) -> dict[str, float]:
    """Reading, rendering and encoding in batches: no labels, nothing written."""
    from transformers.utils.chat_template_utils import render_jinja_template

    tokenizer = _tokenizer()
    tokenizer.backend_tokenizer.encode_batch(["warm up"])

    def work() -> tuple[int, int]:
        rows = _read(Path(folder) / f"{kind}.jsonl")
        special = tokenizer.special_tokens_map
        if kind == "chat":
            conversations = [row["messages"] for row in rows]
            texts, _ = render_jinja_template(
                conversations=conversations, chat_template=tokenizer.chat_template, **special
            )
        else:
            texts = [row["prompt"] + row["completion"] + tokenizer.eos_token for row in rows]
        encoded = tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=kind == "pair")
        return len(rows), sum(len(each.ids) for each in encoded)

    return _timed(work)


def trl(folder: str, kind: str) -> dict[str, float]:
    """`load_dataset` and what SFTTrainer does with it, by its own method, with one process as is its default."""
    import datasets
    import torch
    from transformers import AutoModelForCausalLM
    from trl import SFTConfig, SFTTrainer

    from tests.support import tiny

    torch.set_num_threads(1)
    work_folder = Path(folder) / "work"
    datasets.config.HF_DATASETS_CACHE = work_folder / "cache"
    model = AutoModelForCausalLM.from_pretrained(tiny.model(work_folder / "model"))
    args = SFTConfig(
        output_dir=str(work_folder / "out"), use_cpu=True, bf16=False, report_to="none", max_length=MAX_LENGTH,
        assistant_only_loss=kind == "chat",
    )  # fmt: skip
    rows = _read(Path(folder) / f"{kind}.jsonl")
    few = datasets.Dataset.from_list(rows[:8])
    tokenizer = _tokenizer()
    trainer = SFTTrainer(model, args, train_dataset=few, processing_class=tokenizer)

    def work() -> tuple[int, int]:
        file = str(Path(folder) / f"{kind}.jsonl")
        loaded = datasets.load_dataset("json", data_files=file, split="train", cache_dir=str(work_folder / "cache"))
        made = trainer._prepare_dataset(  # noqa: SLF001 - the reference
            loaded, tokenizer, args, packing=False, formatting_func=None, dataset_name="train"
        )
        return len(made), 0

    return _timed(work)


def ours(folder: str, kind: str, *, processes: int = 1, quality: bool = False) -> dict[str, float]:
    """The stage `prepare`, warmed up on a hundred rows, as TRL's trainer is on eight: it reads, tokenises, writes shards and rows."""
    from launcher.worker.data.prepare import prepare
    from launcher.worker.data.progress import Progress
    from launcher.worker.job import load
    from tests.support import tiny

    os.environ["LAUNCHER_NUM_PROC"] = str(processes)
    work_folder = Path(folder) / "work"
    model = tiny.model(work_folder / "model", vocab_size=1024)
    _tokenizer().save_pretrained(model)
    data: dict[str, Any] = {"max_length": MAX_LENGTH}
    if not quality:
        data |= {"deduplicate": "none", "decontaminate": False}
    plan = tiny.plan(data=data, eval_sources=tiny.held_out("held_out", 0.02) if quality else ())
    file = Path(folder) / f"{kind}.jsonl"
    few = work_folder / "few.jsonl"
    few.write_text("".join(islice(file.open(encoding="utf-8"), 100)), encoding="utf-8")
    runs = {
        name: tiny.run_dir(work_folder / name / "run", plan, {"model": str(model), "data.train": str(rows)})
        for name, rows in (("warm", few), ("measured", file))
    }
    job = load(runs["measured"].root)
    prepare(load(runs["warm"].root), Progress(lambda _: None, runs["warm"], "prepare"))

    def work() -> tuple[int, int]:
        prepare(job, Progress(lambda _: None, runs["measured"], "prepare"))
        facts = job.data_facts()["sets"]["train"]
        return int(facts["rows"]), int(facts["tokens"])

    return _timed(work)


CASES: dict[str, Callable[..., dict[str, float]]] = {
    "floor": floor,
    "trl": trl,
    "ours": ours,
    "ours, 2 processes": lambda folder, kind: ours(folder, kind, processes=2),
    "ours, with quality steps": lambda folder, kind: ours(folder, kind, quality=True),
}


def _cached_start(folder: Path) -> float:
    """Wall seconds of `launcher prepare` for a new run whose data another run has prepared."""
    recipe = folder / "cached.yaml"
    recipe.write_text(
        f"model: {{model_name_or_path: {ROOT}/recipes/demo/base, tokenizer_name_or_path: {ROOT}/recipes/demo/tokenizer}}\n"
        f"data: {{max_length: 1024, datasets: [{{label: gsm8k, path: {folder}/pair.jsonl}}]}}\n"
    )
    argv = [str(Path(sys.executable).parent / "launcher"), "prepare", str(recipe), "--runs", str(folder / "runs")]
    clock = 0.0
    for name in ("first", "second"):
        shutil.rmtree(folder / "runs" / name, ignore_errors=True)
        clock = time.perf_counter()
        subprocess.run([*argv, "--set", f"name={name}"], check=True, capture_output=True)
    return time.perf_counter() - clock


# ── the page ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _page(found: dict[tuple[str, str], list[dict[str, float]]], starts: list[float], runs: int) -> list[str]:
    lines = [
        f"`python -m benchmarks.prepare --data FOLDER -n {runs}`: median of {runs} runs in turn, lowest to highest in brackets.",
        "",
        "From the jsonl file to labelled rows on disk; imports, model and trainer are not counted. `floor` reads, renders and",
        "encodes in batches, and writes nothing. TRL runs `load_dataset` and SFTTrainer's own preparation (chat with",
        "`assistant_only_loss`), one process, its default. Quality steps: exact duplicates, 2 % held out, decontamination.",
    ]
    for kind, title in (("pair", "Prompt and completion, 7,473 rows"), ("chat", "Chat, 2,491 conversations")):
        tokens = found[kind, "ours"][0]["tokens"]
        base = {name: statistics.median(run[name] for run in found[kind, "trl"]) for name in ("cpu_s", "wall_s")}
        lines += [
            "",
            f"## {title}, {tokens / 1e6:.2f} M tokens",
            "",
            "| | CPU s | M tokens per CPU-s | × TRL per CPU-s | wall s | × TRL in wall time |",
            "| --- | ---: | ---: | ---: | ---: | ---: |",
        ]
        for variant in VARIANTS:
            cpu = [run["cpu_s"] for run in found[kind, variant]]
            wall = [run["wall_s"] for run in found[kind, variant]]
            middle, wall_middle = statistics.median(cpu), statistics.median(wall)
            lines.append(
                f"| {variant} | {middle:.2f} ({min(cpu):.2f}–{max(cpu):.2f}) | {tokens / middle / 1e6:.2f} "
                f"| {base['cpu_s'] / middle:.2f} | {wall_middle:.2f} ({min(wall):.2f}–{max(wall):.2f}) | {base['wall_s'] / wall_middle:.2f} |"
            )
    lines += [
        "",
        "## Cached start",
        "",
        f"`launcher prepare` of a new run over prepared data, whole process, wall seconds: {_three(starts)}.",
    ]
    return lines


def _three(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f}–{max(values):.2f})"


if __name__ == "__main__":
    raise SystemExit(main())
