"""What safety costs: blocking time of a save, and the step time of a watched run, against plain TRL in turn.

    python -m benchmarks.saving [-n 3] [--ranks 1 2] [--out benchmarks/results]

One recipe, prepared once: `launcher run` trains it with everything switched on (heartbeats, monitor, agreement at each
step, events, committed checkpoints), and a plain TRL script trains the same rows with the same arguments under the same
torchrun. A step is the median time from one logged step to the next in which nothing is saved. A save of plain TRL is
the time in `_save_checkpoint`; ours is `blocked_s` of the commit event, and `seconds` until the checkpoint counts.
Two runs differ by more than what is looked for, so the added work is also timed by itself, inside a rank: all callbacks
and beats of ours between two steps, as a share of the step.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks import page

ROOT = Path(__file__).resolve().parent.parent
STEPS, SAVE_STEPS = 60, 15
RECIPE = f"""
task: sft
model:
  tokenizer_name_or_path: {ROOT}/recipes/demo/tokenizer
  dtype: float32
  from_config: {{model_type: qwen3, vocab_size: 1024, hidden_size: 256, intermediate_size: 1024, num_hidden_layers: 6,
    num_attention_heads: 8, num_key_value_heads: 4, head_dim: 32, max_position_embeddings: 1024, tie_word_embeddings: true}}
data:
  datasets: [{{label: shop, path: rows.jsonl, format: prompt_completion}}]
  max_length: 384
  deduplicate: none
training: {{global_batch_size: 4, gradient_accumulation_steps: 1, max_steps: {STEPS}, learning_rate: 1.0e-3, logging_steps: 1}}
checkpoint: {{save_steps: {SAVE_STEPS}, save_total_limit: 3}}
"""


def main() -> int:
    """Measure both in turn, n times for each number of ranks, and write the page."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("-n", type=int, default=3, help="runs of each (default 3)")
    arguments.add_argument("--ranks", type=int, nargs="+", default=[1, 2], help="numbers of ranks (default 1 2)")
    arguments.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="folder of the result")
    arguments.add_argument("--plain", nargs=2, help=argparse.SUPPRESS)
    arguments.add_argument("--added", nargs=2, help=argparse.SUPPRESS)
    args = arguments.parse_args()
    if args.plain:
        plain(*map(Path, args.plain))
        return 0
    if args.added:
        added(*map(Path, args.added))
        return 0
    lines = []
    for ranks in args.ranks:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            _inputs(folder)
            found: dict[str, list[dict[str, Any]]] = {"plain TRL": [], "launcher": []}
            for number in range(args.n):
                found["launcher"].append(_ours(folder, ranks, number))
                found["plain TRL"].append(_theirs(folder, ranks, number))
            lines += [*_table(found, ranks), ""]
            if ranks == 1:
                lines += [_added(folder), ""]
    page.write(args.out, "saving", [*_preface(args.n), *lines])
    return 0


def _inputs(folder: Path) -> None:
    """Rows of about 250 tokens: the demo's messages, some after another."""
    rows = [json.loads(line) for line in (ROOT / "recipes" / "demo" / "train.jsonl").read_text().splitlines()]
    texts = [json.dumps(row) for row in rows]
    with (folder / "rows.jsonl").open("w", encoding="utf-8") as file:
        for number in range(1200):
            text = " ".join(texts[(number + step) % len(texts)] for step in range(3))
            file.write(json.dumps({"prompt": f"{number} {text[:300]}", "completion": text[300:650]}) + "\n")
    (folder / "bench.yaml").write_text(RECIPE, encoding="utf-8")


