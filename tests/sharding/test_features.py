"""What adapters, packing and checkpointing do is the same under every strategy; and a mismatch stops a run before its first step."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.plan.compatibility import Cell
from launcher.runs import events
from launcher.runs.paths import RunDir
from tests.sharding import cells
from tests.support import trained, warm

pytestmark = pytest.mark.sharding
ROOT = Path(__file__).parent.parent.parent
FEATURES = {
    "dora": ("lora", ["peft.use_dora=true"]),
    "rslora": ("lora", ["peft.use_rslora=true"]),
    "dropout": ("lora", ["peft.lora_dropout=0.1"]),
    "bias": ("lora", ["peft.bias=all"]),
    "norm": ("lora", ["peft.modules_to_save=[norm]"]),
    "packing": ("lora", ["data.packing=true"]),
    "checkpointing": ("lora", ["training.activation_checkpointing=true"]),
    "checkpointing-full": ("full", ["training.activation_checkpointing=true"]),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


def losses(base: Path, strategy: str, name: str) -> list[float]:
    method, sets = FEATURES[name]
    run = cells.make(base / f"{strategy}-{name}", Cell(strategy, "none", method), sets=sets)
    cells.train(run)
    return trained.losses(run)


@pytest.mark.parametrize("name", FEATURES)
def test_it_trains_alike_under_every_strategy(base: Path, name: str):
    """FSDP2 to the bit as ddp, ZeRO-3 within what another order of additions makes."""
    ddp = losses(base, "ddp", name)
    assert losses(base, "fsdp2", name) == ddp
    if name != "dropout":  # ZeRO-3 runs hooks between the layers' draws on a CPU, and so draws others
        assert max(abs(a - b) for a, b in zip(losses(base, "zero3", name), ddp, strict=True)) <= 1e-5


@pytest.mark.parametrize(
    ("ran", "planned"),
    [("ddp", "fsdp2"), ("fsdp2", "ddp"), ("zero1", "zero2"), ("zero2", "zero3"), ("zero3", "zero1"), ("zero2", "ddp")],
)
def test_a_run_that_would_be_spread_otherwise_stops_before_its_first_step(base: Path, ran: str, planned: str):
    """The plan says one thing and the trainer's arguments another; accelerate would train on in silence."""
    run = cells.make(base / f"{ran}-for-{planned}", Cell(ran, "none", "full"))
    plan = json.loads(run.plan.read_text())
    run.plan.write_text(json.dumps(plan | {"strategy": planned}))
    result = cells.start(run, case="as_fsdp" if ran == "fsdp2" else "plain_rank").wait()
    assert set(result.codes) != {0}
    noted = [json.loads(file.read_text())["error"] for rank in (0, 1) if (file := run.rank_exit(1, rank)).exists()]
    # Each rank sees it; one that is slower may be ended by the other's leaving before it has noted so.
    assert any(f"planned {planned} on 2 ranks, but" in error for error in noted), noted
    assert not any(each["event"] == "step" for each in events.read(run.events))


@pytest.mark.parametrize(
    ("strategy", "method"), [("fsdp2", "lora"), ("zero2", "full"), ("zero3", "lora"), ("zero3", "full")]
)
def test_a_run_killed_behind_its_last_step_makes_no_further_one(base: Path, strategy: str, method: str):
    """transformers would train one more; what remains is to put the result together."""
    run = cells.make(base / f"{strategy}-{method}-last", Cell(strategy, "none", method))
    cells.train(run)
    result = {file.name: file.read_bytes() for file in run.model.glob("*.safetensors")}
    shutil.rmtree(run.model)
    cells.train(run, attempt=2)
    assert len(trained.losses(run)) == 6
    assert {file.name: file.read_bytes() for file in run.model.glob("*.safetensors")} == result
    assert result


@pytest.mark.parametrize("strategy", ["zero1", "zero2", "zero3"])
def test_accelerate_launch_trains_to_the_bit_alike(base: Path, strategy: str):
    """`accelerate launch` on the rendered file. On CPUs it starts ranks for DeepSpeed only: one for MULTI_CPU, ddp for FSDP."""
    run = cells.make(base / f"{strategy}-torchrun", Cell(strategy, "none", "full"))
    other = RunDir(Path(shutil.copytree(run.root, base / f"{strategy}-accelerate")))
    cells.train(run)
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", "accelerate.yaml"]
    subprocess.run(
        [*command, "-m", "launcher.worker", "."],
        cwd=other.root, env={**os.environ, "DS_ACCELERATOR": "cpu", "PYTHONPATH": str(ROOT)}, check=True, timeout=280,
        capture_output=True,
    )  # fmt: skip
    assert trained.losses(other) == trained.losses(run)
    assert len(trained.losses(run)) == 6


def test_the_harness_is_a_command(base: Path):
    """`torchrun -m tests.cpu_fsdp RUN` shares the model out on CPU ranks, as the worker would on GPUs."""
    run = cells.make(base / "harness", Cell("fsdp2", "none", "lora"))
    subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "tests.cpu_fsdp", str(run.root)],
        cwd=ROOT, env={**os.environ, "ACCELERATE_USE_FSDP": "true"}, check=True, timeout=280, capture_output=True,
    )  # fmt: skip
    assert cells.start_event(run)["wrapper"] == "FSDPPeftModelForCausalLM"
    assert cells.start_event(run)["sharded"] > 0


@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2", "zero3"])
def test_one_process_measures_what_the_ranks_shared_out(base: Path, strategy: str, method: str):
    """Losses but for the order of sums, answers to the letter."""
    run = cells.make(base / f"{strategy}-{method}-measured", Cell(strategy, "none", method))
    cells.train(run)
    of_ranks = json.loads(run.evaluation("final").read_text())
    run.evaluation("final").unlink()

    assert warm.run("tests.support.cases:evaluate", {"run_dir": str(run.root)}).value == 0
    alone = json.loads(run.evaluation("final").read_text())
    assert alone["losses"]["held"] == pytest.approx(of_ranks["losses"]["held"], abs=1e-6)
    assert alone["sets"] == of_ranks["sets"]
