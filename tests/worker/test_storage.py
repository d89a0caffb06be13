"""Storage that refuses: training goes on, what was saved stays, the cause is named, and saving resumes when it can."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from launcher.runs import checkpoints, events
from launcher.runs.paths import RunDir
from tests.support import disks, tiny, trained, warm
from tests.support.disks import Disk
from tests.support.until import until

pytestmark = [pytest.mark.train, pytest.mark.slow]

ROWS = tiny.messages(30)


def seen(run: RunDir, name: str) -> list[dict[str, Any]]:
    return [event for event in events.read(run.events) if event["event"] == name]


def started(
    tmp_path: Path, case: str = "tests.worker.storage_cases:slow_rank", *, ranks: int = 1
) -> tuple[RunDir, warm.Job]:
    """A run that has committed its first checkpoint, and goes on slowly enough to be disturbed."""
    plan = tiny.plan(peft=tiny.LORA, epochs=25.0, save_steps=10, keep=3, world_size=ranks)
    run = trained.run_dir(tmp_path / "run", plan, ROWS)
    job = warm.start(case, {"run_dir": str(run.root)}, ranks=ranks, torchrun=True, env={"LAUNCHER_ATTEMPT": "1"})
    until(lambda: seen(run, "commit"), seconds=25)
    return run, job


def disturbed(
    tmp_path: Path, options: str, disturb: Callable[[Disk], Any], mend: Callable[[Disk], Any], *, ranks: int = 1
) -> tuple[RunDir, Path]:
    """Train with the checkpoints on a disk of their own that refuses for a while; the run must finish all the same."""
    with disks.mounted(tmp_path / "run" / "checkpoints", options) as disk:
        run, job = started(tmp_path, ranks=ranks)
        disturb(disk)
        until(lambda: seen(run, "save_failed"), seconds=25)
        before = checkpoints.newest(run).checkpoint
        assert before is not None  # to the byte: `newest` compares every file
        failed = seen(run, "save_failed")[-1]["step"]
        mend(disk)
        assert set(job.wait().codes) == {0}
        assert any(event["step"] > failed for event in seen(run, "commit"))
        assert checkpoints.newest(run).checkpoint is not None
        assert [each["step"] for each in seen(run, "end")] == [200]
        return run, disk.path


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_stop_whose_save_finds_no_space_says_so_on_every_rank(tmp_path: Path, ranks: int):
    """It is no saved stop, 85, and no fault that another attempt would mend; what was saved before is there."""
    with disks.mounted(tmp_path / "run" / "checkpoints", "size=6m") as disk:
        run, job = started(tmp_path, ranks=ranks)
        disk.fill()
        until(lambda: seen(run, "save_failed"), seconds=25)
        run.stop_request.touch()
        assert set(job.wait().codes) == {86}
        step = seen(run, "stop")[0]["step"]
        for rank in range(ranks):
            note = trained.note(run, rank)
            assert note["cause"] == "disk_full"
            assert note["error"].startswith(f"stopped at step {step}, which could not be saved: {disk.path} is full (")
        newest = checkpoints.newest(run).checkpoint
        assert newest is not None
        assert note["hint"] == f"put that right; the same command goes on from {newest.path.name}"


def test_a_stop_finds_the_space_that_was_held_for_it(tmp_path: Path):
    """Others have taken all that was free since the last save."""
    with disks.mounted(tmp_path / "run" / "checkpoints", "size=6m") as disk:
        run, job = started(tmp_path)
        until((run.staged(1) / "reserve").exists, seconds=25)
        disk.fill()
        run.stop_request.touch()
        assert job.wait().codes == (85,)
        assert checkpoints.newest(run).checkpoint.step == seen(run, "stop")[0]["step"]


def removed(name: str) -> Callable[[Disk], None]:
    return lambda disk: shutil.rmtree(disk.path / name) if (disk.path / name).is_dir() else (disk.path / name).unlink()


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_full_disk_costs_checkpoints_and_not_the_run(tmp_path: Path, ranks: int):
    """The space may come back any moment; the hours of training would not."""
    run, mount = disturbed(tmp_path, "size=6m", Disk.fill, removed("filler"), ranks=ranks)
    failed = seen(run, "save_failed")[0]
    assert failed["mount"] == str(mount)
    assert failed["error"].startswith(f"checkpoint-{failed['step']} could not be saved: {mount} is full (")


def test_a_disk_that_is_nearly_full_is_told_of_an_interval_ahead(tmp_path: Path):
    """The space of the next checkpoint is held in advance; where it cannot be, there is time to make some."""
    with disks.mounted(tmp_path / "run" / "checkpoints", "size=700k"):
        run, job = started(tmp_path)
        until(lambda: seen(run, "warning"), seconds=25)
        job.kill()
        job.wait()
    (first,) = seen(run, "warning")[:1]
    assert "the next checkpoint will not fit" in first["message"]
    assert str(run.checkpoints) in first["message"]


def test_a_disk_without_inodes_is_told_from_a_full_one(tmp_path: Path):
    """`No space left` with gigabytes free has cost many an evening."""
    run, mount = disturbed(tmp_path, "size=16m,nr_inodes=120", Disk.take_inodes, removed("files"))
    assert f"{mount} has no inodes left (120 in all)" in seen(run, "save_failed")[0]["error"]


def test_a_disk_that_turns_read_only_does_not_end_the_run(tmp_path: Path):
    """What a kernel does after I/O errors."""

    def read_only(disk: Disk) -> None:
        def done() -> bool:
            with suppress(subprocess.CalledProcessError):  # a file is being written this moment
                disk.remount("ro")
                return True
            return False

        until(done)

    run, mount = disturbed(tmp_path, "size=16m", read_only, lambda disk: disk.remount("rw"))
    assert f"{mount} is read-only" in seen(run, "save_failed")[0]["error"]


def test_a_folder_that_may_not_be_written_any_more_does_not_end_the_run(tmp_path: Path):
    """Permissions are changed by people and by site scripts."""
    run, job = started(tmp_path, "tests.worker.storage_cases:slow_rank_without_privileges")
    run.checkpoints.chmod(0o500)
    for folder in (run.staging, run.staged(1)):
        if folder.exists():
            folder.chmod(0o500)
    until(lambda: seen(run, "save_failed"), seconds=25)
    for folder in (run.checkpoints, run.staging, run.staged(1)):
        if folder.exists():
            folder.chmod(0o700)
    assert job.wait().codes == (0,)
    assert "does not let this user write" in seen(run, "save_failed")[0]["error"]
    assert seen(run, "commit")[-1]["step"] == 200


def test_events_and_logs_that_find_no_space_do_not_end_the_run(tmp_path: Path):
    """They wait for it; a line of a log is not worth a training."""
    with disks.mounted(tmp_path / "run", "size=8m") as disk:
        run, job = started(tmp_path)
        filler = disk.fill()
        reached = seen(run, "step")[-1]["step"]
        until(lambda: not job_alive(job) or progressed(job))
        filler.unlink()
        assert job.wait().codes == (0,)
        assert [event["step"] for event in seen(run, "step")] == list(range(1, 201))
        assert reached < 200


def job_alive(job: warm.Job) -> bool:
    return Path(f"/proc/{job.pids[0]}").exists()


def progressed(job: warm.Job, seconds: float = 2.0) -> bool:
    """The rank has used the processor for a while more."""
    fields = Path(f"/proc/{job.pids[0]}/stat").read_text().rsplit(")", 1)[1].split()
    used = (int(fields[11]) + int(fields[12])) / 100
    start = _used.setdefault(job.pids[0], used)
    return used - start > seconds


_used: dict[int, float] = {}


def test_a_failed_fsync_discards_the_checkpoint(tmp_path: Path):
    """After a failed fsync the kernel may have dropped the pages; the file can never be trusted."""
    plan = tiny.plan(peft=tiny.LORA, epochs=2.0, save_steps=4)
    run = trained.run_dir(tmp_path / "run", plan, ROWS)
    case = "tests.worker.storage_cases:rank_whose_second_save_fails_to_sync"
    result = warm.run(case, {"run_dir": str(run.root)}, torchrun=True, env={"LAUNCHER_ATTEMPT": "1"})
    assert result.codes == (0,)
    assert [event["step"] for event in seen(run, "save_failed")] == [8]
    assert "has an I/O error" in seen(run, "save_failed")[0]["error"]
    assert [event["step"] for event in seen(run, "commit")] == [4, 12, 16]


def test_a_rank_that_never_confirms_costs_the_checkpoint_and_not_the_run(tmp_path: Path):
    """Rank 0 waits for a limited time, beside training."""
    plan = tiny.plan(peft=tiny.LORA, epochs=2.0, save_steps=8, world_size=2)
    run = trained.run_dir(tmp_path / "run", plan, ROWS)
    case = "tests.worker.storage_cases:rank_that_confirms_nothing_at_step_8"
    result = warm.run(case, {"run_dir": str(run.root)}, ranks=2, env={"LAUNCHER_ATTEMPT": "1"})
    assert result.codes == (0, 0)
    (failed,) = seen(run, "save_failed")
    assert "rank 1 did not confirm its part of checkpoint-8" in failed["error"]
    assert [event["step"] for event in seen(run, "commit")] == [16]


@pytest.mark.parametrize(("when", "found"), [("before", 4), ("after", 8)])
def test_an_attempt_that_was_paused_cannot_commit_after_another_has_begun(tmp_path: Path, when: str, found: int):
    """Two launchers on two machines whose file system knows no locks: the older one wakes up in the middle of its save."""
    plan = tiny.plan(peft=tiny.LORA, epochs=2.0, save_steps=4)
    run = trained.run_dir(tmp_path / "run", plan, ROWS)
    case = "tests.worker.storage_cases:rank_that_pauses_at_step_8"
    no_locks = {"LAUNCHER_RUN_ID": "1"}  # ranks leave the lock to the launcher that started them; here there is none
    env = {"LAUNCHER_ATTEMPT": "1", **no_locks}
    paused = warm.start(case, {"run_dir": str(run.root), "when": when}, torchrun=True, env=env)
    until(lambda: state_of(paused) == "T", seconds=25)
    assert trained.start(run, attempt=2, env=no_locks).wait().codes == (0,)
    assert [event["step"] for event in seen(run, "resume")] == [found]
    before = files(run)
    paused.resume()
    assert paused.wait().codes == (93,)
    assert files(run) == before
    assert "attempt 2 has taken over" in trained.note(run)["error"]
    assert [event["step"] for event in seen(run, "commit")] == [4, *range(found + 4, 17, 4)]


def files(run: RunDir) -> dict[Path, bytes]:
    """Contents of all checkpoints and of the result."""
    found = [path for folder in (run.checkpoints, run.model) for path in sorted(folder.rglob("*"))]
    return {path: path.read_bytes() for path in found if path.is_file()}


def state_of(job: warm.Job) -> str:
    """One letter of /proc: R running, S sleeping, T stopped."""
    return Path(f"/proc/{job.pids[0]}/stat").read_text().rsplit(")", 1)[1].split()[0]
