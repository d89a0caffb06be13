"""Stop requests at any moment: all ranks leave at one saved step with 85, and what follows is what would have been."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from launcher.plan.types import GeneratePlan, Plan
from launcher.runs import checkpoints, events
from launcher.runs.paths import RunDir
from launcher.runs.stopping import SIGNALS
from tests.support import tiny, trained, warm
from tests.support.until import until

pytestmark = pytest.mark.train

ROWS = tiny.messages(30)
DROPOUT = {**tiny.LORA, "lora_dropout": 0.2}
LONG = {"epochs": 400.0, "save_steps": 100000}


def measured(**fields: Any) -> Plan:
    """Six steps; the loss every two steps, answers every four."""
    generate = (GeneratePlan("held_out", ("exact_match",), 6, None, 3),)
    return tiny.plan(
        peft=DROPOUT, eval_sources=tiny.held_out("held_out", 0.3), generate=generate,
        **{"max_steps": 6, "eval_steps": 2, "generate_steps": 4, **fields},
    )  # fmt: skip


def begin(run: RunDir, *, ranks: int = 1, attempt: int = 1, env: dict[str, str] | None = None, **case: Any) -> warm.Job:
    """Start ranks that behave as `stop_cases.rank` is told."""
    return warm.start(
        "tests.worker.stop_cases:rank",
        {"run_dir": str(run.root), **case},
        ranks=ranks,
        torchrun=True,
        env={"LAUNCHER_ATTEMPT": str(attempt), **(env or {})},
    )


def steps(run: RunDir) -> list[int]:
    return [event["step"] for event in events.read(run.events) if event["event"] == "step"]


def stops(run: RunDir) -> list[tuple[int | None, str]]:
    return [(event["step"], event["cause"]) for event in events.read(run.events) if event["event"] == "stop"]


def saved(run: RunDir) -> list[int]:
    return [each.step for each in checkpoints.complete(run)]


def left(run: RunDir, job: warm.Job, ranks: int, attempt: int = 1) -> None:
    """Every rank left with 85 and says that it was asked to."""
    result = job.wait()
    logs = "\n".join(run.rank_log(attempt, rank).read_text() for rank in range(ranks))
    assert result.codes == (85,) * ranks, f"{result}\n{logs[-4000:]}"
    assert [trained.note(run, rank, attempt)["cause"] for rank in range(ranks)] == ["stopped"] * ranks


def history(run: RunDir) -> dict[str, Any]:
    """All that was measured, by file and by event, without times."""
    found = [event for event in events.read(run.events) if event["event"] in ("eval", "score", "warning")]
    files = {path.name: json.loads(path.read_text()) for path in sorted(run.evals.glob("*.json"))}
    timed = ("time", "seconds")
    return {
        "events": [{key: value for key, value in event.items() if key not in timed} for event in found],
        "files": {
            name: {key: value for key, value in each.items() if key not in timed} for name, each in files.items()
        },
    }


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A measured run of two ranks that nobody asked to stop."""
    run = trained.run_dir(tmp_path_factory.mktemp("whole") / "run", measured(world_size=2), ROWS)
    trained.train(run, ranks=2)
    return run


def test_a_stop_request_saves_at_a_step_and_the_next_start_goes_on(tmp_path: Path):
    """Stopping loses no step, and the two halves are the whole."""
    whole = trained.run_dir(tmp_path / "whole", tiny.plan(peft=DROPOUT, epochs=15.0), ROWS)
    trained.train(whole)
    run = trained.run_dir(tmp_path / "run", tiny.plan(peft=DROPOUT, epochs=15.0), ROWS)
    job = trained.start(run)
    until(lambda: len(steps(run)) >= 3)
    run.stop_request.touch()
    left(run, job, 1)
    (stopped,) = stops(run)
    assert stopped[1] == "stop"
    assert saved(run) == [stopped[0]] == [max(steps(run))]
    assert max(steps(run)) < 120

    run.stop_request.unlink()
    trained.train(run, attempt=2)
    assert trained.losses(run) == trained.losses(whole)
    assert trained.weights(run.model) == trained.weights(whole.model)


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_signal_to_one_rank_stops_all_at_the_same_step(tmp_path: Path, number: signal.Signals):
    """Ranks that leave at different steps would wait for each other for ever."""
    run = trained.run_dir(tmp_path / "run", tiny.plan(world_size=2, **LONG), ROWS)
    job = trained.start(run, ranks=2)
    until(lambda: len(steps(run)) >= 3)
    os.kill(job.pids[1], number)
    left(run, job, 2)

    assert stops(run) == [(max(steps(run)), "another rank")]
    assert saved(run) == [max(steps(run))]


