"""These tests need a CUDA device. `LAUNCHER_GPU_REHEARSAL=1` runs their code on the CPU instead, which shows that it runs."""

import os
from pathlib import Path

import pytest

from benchmarks.gpu.setup import Scale

HERE = Path(__file__).parent
REHEARSAL = os.environ.get("LAUNCHER_GPU_REHEARSAL") == "1"
PRESENT = any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/dxg").exists()  # the latter under WSL


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = "no CUDA device here (LAUNCHER_GPU_REHEARSAL=1 runs the same code on the CPU)"
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.timeout(600))
            if not PRESENT and not REHEARSAL:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def scale() -> Scale:
    """The GPU, or the smoke mode's sizes on the CPU."""
    if REHEARSAL:
        os.environ.update(CUDA_VISIBLE_DEVICES="", DS_ACCELERATOR="cpu")
    else:
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")
    return Scale(smoke=REHEARSAL)
