"""The model on a node's own disk: one copy for all jobs of the node, whole or not there, gone when room is needed."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.plan import pins
from launcher.plan.hub_cache import FileFacts, repository
from launcher.plan.pins import Pin
from launcher.runs.files import sha256_file
from launcher.runs.paths import RunDir
from tests.support import tiny, trained
from tests.support.disks import Disk, mounted
from tests.support.until import until

COMMIT = "c" * 40


def run_of(folder: Path, name: str, *, seed: int = 0) -> RunDir:
    """A run whose model lies in a folder."""
    return tiny.run_dir(folder / name, tiny.plan(), {"model": str(tiny.model(folder / f"model-{name}", seed=seed))})


def fetched(folder: Path, name: str, *, big: int = 0) -> tuple[RunDir, Path]:
    """A run whose model lies in the hub's cache, as `hub.json` says; and its snapshot. `big`: bytes of one more file."""
    snapshot = repository(folder / "hub", "model", "me/model") / "snapshots" / COMMIT
    tiny.model(snapshot)
    with (snapshot / "big.safetensors").open("wb") as file:
        file.truncate(big)
    run = tiny.run_dir(folder / name, tiny.plan(model_plan={"name": "me/model", "revision": COMMIT}), {})
    files = {path.name: FileFacts(path.stat().st_size, f"sha256:{sha256_file(path)}") for path in snapshot.iterdir()}
    run.hub.write_text(pins.dumps({"model": Pin("model", "me/model", "main", {}, COMMIT, files)}))
    return run, snapshot


def command(run: RunDir, scratch: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "launcher.worker.local_copy", str(run.root), str(scratch), *words]


def copied(run: RunDir, scratch: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(run, scratch), env={**os.environ, **env}, capture_output=True, text=True, timeout=120, check=False)  # fmt: skip


def copies(scratch: Path) -> list[Path]:
    return sorted(path for path in scratch.glob("*/*") if path.is_dir())


@pytest.fixture
def disk(tmp_path) -> Iterator[Disk]:
    """Room for two models beside the GiB that is left to others."""
    with mounted(tmp_path / "scratch", "size=1025m") as made:
        yield made


def test_the_copy_is_the_model_and_is_made_once(tmp_path):
    """A second job of the node finds it: nothing is written again."""
    run = run_of(tmp_path, "one")
    first = copied(run, tmp_path / "scratch")
    assert first.returncode == 0, first.stderr
    copy = Path(first.stdout.strip())
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == {
        path.name: path.read_bytes() for path in (tmp_path / "model-one").iterdir()
    }
    made = copy.stat().st_ino, (copy / "model.safetensors").stat().st_mtime_ns
    assert copied(run, tmp_path / "scratch").stdout == first.stdout
    assert (copy.stat().st_ino, (copy / "model.safetensors").stat().st_mtime_ns) == made


def test_jobs_that_begin_at_once_share_one_copy(tmp_path):
    """The others wait for the first."""
    run, _ = fetched(tmp_path, "one", big=100_000_000)
    env = {**os.environ, "HF_HUB_CACHE": str(tmp_path / "hub")}
    jobs = [subprocess.Popen(command(run, tmp_path / "scratch"), env=env, stdout=subprocess.PIPE, text=True) for _ in range(3)]  # fmt: skip
    said = {job.communicate(timeout=120)[0] for job in jobs}
    assert said == {f"{copies(tmp_path / 'scratch')[0]}\n"}
    assert len(copies(tmp_path / "scratch")) == 1


def test_a_copy_that_is_killed_is_never_used(tmp_path):
    """kill -9 while it is written: what is there has no name that anybody looks for, and the next copy removes it."""
    run, snapshot = fetched(tmp_path, "one", big=300_000_000)
    env = {**os.environ, "HF_HUB_CACHE": str(tmp_path / "hub")}
    with subprocess.Popen(command(run, tmp_path / "scratch"), env=env) as job:
        until(lambda: list((tmp_path / "scratch").glob("*/*.draft/big.safetensors")))
        job.send_signal(signal.SIGKILL)
    assert [path.suffix for path in copies(tmp_path / "scratch")] == [".draft"]
    done = copied(run, tmp_path / "scratch", **env)
    assert done.returncode == 0, done.stderr
    (copy,) = copies(tmp_path / "scratch")
    assert (copy / "model.safetensors").read_bytes() == (snapshot / "model.safetensors").read_bytes()


