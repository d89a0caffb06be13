"""Evaluation on real trainers: right numbers, and not a bit of training changed."""

import json
import math

import pytest

from launcher.worker import measure
from tests.support import warm
from tests.worker import eval_cases as cases

pytestmark = pytest.mark.train
CASE = "tests.worker.eval_cases:"


def prepared(tmp_path, *, eval_rows=7, broken=None, **fields):
    """A prepared run, and the arguments that name it to a forked rank."""
    run = cases.prepare(tmp_path, cases.made_plan(**fields), eval_rows=eval_rows, broken=broken)
    return run, {"root": str(tmp_path), "fields": fields}


def read(run, name):
    return json.loads((run.evals / f"{name}.json").read_text())


@pytest.mark.parametrize(("method", "ranks"), [("full", 1), ("lora", 2), ("qlora", 1), ("qlora", 2)])
def test_training_is_equal_bit_for_bit_with_evaluation_on_and_off(tmp_path, method, ranks):
    """Dropout is on; the base, two steps and the end are measured, answers included. Gradients and weights agree too."""
    run, args = prepared(tmp_path, method=method, ranks=ranks)
    result = warm.run(CASE + "on_and_off", args, ranks=ranks).value

    assert result["on"]["world_size"] == ranks
    assert len(result["on"]["losses"]) == 6
    for part in ("losses", "norms", "accuracies", "weights", "settings"):
        assert result["on"][part] == result["off"][part], part
    assert sorted(path.name for path in run.evals.iterdir()) == [
        "base.json",
        "final.json",
        "step-2.json",
        "step-4.json",
    ]


def test_random_states_and_modes_come_back(tmp_path):
    """A block that draws numbers from every generator and fails leaves no trace."""
    before, after = warm.run(CASE + "drawn_within_undisturbed").value

    assert before == after


def test_dropout_really_runs_in_these_trainings(tmp_path):
    """Without dropout the random state would not matter, and the test above would prove nothing."""
    _, args = prepared(tmp_path, method="lora")
    different = warm.run(CASE + "train_with_other_dropout", args).value

    assert different["losses"][0] != different["other_losses"][0]


@pytest.mark.parametrize("packing", [False, True])
def test_the_loss_is_the_mean_over_trained_tokens_whatever_the_batch_size(tmp_path, packing):
    """Checked against plain logits in double precision, row by row. The Trainer's own mean of batch means differs."""
    _, args = prepared(tmp_path, data={"packing": packing}, trainer={"learning_rate": 1e-2}, eval_rows=19)
    found = warm.run(CASE + "losses_of_sets", {**args, "sizes": [1, 3, 8]}).value

    assert found["ours"] == pytest.approx([found["by_hand"]] * 3, abs=1e-5)
    assert abs(found["trainer"] - found["by_hand"]) > 1e-4


def test_two_ranks_measure_the_same_as_one(tmp_path):
    """Seven rows do not divide by two: no row may count twice, and answers keep their order."""
    one, args = prepared(tmp_path / "one")
    two, args_two = prepared(tmp_path / "two", ranks=2)
    warm.run(CASE + "train", args).value  # noqa: B018 - checks the exit codes
    warm.run(CASE + "train", args_two, ranks=2).value  # noqa: B018
    base, base_two = read(one, "base"), read(two, "base")

    assert base_two["losses"]["sums"] == pytest.approx(base["losses"]["sums"], abs=1e-5)
    assert base_two["sets"] == base["sets"]
    assert base["sets"]["sums"]["rows"] == 7
    assert [s["reference"] for s in base["sets"]["sums"]["samples"][:2]] == ["16 + 6 = 22", "23 + 17 = 40"]


def test_answers_do_not_depend_on_the_batch(tmp_path):
    """Padding on the left must be invisible to the model, or the score would depend on the batch size."""
    _, args = prepared(tmp_path)
    alone, *batched = warm.run(CASE + "generated", {**args, "sizes": [1, 3, 7]}).value["texts"]

    assert batched == [alone, alone]
    assert len(set(alone)) == 7