@pytest.mark.parametrize("seed", range(3))
def test_signals_that_do_not_end_lead_to_one_saved_step(tmp_path: Path, seed: int):
    """To any rank at any time, also to those that save, leave, or have written their note: until the last one has gone."""
    run = trained.run_dir(tmp_path / "run", tiny.plan(world_size=2, **LONG), ROWS)
    job = begin(run, ranks=2, slow={"step": 0.1, "save": 1.0, "leave": 1.0, "note": 0.5})
    until(lambda: len(steps(run)) >= 2)
    draw, over = random.Random(seed), threading.Event()

    def storm() -> None:
        while not over.is_set():
            with_pid = [pid for pid in job.pids if Path(f"/proc/{pid}").exists()]
            if with_pid:
                os.kill(draw.choice(with_pid), draw.choice(SIGNALS))
            time.sleep(draw.uniform(0, 0.1))

    thread = threading.Thread(target=storm)
    thread.start()
    try:
        left(run, job, 2)
    finally:
        over.set()
        thread.join()
    assert len(stops(run)) == 1
    assert saved(run) == [stops(run)[0][0]] == [max(steps(run))]


def test_ranks_asked_seconds_apart_leave_together(tmp_path: Path):
    """The second request meets a rank that saves; the third one that leaves."""
    run = trained.run_dir(tmp_path / "run", tiny.plan(world_size=2, **LONG), ROWS)
    job = begin(run, ranks=2, slow={"save": 3.0, "leave": 3.0})
    until(lambda: len(steps(run)) >= 2)
    for rank in (0, 1, 0):
        os.kill(job.pids[rank], signal.SIGTERM)
        time.sleep(2)
    left(run, job, 2)

    assert saved(run) == [stops(run)[0][0]] == [max(steps(run))]


def test_a_request_during_a_save_leaves_with_what_is_being_saved(tmp_path: Path):
    """The time that is left may be too short for a second save."""
    run = trained.run_dir(tmp_path / "run", tiny.plan(world_size=2, max_steps=9, save_steps=3), ROWS)
    left(run, begin(run, ranks=2, place="save", step=3, asked=[1]), 2)

    assert steps(run) == [1, 2, 3]
    assert [event["step"] for event in events.read(run.events) if event["event"] == "save"] == [3]
    assert saved(run) == [3]
    assert stops(run) == [(3, "another rank")]


def test_a_request_during_the_last_save_changes_nothing(tmp_path: Path):
    """All steps are made; what remains is short."""
    run = trained.run_dir(tmp_path / "run", tiny.plan(world_size=2, max_steps=3), ROWS)
    job = begin(run, ranks=2, place="save", step=3, asked=[0, 1])

    assert job.wait().codes == (0, 0)
    assert stops(run) == []
    assert (run.model / "model.safetensors").exists()


@pytest.mark.parametrize("place", ["load", "leave", "result", "note"])
def test_before_the_first_step_a_request_ends_the_run_and_after_the_last_it_does_not(tmp_path: Path, place: str):
    """Before, there is nothing to save; after, all there was to do is done."""
    run = trained.run_dir(tmp_path / "run", tiny.plan(world_size=2, max_steps=2), ROWS)
    job = begin(run, ranks=2, place=place, asked=[1])
    if place == "load":
        left(run, job, 2)
        assert (steps(run), saved(run), stops(run)) == ([], [], [(0, "another rank")])
    else:
        assert job.wait().codes == (0, 0)
        assert (steps(run), saved(run), stops(run)) == ([1, 2], [2], [])


def test_a_request_before_the_model_is_loaded_does_not_wait_for_it(tmp_path: Path):
    """A large one takes minutes."""
    run = trained.run_dir(tmp_path / "run", tiny.plan(), ROWS)
    run.stop_request.touch()
    trained.train(run, code=85)

    assert stops(run) == [(None, "stop")]
    assert steps(run) == []
    assert "start" not in [event["event"] for event in events.read(run.events)]


@pytest.mark.parametrize(
    ("place", "step", "left_at"),
    [("loss", 0, []), ("generate", 0, []), ("loss", 2, [2]), ("generate", 4, [4]), ("loss", 6, [6]), ("generate", 6, [6])],
)  # fmt: skip
def test_a_measurement_is_abandoned_and_made_again(
    uninterrupted: RunDir, tmp_path: Path, place: str, step: int, left_at: list[int]
):
    """A long evaluation must not use up the time to save. With dropout on, any disturbance of the random states shows."""
    run = trained.run_dir(tmp_path / "run", measured(world_size=2), ROWS)
    left(run, begin(run, ranks=2, place=place, step=step, asked=[1]), 2)

    assert (saved(run), max(steps(run), default=0)) == (left_at, step)
    assert [at for at, _ in stops(run)] == [step]
    name = {0: "base.json", 6: "final.json"}.get(step, f"step-{step}.json")
    assert not (run.evals / name).exists()
    assert step not in [event["step"] for event in history(run)["events"]]

    trained.train(run, ranks=2, attempt=2)
    assert history(run) == history(uninterrupted)
    assert trained.losses(run) == trained.losses(uninterrupted)
    assert trained.weights(run.model) == trained.weights(uninterrupted.model)


