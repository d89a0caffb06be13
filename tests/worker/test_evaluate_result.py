"""The stage `evaluate` finds what the ranks that trained would have found, and leaves no half of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from launcher.plan.types import GeneratePlan, Plan
from launcher.runs import events, state
from launcher.runs.paths import RunDir
from launcher.worker import process
from tests.support import tiny, trained, warm

pytestmark = pytest.mark.train

ROWS = tiny.messages(30)
LORA = {**tiny.LORA, "lora_dropout": 0.2}
# Name → method, and what the plan says beside it.
RESULTS: dict[str, dict[str, Any]] = {
    "full": {},
    "full, bfloat16": {"model_plan": {"dtype": "bfloat16"}},
    "LoRA": {"peft": LORA},
    "LoRA, with an added token": {
        "peft": {**LORA, "modules_to_save": ["embed_tokens"]},
        "model_plan": {"add_tokens": ("<tool>",)},
    },
    "LoRA with DoRA on 4 bits": {"peft": {**LORA, "use_dora": True}, "quantization": tiny.NF4},
    "LoRA on 4 bits": {"peft": LORA, "quantization": tiny.NF4},
    "LoRA on 8 bits": {"peft": LORA, "quantization": tiny.INT8},
}


def measured(final: str = "train", *, ranks: int = 1, **fields: Any) -> Plan:
    """Six steps; losses and answers at the start, and at the end by whom `final` says."""
    generate = (GeneratePlan("held_out", ("exact_match", "numeric_match"), 6, None, 3),)
    settings = {"max_steps": 6, "world_size": ranks, **fields}
    plan = tiny.plan(eval_sources=tiny.held_out("held_out", 0.3), generate=generate, **settings)
    return tiny.changed(plan, evaluation=tiny.changed(plan.evaluation, final=final))


def evaluate(run: RunDir, *, code: int = 0, env: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Run the stage; returns its note."""
    begun = warm.start("tests.support.cases:evaluate", {"run_dir": str(run.root)}, env=env)
    return ended(run, begun, code=code)


def ended(run: RunDir, begun: warm.Job, *, code: int) -> dict[str, Any]:
    """Wait for the stage; returns its note."""
    result = begun.wait()
    note = dict(json.loads((run.attempt(1) / "exit-evaluate.json").read_text()))
    assert result.value == code == note["code"], result.logs[0]
    return note


def told(run: RunDir, when: str = "final") -> list[dict[str, Any]]:
    """Events of one measurement, without their times."""
    found = [event for event in events.read(run.events) if event.get("when") == when]
    return [{key: value for key, value in event.items() if key not in ("time", "seconds")} for event in found]


def final(run: RunDir) -> dict[str, Any]:
    """`final.json`, without its time."""
    return {key: value for key, value in json.loads(run.evaluation("final").read_text()).items() if key != "seconds"}


@pytest.mark.parametrize("result", RESULTS)
def test_it_finds_what_the_rank_that_trained_found_to_the_bit(tmp_path, result):
    """Files, events and logs: nobody can tell who measured."""
    run = trained.run_dir(tmp_path / "run", measured(report_to=("tensorboard",), **RESULTS[result]), ROWS)
    trained.train(run)
    of_ranks, events_of_ranks = final(run), told(run)
    run.evaluation("final").unlink()

    evaluate(run)
    assert final(run) == of_ranks
    assert of_ranks["losses"]["held_out"] != json.loads(run.evaluation("base").read_text())["losses"]["held_out"]
    assert len(events_of_ranks) == 2
    assert told(run) == events_of_ranks * 2


