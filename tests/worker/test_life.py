"""How a rank starts and how it ends: checks before the first step, stop requests, failures, exit codes, the result."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.plan import codec
from launcher.runs import attempts, checkpoints, events, lock
from launcher.runs.paths import RunDir
from tests.support import tiny, trained, warm

ROWS = tiny.messages(30)


def steps(run: RunDir) -> list[int]:
    return [event["step"] for event in events.read(run.events) if event["event"] == "step"]


@pytest.mark.train
def test_one_process_trains_without_a_wrapper_even_under_torchrun(tmp_path: Path):
    """A wrapper around one rank costs time and changes nothing but the names."""
    run = trained.run_dir(tmp_path / "run", tiny.plan(max_steps=2), ROWS)
    trained.train(run)
    start = next(event for event in events.read(run.events) if event["event"] == "start")

    assert (start["world_size"], start["wrapper"], start["max_steps"]) == (1, "Qwen3ForCausalLM", 2)
    assert trained.note(run)["cause"] == "finished"


@pytest.mark.train
def test_two_ranks_are_one_group_and_wrapped(tmp_path: Path):
    """Asserted by the trainer itself before its first step."""
    run = trained.run_dir(tmp_path / "run", tiny.plan(max_steps=2, world_size=2), ROWS)
    trained.train(run, ranks=2)
    start = next(event for event in events.read(run.events) if event["event"] == "start")

    assert (start["world_size"], start["wrapper"]) == (2, "DistributedDataParallel")


@pytest.mark.train
def test_ranks_that_would_train_alone_stop_before_the_first_step(tmp_path: Path):
    """Without `use_cpu` on a machine without GPUs each rank trains by itself, and says nothing."""
    plan = tiny.plan(world_size=2, trainer={"use_cpu": False})
    alone = replace(plan, trainer={**plan.trainer, "use_cpu": False})
    run = trained.run_dir(tmp_path / "run", alone, ROWS)
    trained.train(run, ranks=2, code=93)

    assert trained.note(run)["error"] == "planned 2 ranks, torchrun started 2, the trainer sees 1"
    assert steps(run) == []


@pytest.mark.train
def test_a_finished_run_can_be_started_again(tmp_path: Path):
    """Killed between the last checkpoint and the result, a run has only the result left to write."""
    run = trained.run_dir(
        tmp_path / "run", tiny.plan(epochs=1.4), ROWS
    )  # 11.2 steps, so 12: the last epoch is not whole
    trained.train(run)
    first, seen = trained.weights(run.model), len(steps(run))
    assert max(steps(run)) == 12
    (run.model / "model.safetensors").unlink()
    trained.train(run, attempt=2)

    assert trained.weights(run.model) == first
    assert len(steps(run)) == seen


@pytest.mark.train
def test_old_checkpoints_leave_when_new_ones_are_whole(tmp_path: Path):
    """Two are kept: the last two."""
    run = trained.run_dir(tmp_path / "run", tiny.plan(save_steps=4, keep=2), ROWS)
    trained.train(run)

    assert [each.step for each in checkpoints.complete(run)] == [16, 12]
    assert not run.staging.exists()


@pytest.mark.train
def test_a_broken_checkpoint_is_passed_over_and_replaced(tmp_path: Path):
    """The newest whole one is continued from; the broken one's place is taken by a whole one."""
    run = trained.run_dir(tmp_path / "run", tiny.plan(save_steps=6), ROWS)
    trained.train(run)
    expected = trained.weights(run.model)
    (run.checkpoints / "checkpoint-16" / "optimizer.pt").write_bytes(b"torn")
    trained.train(run, attempt=2)

    assert [e["step"] for e in events.read(run.events) if e["event"] == "resume"] == [12]
    assert [each.step for each in checkpoints.complete(run)] == [16, 12, 6]
    assert trained.weights(run.model) == expected


@pytest.mark.train
def test_checkpoints_of_other_data_are_not_continued(tmp_path: Path):
    """The schedule and the place in the data would both be wrong."""
    run = trained.run_dir(tmp_path / "run", tiny.plan(save_steps=5), ROWS)
    trained.train(run)
    tiny.jsonl(tmp_path / "train.jsonl", tiny.messages(20))
    trained.prepare(run)
    trained.train(run, attempt=2, code=93)

    assert trained.note(run, attempt=2)["error"] == "checkpoint-16 was trained on other rows than those prepared now"


@pytest.mark.train
def test_a_failure_leaves_one_line_a_cause_and_a_log(tmp_path: Path):
    """The note is what `launcher run` shows; the log holds the rest."""
    run = trained.run_dir(tmp_path / "run", tiny.plan(), ROWS)
    (tmp_path / "model" / "model.safetensors").unlink()
    trained.train(run, code=93)
    note = trained.note(run)

    assert note["cause"] == "environment"
    assert note["error"].startswith(f"model `{tmp_path}/model` cannot be loaded: ")
    assert "\n" not in note["error"]
    assert note["log"] == "logs/attempt-1/rank-0.log"
    assert "Traceback" in (run.root / note["log"]).read_text()


@pytest.mark.train
def test_the_first_of_two_failing_ranks_is_known(tmp_path: Path):
    """The other one fails because of it, with a message about a lost connection that explains nothing."""
    run = trained.run_dir(tmp_path / "run", tiny.plan(world_size=2), ROWS)
    args = {"run_dir": str(run.root), "failing": 1, "step": 3, "fault": "error"}
    job = warm.start("tests.support.cases:rank_with_fault", args, ranks=2, env={"LAUNCHER_ATTEMPT": "1"})

    assert job.wait().codes == (86, 93)  # for rank 0, a connection was lost
    first = attempts.first_failure(attempts.exits(run, 1))
    assert first is not None
    assert (first.who, first.cause, first.error) == ("1", "code", "RuntimeError: this rank is broken")