def _ours(folder: Path, ranks: int, number: int) -> dict[str, Any]:
    runs = folder / f"runs-{number}"
    _run([sys.executable, "-m", "launcher", "run", "bench.yaml", "--runs", str(runs), "--gpus", "none",
          "--set", f"launch.processes={ranks}"], folder)  # fmt: skip
    lines = (runs / "bench" / "events.jsonl").read_text(encoding="utf-8").splitlines()
    events = [json.loads(line) for line in lines]
    steps = [(event["step"], event["time"]) for event in events if event["event"] == "step"]
    commits = [event for event in events if event["event"] == "commit"]
    return {
        "steps_s": _steps(steps),
        "total_s": steps[-1][1] - steps[0][1],
        "blocked_s": statistics.median(event["blocked_s"] for event in commits),
        "whole_s": statistics.median(event["seconds"] for event in commits),
        "mib": sum(path.stat().st_size for path in (runs / "bench" / "checkpoints" / f"checkpoint-{STEPS}").iterdir())
        / 2**20,
    }


def _theirs(folder: Path, ranks: int, number: int) -> dict[str, Any]:
    """The plain script on the rows that our run has prepared, in the environment that our plan gives its ranks."""
    out, run = folder / f"plain-{number}", folder / f"runs-{number}" / "bench"
    (train,) = [job for job in json.loads((run / "plan.json").read_text())["jobs"] if job["stage"] == "train"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    _run([*torchrun, "-m", "benchmarks.saving", "--plain", str(run), str(out)], ROOT, train["env"])
    return dict(json.loads((out / "result.json").read_text()))


def _added(folder: Path) -> str:
    runs, out = folder / "runs-added", folder / "added.json"
    _run([sys.executable, "-m", "launcher", "prepare", "bench.yaml", "--runs", str(runs)], folder)
    rank = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "LAUNCHER_ATTEMPT": "2"}
    argv = [sys.executable, "-m", "benchmarks.saving", "--added", str(runs / "bench"), str(out)]
    _run(argv, ROOT, {**rank, "OMP_NUM_THREADS": str(os.cpu_count())})
    found = json.loads(out.read_text())
    return (
        f"Added to a step, timed in the rank: {found['callbacks_s'] * 1e3:.2f} ms in callbacks, "
        f"{found['beats'] * found['beat_s'] * 1e3:.3f} ms in {found['beats']:.0f} beats; together "
        f"{found['share']:.2%} of a step of {found['step_s']:.3f} s. The monitor beside it used {found['monitor_share']:.2%} of one core."
    )


