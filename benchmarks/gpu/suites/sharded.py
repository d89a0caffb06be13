"""Every preset in `accelerate_configs/` on one rank: through launcher, and the same run through `accelerate launch`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.gpu.record import Record, Row, Skipped
from benchmarks.gpu.setup import Scale
from benchmarks.gpu.shapes import TINY

SUITE = "sharded"
ROOT = Path(__file__).resolve().parents[3]
_SECONDS = 240


def rows(scale: Scale, record: Record) -> list[Row]:
    """Two rows per preset, the second compared with the first loss by loss."""
    presets = sorted(path.stem for path in (ROOT / "accelerate_configs").glob("*.yaml"))
    config = {"shape": TINY.name if scale.smoke else "256 wide, 4 layers", "processes": 1, "steps": _steps(scale)}
    return [
        row
        for name in presets
        for row in (
            Row(SUITE, f"launcher/{name}", config, lambda name=name: _launcher(name, scale)),
            Row(SUITE, f"accelerate/{name}", config, lambda name=name: _accelerate(name, scale, record)),
        )
    ]


def recipe(scale: Scale) -> str:
    """A small model from its configuration on the demo's tickets; JSON is YAML."""
    shape = TINY.config() | (
        {} if scale.smoke else {"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 4}
    )
    demo = ROOT / "recipes" / "demo"
    return json.dumps(
        {
            "task": "sft",
            "model": {"tokenizer_name_or_path": str(demo / "tokenizer"), "from_config": shape | {"use_cache": True}},
            "data": {
                "datasets": [{"label": "tickets", "path": str(demo / "train.jsonl"), "max_rows": 64}], "max_length": 128
            },
            "training": {
                "global_batch_size": 8, "gradient_accumulation_steps": 1, "max_steps": _steps(scale), "learning_rate": 1e-3
            },
            "checkpoint": {"save_steps": _steps(scale)},
        },
        indent=1,
    )  # fmt: skip


def _steps(scale: Scale) -> int:
    return 3 if scale.smoke else 10


@cache
def _folder(scale: Scale) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="gpu-sharded-"))
    (folder / "one.yaml").write_text(recipe(scale), encoding="utf-8")
    return folder


def _launcher(preset: str, scale: Scale) -> dict[str, Any]:
    runs = _folder(scale) / f"launcher-{preset}"
    argv = ["run", "one.yaml", "--set", f"sharding.strategy={preset}", "--runs", str(runs)]
    _call(["-m", "launcher", *argv], scale)
    return _outcome(runs / "one")


def _accelerate(preset: str, scale: Scale, record: Record) -> dict[str, Any]:
    runs = _folder(scale) / f"accelerate-{preset}"
    _call(["-m", "launcher", "prepare", "one.yaml", "--set", f"sharding.strategy={preset}", "--runs", str(runs)], scale)
    file = ROOT / "accelerate_configs" / f"{preset}.yaml"
    launch = ["--config_file", str(file), "--num_processes", "1", "-m", "launcher.worker", str(runs / "one")]
    _call(["-m", "accelerate.commands.accelerate_cli", "launch", *launch], scale)
    outcome, other = _outcome(runs / "one"), record.result(SUITE, f"launcher/{preset}")
    pairs = list(zip(outcome["losses"], other["losses"], strict=True)) if other else []
    return {**outcome, "largest_loss_difference": max((abs(a - b) for a, b in pairs), default=None)}


def _call(argv: list[str], scale: Scale) -> None:
    """Run it in the folder.

    Raises:
        Skipped: the plan refuses; with its words.
        RuntimeError: it fails otherwise; with the end of its output.
    """
    env = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    if scale.smoke:
        env |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *argv], cwd=_folder(scale), env=env, capture_output=True, text=True, timeout=_SECONDS, check=False
    )  # fmt: skip
    if done.returncode == 0:
        return
    said = (done.stdout + done.stderr).strip()
    refusal = [line for line in said.splitlines() if line.startswith("error: ")]
    if done.returncode in (2, 4) and refusal:
        raise Skipped(f"launcher refuses it here: {refusal[0].removeprefix('error: ')}")
    raise RuntimeError(f"exit code {done.returncode}: {said[-2000:]}")


def _outcome(run: Path) -> dict[str, Any]:
    """What the run's own events say that ran; memory only of a GPU."""
    events = [json.loads(line) for line in (run / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    (start,) = [event for event in events if event["event"] == "start"]
    steps = [event for event in events if event["event"] == "step"]
    ran = ("world_size", "wrapper", "device", "dtype", "trainable", "parameters")
    on_gpu = str(start.get("device", "")).startswith("cuda")
    return {
        **{name: start.get(name) for name in ran},
        "losses": [event["loss"] for event in steps],
        "memory_gib": steps[-1].get("memory_gib") if on_gpu else None,
        "result_files": sorted(path.name for path in (run / "model").iterdir()),
    }