@pytest.mark.train
def test_a_log_that_cannot_be_written_does_not_end_the_run(tmp_path: Path):
    """The kernel answers as for a device without space. What the trainer prints is not worth the training."""
    run = trained.run_dir(tmp_path / "run", tiny.plan(), ROWS)
    run.logs(1).mkdir(parents=True)
    run.rank_log(1, 0).symlink_to("/dev/full")

    assert trained.start(run).wait().codes == (0,)
    assert steps(run) == list(range(1, 17))


@pytest.mark.train
def test_without_prepared_data_the_first_line_says_so(tmp_path: Path):
    run = trained.run_dir(tmp_path / "run", tiny.plan(), ROWS)
    run.data_facts.unlink()
    trained.train(run, code=93)

    assert trained.note(run)["error"] == "data.json is missing: the data has not been prepared"


@pytest.mark.train
def test_ranks_started_by_hand_share_a_new_attempt(tmp_path: Path):
    """Nobody gave them a number; two of them must not open two attempts."""
    run = trained.run_dir(tmp_path / "run", tiny.plan(world_size=2, max_steps=1), ROWS)
    job = warm.start("tests.support.cases:rank", {"run_dir": str(run.root)}, ranks=2, torchrun=True)

    assert job.wait().codes == (0, 0)
    assert [path.name for path in sorted(run.attempt(2).iterdir())] == [
        "attempt.json", "exit-0.json", "exit-1.json", "rank-0.json", "rank-1.json",
    ]  # fmt: skip


@pytest.mark.train
def test_a_changed_learning_rate_and_weight_decay_hold_when_a_run_continues(tmp_path: Path):
    """The saved optimizer and schedule carry the old ones, which would undo a change that was allowed."""
    run = trained.run_dir(tmp_path / "run", tiny.plan(max_steps=4, save_steps=4), ROWS)
    trained.train(run)
    more = tiny.plan(max_steps=8, save_steps=4, trainer={"learning_rate": 0.004, "weight_decay": 0.5})
    run.plan.write_text(codec.dumps(more), encoding="utf-8")
    trained.prepare(run)
    trained.train(run, attempt=2)

    rates = {event["step"]: event["learning_rate"] for event in events.read(run.events) if event["event"] == "step"}
    assert [rates[step] for step in (5, 6, 7, 8)] == pytest.approx([0.002, 0.0015, 0.001, 0.0005])  # 0.004 × left / 8
    saved = warm.run("tests.support.cases:optimizer_settings", {"checkpoint": f"{run.checkpoints}/checkpoint-8"}).value
    assert {group["weight_decay"] for group in saved} == {0.5, 0.0}
    assert {group["initial_lr"] for group in saved} == {0.004}


@pytest.mark.train
def test_an_adapter_is_trained_on_from_where_it_stopped(tmp_path: Path):
    """Its loss begins where the first training ended, not at that of the base model."""
    first = trained.run_dir(tmp_path / "first", tiny.plan(peft=tiny.LORA, epochs=8.0), ROWS)
    trained.train(first)
    plan = tiny.plan(peft=tiny.LORA, model_plan={"adapter": "first/model"}, epochs=1.0)
    second = trained.run_dir(tmp_path / "second", plan, ROWS, adapter=str(first.model))
    trained.train(second)

    assert trained.losses(second)[0] < trained.losses(first)[0] - 0.2
    assert trained.weights(second.model) != trained.weights(first.model)


@pytest.mark.train
def test_added_tokens_get_an_embedding(tmp_path: Path):
    """One row more in the embedding, in the tokenizer and in the result."""
    plan = tiny.plan(model_plan={"add_tokens": ("<sum>",)}, max_steps=4)
    run = trained.run_dir(tmp_path / "run", plan, [{"prompt": "<sum> 1 2", "completion": "<sum> 3"}] * 8)
    trained.train(run)
    value = warm.run("tests.support.cases:embedding", {"run_dir": str(run.root), "token": "<sum>"}).value

    assert value == {"id": tiny.VOCABULARY, "rows": tiny.VOCABULARY + 1}


def test_a_stage_that_does_not_exist_is_refused(tmp_path: Path):
    assert warm.run("launcher.worker.stage:main", {"root": str(tmp_path), "stage": "nothing"}).value == 2


def test_notes_are_json_with_all_fields(tmp_path: Path):
    """The executor reads these names."""
    run = trained.run_dir(tmp_path / "run", tiny.plan(), ROWS)
    note = json.loads((run.attempt(1) / "exit-prepare.json").read_text())

    assert sorted(note) == ["cause", "code", "error", "hint", "log", "time"]


@pytest.mark.train
def test_a_rank_started_by_hand_leaves_a_directory_that_is_already_run(tmp_path: Path):
    """Whoever types torchrun holds no lock of ours; the first rank takes it, or says that it is taken."""
    run = trained.run_dir(tmp_path / "run", tiny.plan(max_steps=2), ROWS)
    with lock.hold(run):
        refused = trained.start(run).wait()
    assert refused.codes == (93,)
    assert "is being run by another process" in refused.logs[0]
    assert steps(run) == []

    trained.train(run)
    assert steps(run) == [1, 2]