def added(run: Path, out: Path) -> None:
    """Train as a rank does, with a clock around every callback of ours that runs between two steps."""
    import time

    from launcher.worker import beats, boundary, callbacks, loss_watch, monitor
    from launcher.worker import main as worker

    spent = 0.0
    events_of_a_step = ("on_step_begin", "on_pre_optimizer_step", "on_optimizer_step", "on_step_end", "on_log")

    def timed(method: Any) -> Any:
        def clocked(*args: Any, **kwargs: Any) -> Any:
            nonlocal spent
            started = time.perf_counter()
            try:
                return method(*args, **kwargs)
            finally:
                spent += time.perf_counter() - started

        return clocked

    for kind in (boundary.Boundary, callbacks.Events, callbacks.StepClock, loss_watch.LossWatch):
        for name in events_of_a_step:
            if name in vars(kind):
                setattr(kind, name, timed(vars(kind)[name]))
    started = time.monotonic()
    code = worker.main(str(run), os.getppid())
    assert code == 0, code
    (watcher,) = monitor._started  # noqa: SLF001 - the process beside the rank
    used = sum(map(int, Path(f"/proc/{watcher.pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
    wall = time.monotonic() - started
    told = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    step_s = statistics.median(event["seconds"] for event in told if event["event"] == "step")
    counted, before = 10_000, time.perf_counter()
    for _ in range(counted):
        beats.beat("data")
    beat_s = (time.perf_counter() - before) / counted
    per_step, passed = (
        spent / STEPS,
        8,
    )  # data, data, forward, backward, update, agree, and two of logging and the next step
    out.write_text(
        json.dumps({
            "callbacks_s": per_step, "beats": passed, "beat_s": beat_s, "step_s": step_s,
            "share": (per_step + passed * beat_s) / step_s, "monitor_share": used / os.sysconf("SC_CLK_TCK") / wall,
        })
    )  # fmt: skip


def _run(argv: list[str], cwd: Path, threads: Mapping[str, str] | None = None) -> None:
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", **(threads or {})}
    env["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(argv, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


def _steps(steps: list[tuple[int, float]]) -> list[float]:
    """Seconds from one logged step to the next with no save between or shortly before them; the first five warm up."""
    return [b[1] - a[1] for a, b in pairwise(steps) if a[0] > 5 and a[0] % SAVE_STEPS > 1]


def plain(run: Path, out: Path) -> None:
    """What a person would write with TRL alone, with a clock around saving."""
    import time

    import torch
    from datasets import load_from_disk
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from launcher.worker.process import forget_torchrun

    if os.environ["WORLD_SIZE"] == "1":
        forget_torchrun()
    steps: list[tuple[int, float]] = []
    saves: list[float] = []

    class Clock(TrainerCallback):
        def on_log(self, _: Any, state: Any, *__: Any, logs: Any = None, **___: Any) -> None:
            if logs and "loss" in logs:
                steps.append((state.global_step, time.time()))

    class Timed(SFTTrainer):
        def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
            started = time.monotonic()
            super()._save_checkpoint(*args, **kwargs)
            saves.append(time.monotonic() - started)

    plan = json.loads((run / "plan.json").read_text())
    arguments = {**plan["trainer"], "max_steps": STEPS, "save_total_limit": 3}
    model = AutoModelForCausalLM.from_pretrained(run / "base", dtype=torch.float32)
    trainer = Timed(
        model=model, args=SFTConfig(output_dir=str(out), **arguments), train_dataset=load_from_disk(run / "data" / "train"),
        processing_class=AutoTokenizer.from_pretrained(run / "tokenizer"), callbacks=[Clock()],
    )  # fmt: skip
    trainer.train()
    if trainer.is_world_process_zero():
        result = {
            "steps_s": _steps(steps),
            "total_s": steps[-1][1] - steps[0][1],
            "blocked_s": statistics.median(saves),
            "whole_s": statistics.median(saves),
        }
        (out / "result.json").write_text(json.dumps(result))


def _preface(runs: int) -> list[str]:
    return [
        f"`python -m benchmarks.saving -n {runs}`: {STEPS} steps, a checkpoint every {SAVE_STEPS}, both cores shared by the ranks;",
        f"the two take turns, medians of {runs}. A batch of 4 × about 250 tokens, a model of 6 layers of width 256.",
        "",
    ]


def _table(found: dict[str, list[dict[str, Any]]], ranks: int) -> list[str]:
    middle = {name: _middle(runs) for name, runs in found.items()}
    ours, theirs = middle["launcher"], middle["plain TRL"]
    rows = [
        f"## {ranks} rank{'s' if ranks > 1 else ''}, checkpoints of {ours['mib']:.1f} MiB",
        "",
        "| | plain TRL | launcher | ratio |",
        "|---|---|---|---|",
    ]
    names = {
        "step_s": "a step, median of all runs (s)",
        "undisturbed_s": "a step, 10th percentile of all runs: least disturbed by the machine (s)",
        "blocked_s": "training waits for a save (s)",
        "whole_s": "until the checkpoint is safe (s; plain TRL's never is: no fsync)",
        "total_s": f"steps 1 to {STEPS} with their saves (s)",
    }
    for key, name in names.items():
        rows.append(f"| {name} | {theirs[key]:.3f} | {ours[key]:.3f} | {ours[key] / theirs[key]:.3f} |")
    each = {name: " ".join(f"{statistics.median(one['steps_s']):.3f}" for one in runs) for name, runs in found.items()}
    return [*rows, "", f"Median step of each run: plain TRL {each['plain TRL']}; launcher {each['launcher']}."]


def _middle(runs: list[dict[str, Any]]) -> dict[str, float]:
    steps = [step for run in runs for step in run["steps_s"]]
    whole = {key: statistics.median(run[key] for run in runs) for key in runs[0] if key != "steps_s"}
    return {**whole, "step_s": statistics.median(steps), "undisturbed_s": statistics.quantiles(steps, n=10)[0]}


if __name__ == "__main__":
    raise SystemExit(main())
