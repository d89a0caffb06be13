"""What an attempt says it took: steps, tokens, and the memory of its steps without that of an evaluation."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from launcher.runs import events
from launcher.worker.spill import Spill
from tests.support import tiny, trained, warm

CASE = "tests.worker.test_measured:rank"
MIB = 2**20
IN_A_STEP, IN_AN_EVALUATION = 96 * MIB, 320 * MIB
SLOW_S = 0.5


def held(size: int) -> None:
    """Take memory and write to all of it, then give it back."""
    taken = bytearray(size)
    taken[::4096] = b"\1" * len(taken[::4096])


def rank(run_dir: str) -> None:
    """A rank whose fifth step holds 96 MiB more, whose evaluations hold 320 MiB more, and whose sixth step is slow."""
    from launcher.worker import evaluate, high_water, main
    from launcher.worker.trainer import Trainer

    mine = os.environ["RANK"]
    step, loss, begin = Trainer.training_step, evaluate.mean_loss, high_water.OfProcess.pass_over

    def stepping(self: Trainer, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step == 4:
            held(IN_A_STEP)
        if self.state.global_step == 5:
            time.sleep(SLOW_S)
        return step(self, *args, **kwargs)

    def measuring(*args: Any, **kwargs: Any) -> Any:
        held(IN_AN_EVALUATION)
        return loss(*args, **kwargs)

    def beginning(self: high_water.OfProcess) -> None:
        begin(self)
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        (Path(run_dir) / f"anonymous-{mine}").write_text(status["RssAnon"].split()[0])

    Trainer.training_step, evaluate.mean_loss, high_water.OfProcess.pass_over = stepping, measuring, beginning
    raise SystemExit(main.main(run_dir, os.getppid()))


@pytest.mark.train
@pytest.mark.parametrize("ranks", [1, 2])
def test_an_attempt_says_what_its_steps_took(tmp_path: Path, ranks: int):
    """Four rows make each step, so that each computes four times the longest: 6 of 8 steps count, one of them slow."""
    rows = [{**row, "messages": row["messages"][:2]} for row in tiny.messages(4)]
    rows[0]["messages"][1] = {"role": "assistant", "content": "because " * 5}
    plan = tiny.plan(
        global_size=4,
        world_size=ranks,
        max_steps=8,
        eval_steps=4,
        eval_sources=(tiny.SourcePlan("held", "held.jsonl"),),
    )
    held_out = tiny.jsonl(tmp_path / "held.jsonl", tiny.messages(4, seed=9))
    run = trained.run_dir(tmp_path / "run", plan, rows, **{"data.held": str(held_out)})
    env = {"LAUNCHER_ATTEMPT": "1"}
    result = warm.run(CASE, {"run_dir": str(run.root)}, ranks=ranks, torchrun=True, env=env)
    assert set(result.codes) == {0}, run.rank_log(1, 0).read_text()[-2000:]
    (found,) = [event for event in events.read(run.events) if event["event"] == "measured"]

    assert (found["attempt"], found["step"], found["steps"]) == (1, 8, 6)
    assert found["step_s"] < SLOW_S < found["step_p99_s"]
    assert found["step_p90_s"] == found["step_p99_s"]
    lengths = [len(each) for each in warm.run(
        "tests.support.cases:prepared", {"run_dir": str(run.root), "label": "train"}
    ).value["input_ids"]]  # fmt: skip
    if ranks == 1:
        padded = 4 * max(lengths) / sum(lengths)
        assert found["computed_tokens_per_s"] / found["tokens_per_s"] == pytest.approx(padded, rel=0.01)
        assert found["computed_tokens"] == 4 * max(lengths)
        assert found["ranks"][0]["largest_tokens"] == 4 * max(lengths)
    assert [each["rank"] for each in found["ranks"]] == list(range(ranks))
    for each in found["ranks"]:
        before = int((run.root / f"anonymous-{each['rank']}").read_text()) * 1024
        assert IN_A_STEP * 0.9 < each["anonymous_bytes"] - before < IN_AN_EVALUATION * 0.9


GIB = 2**30
TOTAL = 24 * GIB


def told(*steps: tuple[float, float, float]) -> list[int]:
    """Numbers of the steps (seconds, GiB reserved, GiB free) at which something is told."""
    spill = Spill()
    found = [spill.add(s, reserved=int(r * GIB), free=int(f * GIB), total=TOTAL) for s, r, f in steps]
    return [number for number, each in enumerate(found, 1) if each]


NORMAL = [(9.0, 18, 4), (4.0, 20, 2), *[(1.0 + 0.02 * (n % 5), 22, 1) for n in range(30)]]


def test_a_full_gpu_whose_steps_fall_off_a_cliff_has_spilled():
    """A browser took the last of the memory at step 33; the third slow step in a row tells, and nothing after it."""
    assert told(*NORMAL, *[(11.0, 22, 0.1)] * 20) == [35]


def test_more_held_than_the_device_has_is_enough():
    """From the first step on nothing was ever fast: there is no cliff to see."""
    assert told((40.0, 26, 0.1), (30.0, 26, 0.1), *[(28.0, 26, 0.1)] * 5) == [5]


@pytest.mark.parametrize(
    "steps",
    [
        [*NORMAL, *[(1.0, 23.7, 0.1)] * 50],  # full, and as fast as ever: it fits
        [*NORMAL, *[(11.0, 22, 1.5)] * 20],  # slow, and there is room: something else
        [*NORMAL, *[(11.0, 22, 0.1), (11.0, 22, 0.1), (1.0, 22, 0.1)] * 9],  # never three in a row
        [(60.0, 22, 0.1), (30.0, 22, 0.1), *[(1.0, 22, 0.1)] * 50],  # the first steps compile
        [(11.0, 22, 0.1)] * 50,  # always so: a slow card that is full, with nothing to compare
        [*NORMAL, *[(2.5, 22, 0.1)] * 20],  # longer rows
    ],
)
def test_what_is_no_spill_stays_unsaid(steps: list[tuple[float, float, float]]):
    assert told(*steps) == []


def test_the_sentence_says_what_to_do():
    """Windows says nothing, and a run that takes ten times as long looks healthy."""
    spill = Spill()
    found = [spill.add(s, reserved=22 * GIB, free=GIB // 10, total=TOTAL) for s in [9, 4, *[1.0] * 6, 11, 11, 11]]
    assert found[-1] is not None
    assert found[-1].sentence() == (
        "the GPU's memory is full (22.0 GiB held of 24.0 GiB) and has spilled into host memory: steps take 11 s, "
        "11 times as long as before; stop the run and go on with fewer rows at a time "
        "(`--set training.per_device_train_batch_size=N`), and close other programs that use the GPU"
    )
