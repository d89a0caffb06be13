"""The GPU suite's smoke mode, as continuous integration runs it: every row goes through the code, none claims a speed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu.record import SMOKE_NOTE
from benchmarks.gpu.suites import SUITES

ROOT = Path(__file__).parents[2]
SPEED_AND_MEMORY = {
    "step_s", "real_tokens_per_s", "computed_tokens_per_s", "mfu_datasheet", "mfu_matmul", "flops", "bytes_per_s",
    "peak_allocated_gib", "peak_reserved_gib", "device_used_gib", "peak_to_expected", "context_gib", "memory_gib",
}  # fmt: skip


def suite(out: Path, *arguments: str, timeout: float) -> tuple[subprocess.CompletedProcess, list[dict]]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", "--out", str(out), *arguments],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip
    return done, [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []


@pytest.mark.slow
@pytest.mark.timeout(330)
def test_every_suite_measures_or_says_why_not(tmp_path):
    """Without this, the first run on a borrowed GPU would find the typing errors."""
    done, lines = suite(tmp_path / "gpu.jsonl", "--smoke", "--suite", "all", "--deadline", "240", timeout=300)
    rows = [line for line in lines if line["kind"] == "row"]
    log = (tmp_path / "gpu.log").read_text(errors="replace")[-4000:]

    assert done.returncode == 0, done.stdout + done.stderr + log
    assert [line["kind"] for line in lines if line["kind"] != "row"] == ["head", "plan", "end"]
    assert {row["suite"] for row in rows} == set(SUITES)
    assert [row for row in rows if "error" in row] == [], log
    measured = {row["suite"] for row in rows if "result" in row}
    assert measured >= set(SUITES) - {"sharded"}, "a slow machine may leave no time for the last suite, and no other"
    assert all(row["skipped"] for row in rows if "result" not in row)


@pytest.mark.slow
def test_a_smoke_result_cannot_be_taken_for_a_measurement(tmp_path):
    """Its figures are of a tiny model on a processor."""
    done, lines = suite(
        tmp_path / "gpu.jsonl", "--smoke", "--suite", "ceilings,large", "--deadline", "120", timeout=150
    )
    rows = [line for line in lines if line["kind"] == "row"]

    assert done.returncode == 0
    assert (lines[0]["smoke"], lines[0]["note"]) == (True, SMOKE_NOTE)
    assert all(row["smoke"] for row in rows)
    claimed = [(row["variant"], name) for row in rows for name in SPEED_AND_MEMORY & set(row.get("result", {}))
               if row["result"][name] is not None]  # fmt: skip
    assert claimed == []
    large = next(row for row in rows if row["variant"] == "72b-qlora-2048")["result"]
    assert large["trainable_parameters"] == 4 * 2 * (2 * (64 + 64) + 2 * (64 + 32) + 3 * (64 + 192))  # rank 4, 2 layers


@pytest.mark.slow
def test_rows_that_the_deadline_leaves_out_are_written_as_skipped(tmp_path):
    """A result file accounts for every row, also when the time is up in the middle."""
    _, lines = suite(tmp_path / "gpu.jsonl", "--smoke", "--suite", "ladder", "--deadline", "12", timeout=120)
    planned = next(line for line in lines if line["kind"] == "plan")["rows"]
    rows = [line for line in lines if line["kind"] == "row"]

    assert [row["variant"] for row in rows] == [row["variant"] for row in planned]
    assert "deadline" in str(rows[-1].get("skipped", rows[-1].get("error")))


@pytest.mark.slow
@pytest.mark.skipif(Path("/proc/driver/nvidia").exists(), reason="there is a GPU to measure on")
def test_without_a_gpu_nothing_is_measured(tmp_path):
    """Silence about the device would put CPU figures into the results."""
    done, lines = suite(tmp_path / "gpu.jsonl", "--suite", "ceilings", timeout=60)

    assert (done.returncode, lines) == (4, [])
    assert done.stderr == "error: nvidia-smi shows no GPU\nhint:  --smoke runs the same code on the CPU\n"
