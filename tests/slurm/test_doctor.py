"""The doctor at a real site: it writes a profile, finds it true, and finds what is changed in it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

from tests.slurm.lab import ROOT, Lab


def test_a_written_profile_is_true_of_its_site(cluster: Lab, tmp_path: Path) -> None:
    """The same commands that a person types, with SLURM's own answers."""
    doctor = _doctor(cluster, tmp_path)
    code, said = doctor("--write")
    path = tmp_path / "launcher" / "clusters" / "mine.yaml"
    assert (code, path.is_file()) == (0, True), said
    text = path.read_text()
    settings = cluster.settings
    assert f"cpus_per_node: {settings.cpus}\n" in text
    assert f"memory_gib_per_node: {settings.memory_mb * 10 // 1024 / 10:g}\n" in text

    code, said = doctor("--json")
    assert (code, [each for each in json.loads(said)["findings"] if each["level"] == "error"]) == (0, []), said
    assert doctor("--write")[0] == 4, "what is there stays"

    path.write_text(text.replace(f"cpus_per_node: {settings.cpus}\n", "cpus_per_node: 4000\n", 1))
    code, said = doctor("--json")
    (error,) = [each for each in json.loads(said)["findings"] if each["level"] == "error" and "main" in each["message"]]
    assert (code, error["key"], error["hint"]) == (4, "cpus_per_node", f"write `cpus_per_node: {settings.cpus}`")
    assert error["line"] == 1 + text.splitlines().index(f"cpus_per_node: {settings.cpus}")


def _doctor(lab: Lab, home: Path) -> Callable[..., tuple[int, str]]:
    def doctor(*options: str) -> tuple[int, str]:
        argv = [sys.executable, "-m", "launcher", "doctor", "--cluster", "mine", *options]
        done = lab.run(argv, check=False, cwd=ROOT, env={"XDG_CONFIG_HOME": str(home), "PYTHONPATH": str(ROOT)})
        return done.returncode, done.stdout + done.stderr

    return doctor
