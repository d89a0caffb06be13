"""A person on a login node of the lab: a project with a tiny model, a profile of the cluster, and the `launcher` command."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from launcher.runs import attempts, events, submissions
from launcher.runs.paths import RunDir
from tests.slurm.lab import ROOT, Lab
from tests.support import tiny
from tests.support.until import until

RECIPE: dict[str, Any] = {
    "model": {"model_name_or_path": "model"},
    "data": {
        "datasets": [
            {"label": "sums", "path": "sums.jsonl", "columns": {"prompt": "question", "completion": "answer"}}
        ],
        "max_length": 64,
    },
    "peft": {"r": 8, "lora_alpha": 16, "lora_dropout": 0.1},
    "training": {
        "global_batch_size": 4,
        "gradient_accumulation_steps": 1,
        "max_steps": 60,
        "learning_rate": 1.0e-3,
        "logging_steps": 1,
    },
    "checkpoint": {"save_steps": 10},
    "launch": {"nodes": 2},
}
PROFILE: dict[str, Any] = {
    "cpus_per_node": 1,
    "memory_gib_per_node": 3,
    "queues": {
        name: {"partition": name, "max_time": "00:10:00", "max_nodes": 4}
        for name in ("main", "low", "low_nograce", "high")
    },
    "stop_lead_s": 30,
    # Jobs get nothing of the submitter's environment, so the checkout that is tested has to be named.
    "env": {"PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"},
}


@dataclass
class Login:
    """A login node of a lab. `folder` holds the project and its runs, which all nodes see."""

    lab: Lab
    folder: Path
    profile: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / "model").exists():
            tiny.model(self.folder / "model")
            tiny.jsonl(self.folder / "sums.jsonl", tiny.words(120))
        (self.folder / "clusters").mkdir(exist_ok=True)
        self.write_profile("test", {**PROFILE, **self.profile})

    def write_profile(self, name: str, profile: Mapping[str, Any]) -> Path:
        path = self.folder / "clusters" / f"{name}.yaml"
        path.write_text(yaml.safe_dump(dict(profile), sort_keys=False))
        return path

    def recipe(self, name: str, **sections: Mapping[str, Any]) -> Path:
        """A recipe like RECIPE, with these keys of its sections changed."""
        merged = {key: {**RECIPE.get(key, {}), **sections.get(key, {})} for key in {**RECIPE, **sections}}
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump({key: value for key, value in merged.items() if value}, sort_keys=False))
        return path

    def launcher(self, *words: object, check: bool = True, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Type a command of the launcher."""
        env = {
            "LAUNCHER_CLUSTERS": str(self.folder / "clusters"),
            "LAUNCHER_RUNS": str(self.folder / "runs"),
            "PYTHONPATH": str(ROOT),
        }
        argv = [sys.executable, "-m", "launcher", *words]
        return self.lab.run(argv, check=check, timeout=timeout, env=env, cwd=self.folder)

    def submit(self, recipe: Path, queue: str = "main", *words: object) -> Tracked:
        """`launcher run RECIPE --cluster test:QUEUE`."""
        self.launcher("run", recipe, "--cluster", f"test:{queue}", *words)
        return self.tracked(recipe.stem)

    def tracked(self, name: str) -> Tracked:
        return Tracked(self.lab, RunDir(self.folder / "runs" / name))


@dataclass
class Tracked:
    """A run that was submitted."""

    lab: Lab
    run_dir: RunDir

    def job(self, stage: str = "train") -> int | str:
        """Number of the newest job of a stage; `ARRAY_INDEX` in an array."""
        newest = [each.job_id for each in submissions.read(self.run_dir) if each.stage == stage][-1]
        return newest if "_" in newest else int(newest)

    def steps(self, attempt: int | None = None) -> list[tuple[int, float]]:
        """(step, loss), of one attempt or of all that were made, in order."""
        found, now = [], 0
        for event in events.read(self.run_dir.events):
            now = event["attempt"] if event["event"] == "attempt" else now
            if event["event"] == "step" and attempt in (None, now):
                found.append((event["step"], event["loss"]))
        return found

    def losses(self) -> dict[int, float]:
        """Step → loss, the last time that it was trained."""
        return dict(self.steps())

    def attempts(self) -> int:
        return len(attempts.numbers(self.run_dir))

    def until_step(self, step: int, *, seconds: float = 180) -> None:
        until(lambda: self._reached(step), seconds=seconds)

    def until_saved(self, *, seconds: float = 180) -> None:
        until(lambda: self.said("commit"), seconds=seconds)

    def until_done(self, *, seconds: float = 300) -> None:
        until(lambda: self.run_dir.done.exists() or self.over(), seconds=seconds)
        assert self.run_dir.done.exists(), self.story()

    def until_over(self, *, seconds: float = 300) -> dict[str, str]:
        """Wait until the training's job has ended for good."""
        until(self.over, seconds=seconds)
        return self.lab.job(self.job())

    def weights(self) -> str:
        """sha256 of the result."""
        files = sorted(self.run_dir.model.glob("*.safetensors"))
        assert files, self.story()
        return hashlib.sha256(b"".join(each.read_bytes() for each in files)).hexdigest()

    def story(self) -> str:
        """All logs of its jobs and attempts, for a test that fails."""
        logs = [
            *self.run_dir.slurm.rglob("*.log"),
            *self.run_dir.slurm.rglob("*.out"),
            *(self.run_dir.root / "logs").rglob("*.log"),
        ]
        return "\n".join(f"=== {each}\n{each.read_text(errors='replace')[-3000:]}" for each in sorted(set(logs)))

    def said(self, name: str) -> list[dict[str, Any]]:
        return [event for event in events.read(self.run_dir.events) if event["event"] == name]

    def _reached(self, step: int) -> bool:
        assert not self.over(), self.story()
        return max(self.losses(), default=0) >= step

    def over(self) -> bool:
        """Its training's job has ended for good."""
        states = {each["JobState"] for each in self.lab.jobs(self.job())}
        return not states & {"PENDING", "RUNNING", "COMPLETING", "SUSPENDED", "CONFIGURING"}


def reference(folder: Path, recipe: Path, ranks: int) -> Tracked:
    """The same recipe on this machine, without interruption, by `launcher run`: as many ranks on one node."""
    argv = [
        sys.executable,
        "-m",
        "launcher",
        "run",
        recipe,
        "--runs",
        folder,
        "--set",
        f"launch.processes={ranks}",
        "--set",
        "launch.nodes=1",
    ]
    subprocess.run([str(word) for word in argv], check=True, capture_output=True, timeout=300)
    return Tracked(None, RunDir(folder / recipe.stem))


def copy_project(source: Path, target: Path) -> None:
    """Model and data beside another project, so that both mean the same bytes."""
    target.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source / "model", target / "model", dirs_exist_ok=True)
    shutil.copy(source / "sums.jsonl", target)


def rows(path: Path) -> list[Any]:
    """JSON lines of a file."""
    return [json.loads(line) for line in path.read_text().splitlines()]
