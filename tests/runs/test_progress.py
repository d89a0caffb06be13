"""Progress, speed and loss come from the events alone."""

from launcher.runs import events
from launcher.runs.progress import progress


def step(number, time, loss):
    return {"event": "step", "time": time, "step": number, "loss": loss, "tokens": 100 * number}


def test_speed_and_time_left_come_from_the_steps_of_this_attempt():
    """20 s between attempts are not step time: 2 s and 100 tokens a step, 6 steps left."""
    seen = progress([
        {"event": "attempt", "time": 0.0}, {"event": "start", "time": 1.0, "step": 0, "max_steps": 10},
        step(1, 2.0, 5.0), step(2, 4.0, 4.0), {"event": "commit", "time": 4.5, "step": 2}, step(3, 6.0, 3.9),
        {"event": "attempt", "time": 26.0}, {"event": "start", "time": 28.0, "step": 2, "max_steps": 10},
        {"event": "resume", "time": 28.5, "step": 2}, step(3, 30.0, 3.5), step(4, 32.0, 3.0),
    ])  # fmt: skip
    assert seen.seconds_per_step == 2.0
    assert seen.seconds_left == 12.0
    assert seen.tokens_per_s == 50.0
    assert seen.losses == [(1, 5.0), (2, 4.0), (3, 3.5), (4, 3.0)]
    assert (seen.step, seen.saved_step, seen.at_risk) == (4, 2, 2)


def test_the_first_and_last_loss_of_each_eval_set_are_kept():
    """Their difference is what training was for."""
    evals = [("a", 3.0), ("b", 2.0), ("a", 1.5)]
    seen = progress({"event": "eval", "time": 0.0, "step": 0, "dataset": name, "loss": loss} for name, loss in evals)
    assert seen.first_eval == {"a": 3.0, "b": 2.0}
    assert seen.last_eval == {"a": 1.5, "b": 2.0}


def test_a_checkpoint_that_was_passed_over_is_not_safe():
    """A run that goes on from step 10 although 20 was saved risks the steps since 10."""
    saved = [{"event": "commit", "step": step} for step in (10, 20)]
    seen = progress(
        [*saved, {"event": "resume", "step": 10}, {"event": "start", "step": 10}, {"event": "step", "step": 13}]
    )
    assert (seen.saved_step, seen.at_risk) == (10, 3)
    seen = progress([*saved, {"event": "start", "step": 0}, {"event": "step", "step": 2}])
    assert (seen.saved_step, seen.at_risk) == (None, 2)


def test_a_torn_line_costs_only_itself(tmp_path):
    """A kill in the middle of a write must not glue the next attempt's first event to the torn line."""
    path = tmp_path / "events.jsonl"
    events.append(path, "attempt", attempt=1)
    with path.open("a") as file:
        file.write('{"event": "st')
    assert [each["attempt"] for each in events.read(path)] == [1]
    events.heal(path)
    events.append(path, "attempt", attempt=2)
    assert [each["attempt"] for each in events.read(path)] == [1, 2]


def test_healing_leaves_whole_files_alone(tmp_path):
    """No file, an empty one, and one that ends in a newline stay as they are."""
    events.heal(tmp_path / "none")
    assert not (tmp_path / "none").exists()
    for text in ("", "{}\n"):
        (tmp_path / "e").write_text(text)
        events.heal(tmp_path / "e")
        assert (tmp_path / "e").read_text() == text


def test_a_long_stage_says_what_it_does_how_far_it_is_and_how_fast():
    """600 rows in 2 s are 300 a second; another source starts its own count; the end of the stage ends it."""
    start = {"event": "stage", "time": 0.0, "stage": "prepare", "state": "started"}
    told = [
        {"event": "progress", "time": 1.0 + n, "what": "chat: tokenising", "share": n / 4, "rows": 300 * n}
        for n in range(3)
    ]
    seen = progress([start, *told])
    assert (seen.stage, seen.what, seen.share, seen.rows_per_s) == ("prepare", "chat: tokenising", 0.5, 300.0)
    seen.add({"event": "progress", "time": 4.0, "what": "code: tokenising", "share": None, "rows": 5})
    assert (seen.what, seen.share, seen.rows_per_s) == ("code: tokenising", None, None)
    seen.add({"event": "stage", "time": 5.0, "stage": "prepare", "state": "done"})
    assert (seen.stage, seen.what, seen.rows_per_s) == (None, None, None)
