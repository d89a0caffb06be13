"""This machine as a cluster. nvidia-smi's own answers are kept as text; a program of that name stands in for a driver."""

import os
import stat

import pytest

from launcher.cluster import local
from launcher.errors import UsageError

TWO = """\
0, GPU-aaaa1111-0000, NVIDIA GeForce RTX 4090, 24564, 23436, 8.9
1, GPU-bbbb2222-0000, NVIDIA GeForce RTX 2080 Ti, 11264, 11011, 7.5
"""


@pytest.fixture
def smi(tmp_path, monkeypatch):
    """Puts a program called nvidia-smi first on PATH that runs the given shell lines."""

    def install(lines: str) -> None:
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n{lines}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    return install


def answer(text: str) -> str:
    return f"cat <<'END'\n{text}END"


def test_without_nvidia_smi_the_cluster_has_no_gpu(tmp_path, monkeypatch):
    """A laptop is a place to train on, not an error."""
    monkeypatch.setenv("PATH", str(tmp_path))
    found = local.detect()
    assert (found.gpu, found.gpus_per_node) == (None, 0)
    assert found.cpus_per_node == len(os.sched_getaffinity(0))
    assert found.memory_gib > 0


def test_gpus_are_read_from_nvidia_smi(smi):
    """24,564 MiB are 24.0 GiB; of unlike GPUs the one with less free memory bounds the plan, and the plan says so."""
    smi(answer(TWO))
    found = local.detect()
    assert found.gpus_per_node == 2
    assert (found.gpu.name, found.gpu.memory_gib, found.gpu.bf16) == ("RTX 2080 Ti", 11.0, False)
    assert "unlike GPUs" in found.notes[0]


def test_gpus_chooses_by_number_and_the_jobs_see_only_those(smi):
    """The number means nvidia-smi's order, so CUDA must be told."""
    smi(answer(TWO))
    found = local.detect("0")
    assert (found.gpus_per_node, found.visible, found.gpu.name) == (1, "0", "RTX 4090")


def test_gpus_none_is_the_cpu_and_asks_nobody(smi):
    """`--gpus none` must work when the driver is broken."""
    smi("exit 9")
    found = local.detect("none")
    assert (found.gpus_per_node, found.visible, found.notes) == (0, "", ())


@pytest.mark.parametrize("gpus", ["3", "0,3", "a", "", "-1", "0;1"])
def test_a_gpu_that_is_not_here_is_refused(smi, gpus):
    """Training on fewer GPUs than were asked for would be silent."""
    smi(answer(TWO))
    with pytest.raises(UsageError, match="--gpus"):
        local.detect(gpus)


@pytest.mark.parametrize(
    ("variable", "indices"),
    [("1", [1]), ("0,1", [0, 1]), ("1,0", [1, 0]), ("GPU-bbbb", [1]), ("", []), ("-1", []), ("1,9,0", [1]), ("x", [])],
)
def test_cuda_visible_devices_is_read_as_cuda_reads_it(variable, indices):
    """Numbers or UUID beginnings; the first entry that is nothing ends the list (CUDA C++ programming guide)."""
    devices = local.parse_devices(TWO)
    assert [device.index for device in local.allowed(devices, variable)] == indices


def test_cuda_visible_devices_restricts_the_cluster(smi, monkeypatch):
    """A scheduler or a user may have given us one GPU of two."""
    smi(answer(TWO))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert local.detect().gpus_per_node == 1


def test_a_broken_driver_is_a_note_and_not_a_crash(smi):
    """nvidia-smi ends with 9 when it cannot reach the driver; the plan goes on for the CPU and says why."""
    smi("echo 'NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver.'; exit 9")
    found = local.detect()
    assert found.gpu is None
    assert "ended with code 9" in found.notes[0]


def test_a_hanging_driver_ends_in_a_note(smi, monkeypatch):
    """nvidia-smi hangs on a GPU that fell off the bus."""
    smi("exec sleep 60")
    monkeypatch.setattr(local, "_TIMEOUT_S", 0.2)
    assert "gave no answer" in local.detect().notes[0]


def test_a_gpu_without_memory_figures_is_left_out():
    """In MIG mode nvidia-smi prints `[N/A]` or `[Insufficient Permissions]` for the whole card."""
    assert local.parse_devices("0, GPU-a, NVIDIA A100-SXM4-40GB, [N/A], [N/A], 8.0\n") == []


def test_site_folders_come_from_the_environment():
    """`${data}` stands for LAUNCHER_DATA; what is not set, or empty, has no name."""
    assert local.paths({"LAUNCHER_DATA": "/d", "LAUNCHER_RUNS": "", "HOME": "/h"}) == {"data": "/d"}


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("50000 100000", 1),
        ("1600000 100000", 8),
        ("", 8),
    ],
)
def test_a_containers_quota_limits_the_cores(tmp_path, quota, cores):
    """A container on a large host sees all its cores and gets the time of a few; threads for all would starve each other."""
    (tmp_path / "cpu.max").write_text(quota)

    assert local.usable_cpus(8, tmp_path / "cpu.max") == cores
    assert local.usable_cpus(8, tmp_path / "absent") == 8
