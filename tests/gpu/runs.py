"""Runs of launcher as a user starts them, on the GPU; and plain TRL beside them (`plain.py`)."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu.setup import Scale
from benchmarks.gpu.suites.sharded import recipe

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Case:
    """A recipe in a folder, with keys set."""

    folder: Path
    scale: Scale
    sets: tuple[str, ...] = ()

    @property
    def run(self) -> Path:
        """Its run directory."""
        return self.folder / "runs" / "one"

    def start(self) -> subprocess.Popen[str]:
        """`launcher run`, without waiting."""
        self.folder.mkdir(exist_ok=True)
        (self.folder / "one.yaml").write_text(recipe(self.scale), encoding="utf-8")
        sets = [word for key in self.sets for word in ("--set", key)]
        argv = [sys.executable, "-m", "launcher", "run", "one.yaml", "--runs", "runs", *sets]
        return subprocess.Popen(
            argv, cwd=self.folder, env=self._environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )  # fmt: skip

    def finish(self) -> str:
        """`launcher run` to its end; its output."""
        process = self.start()
        said, _ = process.communicate(timeout=400)
        assert process.returncode == 0, said
        return said

    def kill_after(self, step: int) -> None:
        """`launcher run`, killed with its ranks when a checkpoint at or after `step` is committed."""
        process, until = self.start(), time.monotonic() + 300
        while time.monotonic() < until and process.poll() is None:
            if any(event["step"] >= step for event in self.events("commit")):
                break
            time.sleep(0.02)
        assert process.poll() is None, process.communicate()[0]
        process.send_signal(signal.SIGKILL)  # the ranks die with it
        process.communicate(timeout=60)

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Events of one kind so far."""
        file = self.run / "events.jsonl"
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True) if file.exists() else []
        return [event for line in lines if line.endswith("\n") and (event := json.loads(line))["event"] == kind]

    def losses(self) -> list[float]:
        """Loss of each step; of a step made twice, the later."""
        found = {event["step"]: event["loss"] for event in self.events("step")}
        return [found[step] for step in sorted(found)]

    def plain(self, what: str) -> Any:
        """What `tests/gpu/plain.py` says of this run, in a process that does not import launcher."""
        done = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("plain.py")), what, str(self.run)],
            cwd=self.folder, env=self._environment(path=False), capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.splitlines()[-1])

    def _environment(self, *, path: bool = True) -> dict[str, str]:
        env = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        env |= {"PYTHONPATH": str(ROOT)} if path else {}
        return env