def test_a_measurement_can_be_abandoned_again_and_again(tmp_path: Path):
    """What was saved stays what it is, and the run still comes to the same end."""
    whole = trained.run_dir(tmp_path / "whole", measured(), ROWS)
    trained.train(whole)
    run = trained.run_dir(tmp_path / "run", measured(), ROWS)
    for attempt in (1, 2):
        left(run, begin(run, attempt=attempt, place="loss", step=2, asked=[0]), 1, attempt)
        assert saved(run) == [2]
    trained.train(run, attempt=3)

    assert steps(run) == [1, 2, 3, 4, 5, 6]
    assert history(run) == history(whole)
    assert trained.weights(run.model) == trained.weights(whole.model)


def test_answers_that_nobody_waits_for_any_more_end_at_the_next_token(tmp_path: Path):
    """A batch of long answers can take a minute; the ranks only ask one another between two batches."""
    found = warm.run("tests.worker.stop_cases:cut_off", {"model": str(tiny.model(tmp_path)), "after": 3}).value

    assert found == {"asked": 3, "texts": 2}


@pytest.mark.slow
@pytest.mark.parametrize(("slow_rank", "seconds"), [(1, 0.3), (0, 0.0)])
def test_ranks_of_unequal_speed_ask_at_the_same_batches(slow_rank: int, seconds: float):
    """A question that one rank asks alone would never be answered; one before each batch would cost more than some batches."""
    arguments = {"batches": 40, "slow_rank": slow_rank, "seconds": seconds}
    result = warm.run("tests.worker.stop_cases:questions", arguments, ranks=2)

    assert result.value == result.values[1]
    assert result.value[:2] == [0, 1]
    assert result.value[-1] == 40
    gaps = [after - before for before, after in itertools.pairwise(result.value)]
    assert all(after <= 2 * before for before, after in itertools.pairwise(gaps))  # careful with what gets slower
    assert max(gaps) <= 3 if seconds else len(result.value) < 20  # 3 × 0.3 s is less than a second, 4 × 0.3 s more


@pytest.mark.slow
def test_the_run_leaves_before_its_time_is_up_and_goes_on_with_more(tmp_path: Path):
    """The time comes from outside, in the environment; it is no part of what is trained."""
    whole = trained.run_dir(tmp_path / "whole", tiny.plan(peft=DROPOUT, max_steps=40), ROWS)
    trained.train(whole)
    run = trained.run_dir(tmp_path / "run", tiny.plan(peft=DROPOUT, max_steps=40), ROWS)
    env = {"LAUNCHER_DEADLINE": str(time.time() + 50)}
    left(run, begin(run, slow={"step": 2.0}, env=env), 1)
    ((step, cause),) = stops(run)
    assert cause == "time limit"
    assert saved(run) == ([step] if step else [])
    assert max(steps(run), default=0) < 40

    trained.train(run, attempt=2)
    assert trained.losses(run) == trained.losses(whole)
    assert trained.weights(run.model) == trained.weights(whole.model)


def test_the_time_kept_free_is_that_of_two_steps_two_saves_and_a_margin(tmp_path: Path):
    """Slowest step and slowest save count, those of earlier attempts too; 30 s are for what is not measured."""
    run = RunDir(tmp_path)
    for seconds in (9.0, 11.0, 2.0):
        events.append(run.events, "commit", step=1, checkpoint="checkpoint-1", seconds=seconds, blocked_s=0.1)
    arguments = {"run_dir": str(tmp_path), "step_s": 0.5, "blocked_s": 0.1}
    found = warm.run("tests.worker.stop_cases:needed", arguments).value

    assert found["first"] == 2 * 11.0 + 30.0
    assert found["stepped"] - found["first"] == pytest.approx(2 * 0.5, rel=0.9)
    assert found["saved"] == found["stepped"]
    assert not found["near"][0]


def test_a_deadline_that_is_no_number_is_refused(tmp_path: Path):
    """A run that overlooks its deadline would lose what it has not saved."""
    run = trained.run_dir(tmp_path / "run", tiny.plan(max_steps=2), ROWS)
    assert begin(run, env={"LAUNCHER_DEADLINE": "noon"}).wait().codes == (93,)

    assert trained.note(run)["error"] == "LAUNCHER_DEADLINE is `noon`, which is no time"
    assert steps(run) == []
