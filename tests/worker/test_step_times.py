"""What a rank says about its time: training apart from evaluation, saving and loading."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from launcher.runs import attempts, events
from launcher.runs.goodput import measure
from launcher.runs.paths import RunDir
from tests.support import tiny, trained, warm
from tests.support.until import until

CASES = "tests.worker.test_step_times:"
SLOW_S = {"fetching": 0.1, "training": 0.2, "evaluating": 3.0, "saving": 3.0}


def slow_rank(run_dir: str) -> None:
    """A rank in which each part takes at least so long: a batch, a step, an evaluation, a save."""
    from launcher.worker import evaluate, main
    from launcher.worker.trainer import Trainer

    def slowed(function: Any, seconds: float) -> Any:
        def slow(*args: Any, **kwargs: Any) -> Any:
            time.sleep(seconds)
            return function(*args, **kwargs)

        return slow

    Trainer.get_batch_samples = slowed(Trainer.get_batch_samples, SLOW_S["fetching"])
    Trainer.training_step = slowed(Trainer.training_step, SLOW_S["training"])
    Trainer._save_checkpoint = slowed(Trainer._save_checkpoint, SLOW_S["saving"])
    evaluate.mean_loss = slowed(evaluate.mean_loss, SLOW_S["evaluating"])
    raise SystemExit(main.main(run_dir, os.getppid()))


def killed_rank(run_dir: str, step: int, saved: int) -> None:
    """A rank that is killed when `step` steps are done and checkpoint `saved` is whole."""
    from launcher.worker import main
    from launcher.worker.trainer import Trainer

    train_step = Trainer.training_step

    def deadly(self: Trainer, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step == step:
            until((RunDir(Path(run_dir)).checkpoints / f"checkpoint-{saved}").exists)
            os.kill(os.getpid(), signal.SIGKILL)
        return train_step(self, *args, **kwargs)

    Trainer.training_step = deadly
    raise SystemExit(main.main(run_dir, os.getppid()))


def plan(**changes: Any) -> Any:
    """Six steps, logged at 3 and 6, saved at 2, 4 and 6, evaluated at 0, 3 and 6."""
    held = tiny.held_out("held", 0.2)
    trainer = {"logging_steps": 3}
    return tiny.plan(max_steps=6, save_steps=2, eval_steps=3, eval_sources=held, trainer=trainer, **changes)


@pytest.mark.train
@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_training_evaluation_and_saving_are_timed_apart(tmp_path: Path, ranks: int):
    """Steps take at least what was put into them, and all parts together no more time than there was between two events."""
    run = trained.run_dir(tmp_path / "run", plan(world_size=ranks), tiny.messages(40))
    env = {"LAUNCHER_ATTEMPT": "1"}
    result = warm.run(CASES + "slow_rank", {"run_dir": str(run.root)}, ranks=ranks, torchrun=True, env=env)
    assert set(result.codes) == {0}, run.rank_log(1, 0).read_text()[-2000:]
    found = measure(events.read(run.events))
    told = [event for event in events.read(run.events) if event["event"] in ("step", "trained")]
    (one,) = found.attempts

    assert [(event["event"], event["step"]) for event in told] == [
        ("trained", 2), ("step", 3), ("trained", 4), ("step", 6),
    ]  # fmt: skip
    # The first batch of an attempt is loading: the clock starts with its first step.
    steps_s = 6 * SLOW_S["training"] + 5 * SLOW_S["fetching"]
    assert steps_s <= one.productive_s < steps_s + 2 * SLOW_S["evaluating"]
    assert one.evaluating_s >= 3 * SLOW_S["evaluating"]
    saves_s = 3 * SLOW_S["saving"]
    assert one.productive_s + one.evaluating_s + saves_s <= one.wall_s
    assert (one.from_step, one.to_step) == (0, 6)
    assert one.first_step_s >= SLOW_S["evaluating"] + SLOW_S["training"]


@pytest.mark.train
@pytest.mark.slow
def test_a_killed_run_that_goes_on_counts_each_step_once(tmp_path: Path):
    """Killed after step 9, gone on from 8: twelve steps, one of them lost."""
    run = trained.run_dir(tmp_path / "run", tiny.plan(max_steps=12, save_steps=4), tiny.messages(60))
    args = {"run_dir": str(run.root), "step": 9, "saved": 8}
    killed = warm.run(CASES + "killed_rank", args, torchrun=True, env={"LAUNCHER_ATTEMPT": "1"})
    assert killed.codes == (-9,), run.rank_log(1, 0).read_text()[-2000:]
    trained.train(run, attempt=2)
    tried = [attempt for number in attempts.numbers(run) if (attempt := attempts.read(run, number))]
    found = measure(events.read(run.events), tried)
    counted = [event["seconds"] for event in _effective(run)]

    assert [(each.from_step, each.to_step, each.lost_steps) for each in found.attempts] == [(0, 9, 1), (8, 12, 0)]
    assert found.total("productive_s") == pytest.approx(sum(counted))
    assert found.share is not None
    assert 0 < found.share < 1


def _effective(run: RunDir) -> list[dict[str, Any]]:
    """The step events that count: of each step the last."""
    return list({event["step"]: event for event in events.read(run.events) if event["event"] == "step"}.values())