def test_a_damaged_model_is_told_and_not_copied(tmp_path):
    """By the hash of the lock file: the size is right."""
    run, snapshot = fetched(tmp_path, "one")
    (snapshot / "tokenizer.json").write_bytes(b"x" * (snapshot / "tokenizer.json").stat().st_size)
    done = copied(run, tmp_path / "scratch", HF_HUB_CACHE=str(tmp_path / "hub"))
    assert done.returncode == 4
    assert "tokenizer.json is damaged: its hash is another" in done.stderr
    assert "`launcher fetch RECIPE --check`" in done.stderr
    assert [path.suffix for path in copies(tmp_path / "scratch")] in ([], [".draft"])


def test_the_oldest_unused_copy_makes_room(tmp_path, disk):
    """A third model: the first goes, though the second was made later than it was used last."""
    runs = [run_of(tmp_path, name, seed=seed) for seed, name in enumerate(("one", "two", "three"))]
    first, second = (Path(copied(run, disk.path).stdout.strip()) for run in runs[:2])
    os.utime(first.with_name(f"{first.name}.lock"), (1, 1))
    third = Path(copied(runs[2], disk.path).stdout.strip())
    assert copies(disk.path) == sorted([second, third])


def test_a_copy_in_use_stays_until_its_user_has_died(tmp_path, disk):
    """However it ends. Until then there is no room, and the model is read from where it is."""
    runs = [run_of(tmp_path, name, seed=seed) for seed, name in enumerate(("one", "two", "three"))]
    users = []
    for run in runs[:2]:
        program = "import os, sys; print(os.environ['LAUNCHER_LOCAL_MODEL'], flush=True); sys.stdin.read()"
        words = command(run, disk.path, "--", sys.executable, "-c", program)
        users.append(subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    held = [Path(user.stdout.readline().strip()) for user in users]
    assert copies(disk.path) == sorted(held)
    done = copied(runs[2], disk.path)
    assert (done.returncode, done.stdout) == (0, "\n")
    assert "no room for the model" in done.stderr
    assert copies(disk.path) == sorted(held)
    users[0].kill()
    users[0].wait()
    third = Path(copied(runs[2], disk.path).stdout.strip())
    assert copies(disk.path) == sorted([held[1], third])
    users[1].communicate("")


def test_a_command_without_a_copy_runs_all_the_same(tmp_path):
    """Scratch that cannot be used is no reason to fail."""
    (tmp_path / "file").write_text("")
    words = command(run_of(tmp_path, "one"), tmp_path / "file", "--", sys.executable, "-c", "import os; print(os.environ.get('LAUNCHER_LOCAL_MODEL'))")  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "None\n")
    assert "it is read from where it is" in done.stderr


@pytest.mark.train
def test_ranks_read_the_copy_and_save_the_model_s_own_name(tmp_path):
    """An adapter names its base; a folder of one node's disk would be found nowhere else."""
    run = trained.run_dir(tmp_path / "run", tiny.plan(peft=tiny.LORA, max_steps=1), tiny.messages(8))
    copy = tiny.model(tmp_path / "copy")
    (tmp_path / "model" / "model.safetensors").rename(tmp_path / "away")  # only the copy can be read
    result = trained.start(run, env={"LAUNCHER_LOCAL_MODEL": str(copy)}).wait()
    assert result.codes == (0,), run.rank_log(1, 0).read_text()
    saved = json.loads((run.model / "adapter_config.json").read_text())
    assert saved["base_model_name_or_path"] == str(tmp_path / "model")
