"""Run directories written by hand, as far as a run has come: what `report` and the before/after table read."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

from launcher.plan.types import Decision, SourcePlan
from launcher.runs import checkpoints, files
from launcher.runs.paths import RunDir
from tests.render import facts
from tests.support import tiny

START = 1_795_000_000.0
EVIL = "<script>alert('x')</script>"


def evaluation(when: str, step: int, *, loss: float, share: float, answers: list[str]) -> dict[str, Any]:
    """One evaluation of the set `sums`."""
    rows = tiny.words(len(answers))
    samples = [
        {"prompt": row["question"], "reference": row["answer"], "output": answer}
        for row, answer in zip(rows, answers, strict=True)
    ]
    sets = {"sums": {"rows": 100, "metrics": {"exact_match": share, "chrf": 80 * share}, "samples": samples}}
    return {"when": when, "step": step, "seconds": 1.5, "losses": {"sums": loss, "prose": loss + 1}, "sets": sets}


def course(steps: int, *, first: int = 1, attempt: int = 1, every: int = 100, seed: int = 0) -> list[dict[str, Any]]:
    """Events of an attempt from step `first` to `steps`: a noisy falling loss, evaluations every so many steps."""
    noise = random.Random(seed)
    start = START + 5000 * (attempt - 1)
    made: list[dict[str, Any]] = [
        {"event": "attempt", "time": start, "attempt": attempt, "pid": 7, "host": "node-1"},
        {
            "event": "start", "time": start + 9, "world_size": 2, "wrapper": "DistributedDataParallel", "device": "cpu", "dtype": "float32",
            "trainable": 20_000, "parameters": 1_000_000, "step": first - 1, "max_steps": 800, "steps_per_epoch": 400, "attempt": attempt,
        },
    ]  # fmt: skip
    for step in range(first, steps + 1):
        loss = 0.4 + 5.6 * math.exp(-step / 120) + noise.gauss(0, 0.12)
        rate = 2e-4 * min(step / 40, 0.5 + 0.5 * math.cos(math.pi * step / 800))
        made.append(
            {"event": "step", "time": start + 10 + 4 * step, "step": step, "epoch": step / 400, "loss": loss, "learning_rate": rate,
             "grad_norm": 1.0, "tokens_per_s": 4321.0, "memory_gib": 1.25, "tokens": 500 * step, "seconds": 3.0, "attempt": attempt}
        )  # fmt: skip
        if step % every == 0:
            for label, more in (("sums", 0.05), ("prose", 1.0)):
                calm = 0.4 + more + 5.6 * math.exp(-step / 120)
                made.append(
                    {"event": "eval", "time": start + 11 + 4 * step, "step": step, "dataset": label, "loss": calm}
                )
    return made


def written(
    root: Path, seen: list[dict[str, Any]], *, evals: dict[str, Any] | None = None, name: str = "support-style"
) -> RunDir:
    """A run directory with plan, data facts, these events and these evaluations."""
    sources = tuple(SourcePlan(label, f"{label}.jsonl") for label in ("sums", "prose"))
    decisions = (
        Decision("training.per_device_train_batch_size", 4, "global 16 rows over 2 ranks and 2 accumulation steps"),
        Decision("training.activation_checkpointing", value=False, reason="there is no GPU memory to save"),
        Decision("model.attn_implementation", "sdpa", "built into torch, no package needed"),
    )
    plan = tiny.changed(tiny.plan(eval_sources=sources, peft=tiny.LORA), name=name, decisions=decisions)
    run = tiny.run_dir(root / name, plan, {})
    run.events.write_text("".join(json.dumps(event) + "\n" for event in seen))
    for when, found in (evals or {}).items():
        files.write_json(run.evals / f"{when}.json", found)
    files.write_json(run.data_facts, facts.PACKED)
    run.bad_rows.write_text("".join(json.dumps(each) + "\n" for each in facts.BAD))
    run.removed_rows.write_text("".join(json.dumps(each) + "\n" for each in facts.REMOVED))
    return run


def attempt(run: RunDir, number: int, *, code: int | None, error: str | None = None) -> None:
    """The facts of one attempt."""
    started = START + 5000 * (number - 1)
    facts = {
        "number": number,
        "host": "node-1",
        "pid": 7,
        "started": started,
        "ended": None if code is None else started + 3300,
        "code": code,
        "error": error,
    }
    files.write_json(run.attempt(number) / "attempt.json", facts)


def finished(root: Path, **fields: Any) -> RunDir:
    """A run that was killed once, went on, and has ended well."""
    answers = [row["answer"] for row in tiny.words(8)]
    evals = {
        "base": evaluation("base", 0, loss=6.0, share=0.0, answers=["", "the the the the", *["?"] * 6]),
        "final": evaluation("final", 800, loss=0.41, share=0.93, answers=[*answers[:6], "7 + 5 = 13", answers[7]]),
    }
    seen = [
        {"event": "eval", "time": START, "step": 0, "dataset": "sums", "loss": 6.0},
        *course(450),
        *course(800, first=401, attempt=2, seed=1),
        {"event": "end", "time": START + 8300, "step": 800, "state": "finished", "error": None},
    ]
    run = written(root, seen, evals=evals, **fields)
    attempt(run, 1, code=None)
    attempt(run, 2, code=0)
    saved = run.checkpoints / "checkpoint-800"
    files.write_text(saved / "weights", "four")
    held = {"weights": {"size": 4, "sha256": "not read here"}}
    body = {"schema": checkpoints.SCHEMA, "step": 800, "files": held, "versions": {"torch": "2.13.0", "trl": "1.16.0"}}
    files.write_text(saved / "MANIFEST.json", checkpoints.manifest_text(body))
    run.done.write_text("")
    return run