def test_answers_are_greedy_whatever_the_model_card_says(tmp_path):
    """The model's own sampling settings are neither used nor changed nor complained about; the tokenizer stays as it was."""
    _, args = prepared(tmp_path, method="lora")
    result = warm.run(CASE + "generated", {**args, "sizes": [2]})

    assert result.value["with_sampling_settings"] == result.value["texts"][0]
    assert result.value["unchanged"]
    assert result.value["warnings"] == []
    assert "generation" not in result.logs[0]


def test_answers_end_at_the_end_of_text_and_of_turn(tmp_path):
    """`<|im_end|>` is token 2; when the tokenizer calls another token its end, the chat template's still stops the answer."""
    _, args = prepared(tmp_path)

    assert warm.run(CASE + "stops", args).value == {"usual": [2], "other_end_of_text": [0, 2], "no_template": [0]}


def test_a_set_that_cannot_be_generated_is_a_warning_on_every_rank(tmp_path):
    """One rank meets a token that does not exist; all agree to go on, and the other set is still scored."""
    run, args = prepared(tmp_path, ranks=2, sets=("sums", "bad"), broken="bad")
    result = warm.run(CASE + "train", args, ranks=2).value
    final = read(run, "final")
    warnings = [event for event in cases.recorded(run) if event["event"] == "warning"]

    assert len(result["losses"]) == 6
    assert set(final["sets"]) == {"sums"}
    assert set(final["losses"]) == {"sums", "bad"}
    assert [event["step"] for event in warnings] == [0, 4, 6]
    assert warnings[0]["message"].startswith("evaluation of `bad` failed: IndexError: index out of range")


def test_results_are_files_events_and_log_lines(tmp_path):
    """Files for the report, events for the live view, log lines for trackers; each names its step."""
    run, args = prepared(tmp_path)
    result = warm.run(CASE + "train", args).value
    recorded = cases.recorded(run)
    final = read(run, "final")

    assert [(e["when"], e["step"]) for e in recorded if e["event"] == "eval"] == [
        ("base", 0),
        ("step", 2),
        ("step", 4),
        ("final", 6),
    ]
    assert [(e["when"], e["step"], e["rows"]) for e in recorded if e["event"] == "score"] == [
        ("base", 0, 7),
        ("step", 4, 7),
        ("final", 6, 7),
    ]
    assert set(final) == {"when", "step", "seconds", "losses", "sets"}
    assert set(final["sets"]["sums"]["metrics"]) == {"exact_match", "numeric_match"}
    assert set(final["sets"]["sums"]["samples"][0]) == {"prompt", "reference", "output"}
    assert [row["step"] for row in result["evals"]] == [0, 2, 4, 6]
    assert {"eval_sums_loss", "eval_sums_exact_match"} < set(result["evals"][-1])
    assert final["losses"]["sums"] < read(run, "base")["losses"]["sums"]


def test_the_untuned_model_is_scored_once_per_run(tmp_path):
    """A run that starts again keeps its first measurement; measuring twice would only cost time."""
    run, args = prepared(tmp_path)
    run.evals.mkdir()
    (run.evals / "base.json").write_text("{}")
    warm.run(CASE + "train", args).value  # noqa: B018

    assert (run.evals / "base.json").read_text() == "{}"
    assert (run.evals / "final.json").exists()


def test_a_stopped_run_is_not_scored_as_finished(tmp_path):
    """Final results belong to the last step; a stopped run comes back and has its own end."""
    run, args = prepared(tmp_path, eval_steps=None, generate_steps=None)
    warm.run(CASE + "stopped", args).value  # noqa: B018

    assert sorted(path.name for path in run.evals.iterdir()) == ["base.json"]


@pytest.mark.parametrize(("rows", "ranks"), [(7, 2), (1, 3), (8, 4), (5, 1)])
def test_ranks_share_rows_evenly(rows, ranks):
    """All ranks work through the same number of rows, and each row counts exactly once."""
    shares = [measure._share([10 + i for i in range(rows)], rank, ranks) for rank in range(ranks)]
    counted = [row for share in shares for row in share.rows[: share.counted]]

    assert sorted(counted) == list(range(rows))
    assert {len(share.rows) for share in shares} == {math.ceil(rows / ranks)}
