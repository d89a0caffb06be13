"""Runs of one cell of the compatibility table: planned from a recipe, prepared, trained on forked gloo ranks."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from launcher.plan import checks_sharding
from launcher.plan.compatibility import Cell
from launcher.plan.facts import gather
from launcher.plan.make import make_plan
from launcher.recipe.load import load_recipe
from launcher.render import files
from launcher.runs.paths import RunDir
from tests.support import planning, tiny, trained, warm

METHODS = {
    "full": "",
    "lora": "peft: {r: 4, lora_alpha: 8}\n",
    "qlora": "peft: {r: 4, lora_alpha: 8}\nquantization: {load_in_4bit: true}\n",
    "int8": "peft: {r: 4, lora_alpha: 8}\nquantization: {load_in_8bit: true}\n",
}
RECIPE = """\
model: {{model_name_or_path: ./model}}
{method}data:
  datasets: [{{label: train, path: train.jsonl, format: messages}}]
  eval_datasets: [{{label: held, path: held.jsonl, format: messages}}]
  max_length: 64
  deduplicate: none
  decontaminate: false
sharding: {{strategy: {strategy}, offload: {offload}{group}}}
training: {{global_batch_size: 8, per_device_train_batch_size: 2, learning_rate: {rate}, max_steps: {steps}, optim: adamw_torch,
  logging_steps: 1, lr_scheduler_type: linear}}
checkpoint: {{save_steps: 3, save_total_limit: 9}}
evaluation: {{eval_steps: 3, generate: [{{dataset: held, metrics: [exact_match], max_new_tokens: 4, max_rows: 3}}]}}
"""


def make(
    root: Path, cell: Cell, *, ranks: int = 2, steps: int = 6, sets: Sequence[str] = (), prepare: bool = True
) -> RunDir:
    """A prepared run of `cell`; the same `root.parent` shares model and data."""
    base = root.parent
    if not (base / "model").exists():
        tiny.model(base / "model")
        tiny.jsonl(base / "train.jsonl", tiny.messages(40))
        tiny.jsonl(base / "held.jsonl", tiny.messages(5, seed=3))
    strategy, _, hybrid = cell.strategy.partition(" ")
    recipe = base / f"{root.name}.yaml"
    text = RECIPE.format(
        method=METHODS[cell.method], strategy=strategy, offload=cell.offload, steps=steps,
        group=", dp_shard_size: 2" if hybrid else "", rate="1.0e-3" if cell.method == "full" else "1.0e-2",
    )  # fmt: skip
    recipe.write_text(text)
    with mock.patch.object(checks_sharding, "NEEDS_GPU", ()):
        loaded = load_recipe(recipe, [f"launch.processes={ranks}", *sets])
        planned = make_plan(loaded, planning.CPU, gather(loaded, planning.CPU))
    files.write(planned, root)
    run = RunDir(root)
    if prepare:
        trained.prepare(run)
    return run


def start(
    run: RunDir,
    *,
    ranks: int = 2,
    attempt: int = 1,
    case: str = "rank_with_logits",
    env: Mapping[str, str | None] | None = None,
) -> warm.Job:
    """Start training as torchrun would, with the plan's own variables."""
    from launcher.plan import codec

    job = codec.loads(run.plan.read_text()).jobs[1]
    variables = {**job.env, "LAUNCHER_ATTEMPT": str(attempt), **(env or {})}
    return warm.start(
        f"tests.sharding.cells:{case}", {"run_dir": str(run.root)}, ranks=ranks, torchrun=True, env=variables
    )


def train(run: RunDir, *, ranks: int = 2, attempt: int = 1, code: int = 0) -> str:
    """Train to the end; returns the logs after checking the exit codes."""
    result = start(run, ranks=ranks, attempt=attempt).wait(timeout=200)
    logs = "\n".join(
        run.rank_log(attempt, rank).read_text() for rank in range(ranks) if run.rank_log(attempt, rank).exists()
    )
    assert set(result.codes) == {code}, f"{result.codes}\n{result.logs}\n{logs[-6000:]}"
    return logs


def rank(run_dir: str) -> None:
    """One rank; FSDP2 is made real on CPUs."""
    import json

    from launcher.worker import main
    from tests import cpu_fsdp

    if json.loads((Path(run_dir) / "plan.json").read_text())["strategy"] == "fsdp2":
        cpu_fsdp.make_real()
    raise SystemExit(main.main(run_dir, os.getppid()))


def start_event(run: RunDir) -> dict[str, Any]:
    """What the last attempt said really ran."""
    from launcher.runs import events

    return [each for each in events.read(run.events) if each["event"] == "start"][-1]


IDS = [list(range(40, 60)), list(range(100, 120))]


def rank_with_logits(run_dir: str) -> None:
    """A rank that also writes, as the training model has them at its end, the logits of `IDS`."""
    import torch

    from launcher.worker.tasks import sft

    save = sft.save_result

    def with_logits(job: Any, trainer: Any, number: int) -> None:
        model = trainer.model
        quantized = job.plan.quantization is not None
        model.train(quantized)
        with torch.no_grad():
            found = model(input_ids=torch.tensor(IDS), use_cache=False).logits
        if number == 0:
            torch.save(found, Path(run_dir) / "logits.pt")
        save(job, trainer, number)

    sft.save_result = with_logits
    rank(run_dir)


def slow_rank(run_dir: str) -> None:
    """A rank that rests in each step after the third, so that a checkpoint is whole before the run is over."""
    import time

    from launcher.worker.trainer import Trainer

    step = Trainer.training_step

    def resting(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step >= 3:
            time.sleep(0.5)
        return step(self, *args, **kwargs)

    Trainer.training_step = resting
    rank(run_dir)


def kill_when_saved(run: RunDir, *, ranks: int) -> None:
    """Train, and SIGKILL every rank when the first checkpoint counts."""
    from launcher.runs import events
    from tests.support.until import until

    job = start(run, ranks=ranks, case="slow_rank")
    until(lambda: any(each["event"] == "commit" for each in events.read(run.events)), seconds=120)
    job.kill()
    assert set(job.wait().codes) == {-9}, "the run was over before it could be killed"


def as_fsdp(run_dir: str) -> None:
    """A rank whose accelerate shares models out on CPUs, whatever the plan says."""
    from launcher.worker import main
    from tests import cpu_fsdp

    cpu_fsdp.make_real()
    raise SystemExit(main.main(run_dir, os.getppid()))


def plain_rank(run_dir: str) -> None:
    """A rank as on a machine without GPUs. DeepSpeed compiles nothing, also where the plan does not speak of it."""
    import deepspeed

    from launcher.worker import main, zero

    deepspeed.ops.__compatible_ops__[zero.SHARED_MEMORY] = False
    raise SystemExit(main.main(run_dir, os.getppid()))