def test_two_ranks_leave_it_to_a_job_which_tells_the_trackers_once(tmp_path):
    """An older score goes with the older result; the new one has its place in the same curves."""
    run = trained.run_dir(tmp_path / "run", measured("job", ranks=2, report_to=("tensorboard",)), ROWS)
    run.evals.mkdir()
    run.evaluation("final").write_text("{}")
    trained.train(run, ranks=2)
    assert not run.evaluation("final").exists() and not told(run)
    assert state.complete(run) and not state.evaluated(run)

    evaluate(run)
    assert state.evaluated(run)
    assert final(run)["step"] == 6
    curves = warm.run("tests.worker.test_evaluate_result:curve", {"folder": str(run.tracking)}).value
    assert curves == [[step, pytest.approx(told(run, when)[0]["loss"])] for step, when in ((0, "base"), (6, "final"))]


def curve(folder: str) -> list[tuple[int, float]]:
    """Steps and values of the held-out loss in TensorBoard's files."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(Path(folder) / "tensorboard"))
    read.Reload()
    return [(each.step, each.value) for each in read.Scalars("eval/held_out_loss")]


@pytest.mark.parametrize(
    ("left_s", "base", "here"),
    [
        (None, {"seconds": 1000, "sets": {"held_out": {}}}, True),
        (600, {"seconds": 1, "sets": {"held_out": {}}}, True),
        (600, {"seconds": 1000, "sets": {"held_out": {}}}, False),
        (600, {"seconds": 1, "sets": {}}, False),
    ],
    ids=["no limit", "time enough", "too slow", "answers were never timed"],
)
def test_ranks_measure_the_end_when_the_time_allows(tmp_path, left_s, base, here):
    """Half as long again as the slowest so far must fit into what is left, beside a save."""
    run = trained.run_dir(tmp_path / "run", measured("auto"), ROWS)
    run.evals.mkdir()
    run.evaluation("base").write_text(json.dumps(base))
    env = {} if left_s is None else {"LAUNCHER_DEADLINE": str(time.time() + left_s)}
    assert trained.start(run, env=env).wait().codes == (0,)
    assert run.model.exists()
    assert run.evaluation("final").exists() is here


def stopped_stage(run_dir: str, number: int) -> int:
    """The stage, which gets a signal when its first answers are made."""
    from launcher.worker import measure, stage

    made = measure.answers

    def signalled(*args: Any, **kwargs: Any) -> Any:
        os.kill(os.getpid(), number)
        return made(*args, **kwargs)

    measure.answers = signalled
    return stage.main(run_dir, "evaluate")


@pytest.mark.parametrize("how", ["SIGUSR1", "stop file"])
def test_a_stop_request_leaves_no_half_of_it(tmp_path, how):
    """It is made again, as if nobody had stopped it."""
    run = trained.run_dir(tmp_path / "run", measured("job"), ROWS)
    trained.train(run)
    whole = RunDir(Path(shutil.copytree(run.root, tmp_path / "whole" / "run")))
    if how == "stop file":
        run.stop_request.touch()
        note = evaluate(run, code=85)
    else:
        case = {"run_dir": str(run.root), "number": int(signal.SIGUSR1)}
        note = ended(run, warm.start("tests.worker.test_evaluate_result:stopped_stage", case), code=85)

    assert note["cause"] == "stopped"
    assert not run.evaluation("final").exists() and not told(run)
    assert not state.evaluated(run)
    run.stop_request.unlink(missing_ok=True)
    evaluate(run)
    evaluate(whole)
    assert final(run) == final(whole)


def test_a_training_that_is_not_over_has_no_result(tmp_path):
    """The stage was typed by hand."""
    run = trained.run_dir(tmp_path / "run", measured("job"), ROWS)
    assert evaluate(run, code=6)["error"] == "there is no result to measure: the training is not over"


def test_one_process_sees_one_gpu(monkeypatch):
    """transformers would make copies of the model on all that it sees."""
    for visible, left in ((None, "0"), ("2,3", "2"), ("GPU-a1,GPU-b2", "GPU-a1"), ("", "")):
        if visible is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        else:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        process.see_one_gpu()
        assert os.environ["CUDA_VISIBLE_DEVICES"] == left
