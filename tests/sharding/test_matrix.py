"""Every cell that runs on CPUs: trained, killed, resumed, resumed on another number of ranks, and its result loaded alone."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from launcher.plan import codec, compatibility
from launcher.plan.compatibility import Cell
from launcher.runs import checkpoints
from launcher.runs.paths import RunDir
from launcher.worker import reality
from tests.sharding import cells
from tests.support import trained, warm

pytestmark = pytest.mark.sharding
RUNNABLE = [cell for cell in compatibility.cells() if compatibility.verdict(cell) == "works"]
SEEN: dict[Cell, dict[str, Any]] = {}
"""Plan of each cell and what it said really ran, for the last test."""
MEASURED: dict[Cell, list[str]] = {}
"""Largest difference of a loss from one process of plain TRL, after going on elsewhere from the straight run, and of a logit."""
WITHIN = {"full": 1e-5, "lora": 1e-5, "qlora": 1e-3, "int8": 1e-3}
"""Largest difference of a loss from one process of plain TRL at the same global batch. TRL keeps an adapter on a quantized
base in bfloat16 (8 bits of mantissa), whose rounding depends on how the gradient was added up."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sharding")


def named(cell: Cell) -> str:
    return f"{cell.strategy}-{cell.offload}-{cell.method}".replace(" ", "-")


def ranks_of(cell: Cell) -> int:
    return max(2, compatibility.fewest_ranks(cell.strategy))


_PLAIN: dict[tuple[str, int], list[float]] = {}


def plain(base: Path, run: RunDir, method: str, ranks: int) -> list[float]:
    """Losses of plain TRL, with DDP on so many ranks."""
    if (method, ranks) not in _PLAIN:
        args = {
            "model": str(base / "model"), "rows": str(run.prepared("train")), "output": str(base / "plain"),
            "method": method, "accumulation": 4 // ranks,
        }  # fmt: skip
        result = warm.run("tests.sharding.plain:losses", args, ranks=ranks, torchrun=ranks > 1, timeout=200)
        _PLAIN[method, ranks] = result.value
    return _PLAIN[method, ranks]


def weights(run: RunDir) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in run.model.glob("*.safetensors")}


def apart(one: list[float], other: list[float]) -> float:
    assert len(one) == len(other) == 6
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("cell", RUNNABLE, ids=named)
def test_a_cell_trains_is_killed_goes_on_and_leaves_a_plain_result(base: Path, cell: Cell):
    """The promise of the table's `works`."""
    ranks = ranks_of(cell)
    run = cells.make(base / named(cell), cell, ranks=ranks)
    half = base / f"{named(cell)}-half"
    shutil.copytree(run.root, half)
    cells.train(run, ranks=ranks)
    SEEN[cell] = {"start": cells.start_event(run), "plan": codec.loads(run.plan.read_text())}
    losses = trained.losses(run)
    from_one = apart(losses, plain(base, run, cell.method, 1))
    assert from_one <= WITHIN[cell.method]
    if cell.strategy == "ddp":
        assert losses == plain(base, run, cell.method, ranks)

    killed = RunDir(half)
    cells.kill_when_saved(killed, ranks=ranks)
    saved = checkpoints.newest(killed).checkpoint
    assert saved is not None
    assert saved.step == 3
    moved = base / f"{named(cell)}-moved"
    shutil.copytree(half, moved)
    cells.train(killed, ranks=ranks, attempt=2)
    assert trained.losses(killed) == losses, "resumed on the same ranks"
    assert weights(killed) == weights(run)

    moves = compatibility.elsewhere(cell.strategy) is None
    from_straight = f"{elsewhere(base, cell, RunDir(moved), losses):.1e}" if moves else "refused"
    MEASURED[cell] = [f"{from_one:.1e}", from_straight, f"{loaded_alone(base, cell, run):.1e}"]
    for folder in (run.root, half, moved):
        shutil.rmtree(folder)


def elsewhere(base: Path, cell: Cell, run: RunDir, losses: list[float]) -> float:
    """The same checkpoint goes on on another number of ranks, at the same global batch; how far from the straight run."""
    other = 4 if cell.strategy in ("fsdp2", "zero2") else 2 if cell.strategy == "fsdp2 hybrid" else 1
    kind = Cell("fsdp2", cell.offload, cell.method) if cell.strategy == "fsdp2 hybrid" else cell
    planned = cells.make(base / f"{named(cell)}-elsewhere", kind, ranks=other, prepare=False)
    for name in ("plan.json", "placement.json"):
        shutil.copy(planned.root / name, run.root / name)
    cells.train(run, ranks=other, attempt=2)
    found = apart(trained.losses(run), losses)
    assert found <= WITHIN[cell.method]
    return found


def loaded_alone(base: Path, cell: Cell, run: RunDir) -> float:
    """The result, loaded by transformers and peft, answers as the model did when training ended; the difference of a logit."""
    args = {"run": str(run.root), "base": str(base / "model"), "method": cell.method}
    found = float(warm.run("tests.sharding.test_matrix:difference", args).value)
    assert found <= {"full": 0.0, "lora": 1e-6, "qlora": 2e-2, "int8": 2e-2}[cell.method]
    return found


def difference(run: str, base: str, method: str) -> float:
    """Largest difference of a logit between the training model and the loaded result."""
    import torch

    from tests.sharding import plain as script

    found = torch.tensor(script.logits(base, f"{run}/model", cells.IDS, method))
    return float((found - torch.load(f"{run}/logits.pt")).abs().max())


def test_what_runs_in_a_cell_is_told_from_what_runs_in_every_other():
    """A planted mismatch for each pair of cells whose difference a rank can see: the check before the first step names it."""
    plans = {cell: seen["plan"] for cell, seen in SEEN.items()}
    for planned, plan in plans.items():
        rows = plan.batch.global_size
        assert list(reality.differences(plan, SEEN[planned]["start"], rows)) == []
        assert list(reality.differences(plan, SEEN[planned]["start"], rows + 1)) != []
        for ran in SEEN:
            same = (planned.strategy, planned.method) == (ran.strategy, ran.method)
            quantized = {planned.method, ran.method} == {"qlora", "int8"} and planned.strategy == ran.strategy
            if not same and not quantized:
                assert list(reality.differences(plan, SEEN[ran]["start"], rows)), f"{ran} passes for {planned}"


def test_the_figures_are_written_where_they_are_asked_for():
    """`LAUNCHER_RESULTS=FOLDER` takes a dated page, as benchmarks write them."""
    folder = os.environ.get("LAUNCHER_RESULTS")
    if not folder:
        pytest.skip("LAUNCHER_RESULTS is not set")
    from benchmarks.page import write

    lines = [
        "`LAUNCHER_RESULTS=benchmarks/results make test-sharding`: six steps in float32 from a loss of 6.0, tiny Qwen3, CPU ranks (gloo).",
        "Largest difference of a loss from one process of plain TRL at the same global batch; after going on, from a checkpoint of",
        "step 3, on another number of ranks, from the run that was not interrupted; and of a logit between the model in training and its",
        "result, loaded by transformers and peft alone. Going on on the same ranks was equal to the bit in every cell.",
        "",
        "| strategy | offload | method | ranks | one process | other ranks | result |",
        "|---|---|---|---|---|---|---|",
    ]
    for cell, figures in MEASURED.items():
        lines.append(f"| {cell.strategy} | {cell.offload} | {cell.method} | {ranks_of(cell)} | {' | '.join(figures)} |")
    assert len(MEASURED) == len(RUNNABLE)
    write(Path(folder), "sharding-matrix", lines)
