"""What `status` shows, whole screens at a time."""

import json

import pytest

from launcher.cli import live, screens
from launcher.cli import look as looking
from launcher.render import report
from launcher.runs import attempts, checkpoints, events, record
from launcher.runs.attempts import Attempt
from launcher.runs.goodput import measure
from launcher.runs.measures import measures
from launcher.runs.paths import RunDir
from launcher.runs.progress import Progress, progress
from launcher.runs.state import State
from tests.support import golden

HERE = "node7"


@pytest.fixture(autouse=True)
def _here(monkeypatch, tmp_path):
    monkeypatch.setattr("platform.node", lambda: HERE)
    monkeypatch.setenv("LAUNCHER_RUNS", str(tmp_path))


def seen(steps=57, total=123, *, attempt=1, first=0, at=0.0):
    """An attempt that begins at `at`, loads for 10 s and trains for 1.5 s a step; an evaluation of 2 s, a save that blocks for 1 s."""
    found = [{"event": "attempt", "time": at, "attempt": attempt},
             {"event": "start", "time": at + 10.0, "attempt": attempt, "step": first, "max_steps": total}]  # fmt: skip
    if first == 0:
        found.append(
            {"event": "eval", "time": at + 10.5, "step": 0, "dataset": "held_out", "loss": 1.4, "seconds": 0.25}
        )
    for step in range(first + 1, steps + 1):
        time = at + 10 + 1.5 * (step - first)
        found.append({"event": "step", "time": time, "attempt": attempt, "step": step, "loss": 2 - step / 123,
                      "tokens": 3000 * step, "learning_rate": 1e-4, "memory_gib": 1.25, "seconds": 1.5})  # fmt: skip
        if step == 40:
            found.append(
                {
                    "event": "commit",
                    "time": time + 1,
                    "step": 40,
                    "checkpoint": "checkpoint-40",
                    "seconds": 3,
                    "blocked_s": 1,
                }
            )
    end = at + 10.5 + 1.5 * (steps - first)
    found.append({"event": "eval", "time": end, "step": steps, "dataset": "held_out", "loss": 1.02, "seconds": 2.0})
    return found


def look(tmp_path, name, state, found, *tried, now=200.0):
    run_dir = RunDir(tmp_path / name)
    run_dir.root.mkdir()
    return looking.Look(run_dir, state, progress(found), tried, now, measure(found, tried), measures=measures(found))


def commit(run_dir, step):
    folder = run_dir.checkpoints / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "w").write_bytes(b"12")
    body = {"schema": checkpoints.SCHEMA, "step": step, "files": {"w": {"size": 2, "sha256": "not read here"}}}
    (folder / "MANIFEST.json").write_text(checkpoints.manifest_text(body))


def test_golden_table_of_all_runs(tmp_path):
    """One line each, and below a failed one why and what to type."""
    first = Attempt(1, HERE, 1, 0.0)
    failed = State("failed", "rank 1 failed: IndexError: index out of range")
    runs = [
        look(tmp_path, "de-lora", failed, seen(3), first),
        look(tmp_path, "new", State("queued", "not started"), []),
        look(tmp_path, "support", State("done"), seen(123), first),
        look(tmp_path, "support-2", State("running"), seen(), Attempt(1, "node9", 1, 0.0)),
        look(tmp_path, "theses", State("stopped", "saved"), seen(), first),
    ]
    golden.check("cli/status.txt", screens.runs_table(runs) + "\n")


def test_golden_screen_of_a_running_run(tmp_path):
    """Where it stands, how fast, what a kill would cost, where the time went, what happened, what to type.

    Of 45 steps the kill cost five and 12 s; the 200 s after the stop do not count. 60 steps of 1.5 s are 58 % of 155 s.
    """
    tried = (
        Attempt(1, HERE, 1, 0.0, None, None, asked_by="person"),
        Attempt(2, HERE, 1, 90.0, 140.0, 85, cause="stopped", asked_by="policy"),
        Attempt(3, HERE, 2, 340.0),
    )
    events_ = [*seen(45), *seen(57, attempt=2, first=40, at=90.0), *seen(60, attempt=3, first=57, at=340.0)]
    run = look(tmp_path, "support-2", State("running"), events_, *tried, now=360.0)
    commit(run.run_dir, 40)
    (run.run_dir.checkpoints / "checkpoint-50").mkdir()
    golden.check("cli/status-running.txt", screens.run_screen(run) + "\n")


def test_memory_that_has_spilled_is_said_on_the_screen_of_the_run(tmp_path):
    """The run looks healthy and takes ten times as long: the line in the log has long scrolled away."""
    told = {"event": "warning", "time": 99.0, "message": "the GPU's memory is full", "spill": {"seconds": 15.0}}
    run = look(tmp_path, "slow", State("running"), [*seen(57), told], Attempt(1, HERE, 1, 0.0))
    assert "spill    the GPU's memory is full" in screens.run_screen(run).splitlines()
    assert screens.as_json(run)["measured"]["spill"] == "the GPU's memory is full"


def test_golden_screen_of_a_failed_run(tmp_path):
    """The cause stands in it; the next command shows the log."""
    failed = State("failed", "rank 1 failed: IndexError: index out of range")
    run = look(tmp_path, "de-lora", failed, seen(3), Attempt(1, HERE, 1, 0.0, 30.0, 6))
    golden.check("cli/status-failed.txt", screens.run_screen(run) + "\n")


def test_an_attempt_that_had_too_little_time_to_save_is_told_with_what_it_needs(tmp_path):
    """Half as much again as a step of 1.5 s and a save of 3 s, and 5 s to leave: 11.75 s."""
    run_dir = RunDir(tmp_path / "short")
    run_dir.root.mkdir()
    record.write(run_dir, record.new("short", {}))
    attempts.begin(run_dir)
    told = [
        *seen(45),
        {"event": "stop", "time": 99.0, "step": 46, "cause": "preempted"},
        *seen(57, attempt=2, first=40),
    ]
    run_dir.events.write_text("".join(json.dumps(event) + "\n" for event in told))
    attempts.begin(run_dir)
    line = next(line for line in screens.run_screen(looking.look(run_dir)).splitlines() if line.startswith("grace"))
    assert "attempt 1 was asked to leave and ended before it had saved" in line
    assert "so it needs 12 s" in line
    assert "so it needs 12 s" in report.html(run_dir)


def test_golden_end_of_a_run(tmp_path):
    """What came out, before and after, and what to type."""
    run = look(tmp_path, "support", State("done"), seen(123), Attempt(1, HERE, 1, 0.0, 30.0, 0))
    run.run_dir.evals.mkdir()
    for name, loss, score, answer in (("base", 1.4, 0.0, "?\x1b[31m"), ("final", 1.02, 0.95, "4")):
        sample = {"prompt": "2+2", "reference": "4", "output": answer}
        found = {"when": name, "step": 123, "losses": {"held_out": loss},
                 "sets": {"held_out": {"rows": 1, "metrics": {"exact_match": score}, "samples": [sample]}}}  # fmt: skip
        (run.run_dir.evals / f"{name}.json").write_text(json.dumps(found))
    run.run_dir.report.touch()
    golden.check("cli/run-end.txt", screens.final(run).replace(str(tmp_path), "RUNS") + "\n")


def test_json_is_what_the_files_say(tmp_path):
    """For programs: numbers, not words."""
    run_dir = RunDir(tmp_path / "demo")
    run_dir.root.mkdir()
    record.write(run_dir, record.new("demo", {}))
    attempts.end(run_dir, attempts.begin(run_dir), 85)
    events.append(run_dir.events, "step", step=3, loss=0.5)
    shown = screens.as_json(looking.look(run_dir))
    assert json.loads(json.dumps(shown)) == shown
    assert (shown["name"], shown["state"], shown["step"], shown["loss"]) == ("demo", "stopped", 3, 0.5)
    assert shown["attempts"][0]["code"] == 85
    assert shown["goodput"]["share"] is None


def test_json_tells_where_the_time_went(tmp_path):
    """57 steps of 1.5 s in the 96 s from the attempt's begin to its last event."""
    run = look(tmp_path, "demo", State("running"), seen(), Attempt(1, HERE, 1, 0.0))
    shown = screens.as_json(run)["goodput"]
    assert json.loads(json.dumps(shown)) == shown
    assert (shown["share"], shown["wall_s"], shown["productive_s"], shown["evaluating_s"]) == (0.891, 96.0, 85.5, 2.25)
    assert {name: shown["attempts"][0][name] for name in ("from_step", "to_step", "first_step_s", "saving_s")} == {
        "from_step": 0, "to_step": 57, "first_step_s": 11.5, "saving_s": 1.0,
    }  # fmt: skip


def test_a_long_history_shows_its_last_attempts(tmp_path):
    """A run that was preempted for a week still fits on a screen."""
    tried = [
        Attempt(number, HERE, 1, 10.0 * number, 10.0 * number + 5, 86, cause="infrastructure")
        for number in range(1, 14)
    ]
    run = look(tmp_path, "long", State("stopped"), [], *tried)
    lines = screens.run_screen(run).splitlines()
    assert lines[1] == "history  3 earlier attempts"
    assert lines[2].split() == ["#4", "failed", "(infrastructure)", "5", "s"]
    assert len(lines) == 13


@pytest.mark.parametrize(
    ("values", "line"),
    [([], ""), ([1.0], ""), ([1.0, 1.0], "▁▁"), ([2.0, 1.0], "█▁"), ([0.0, 7.0, float("inf")], "▁█"), ([float(n) for n in range(8)], "▁▂▃▄▅▆▇█")],
)  # fmt: skip
def test_a_sparkline_spans_lowest_to_highest(values, line):
    """Ten bars at most; a flat line is flat, a divergence does not flatten the rest."""
    assert screens.sparkline(values) == line


def test_a_long_history_is_ten_means():
    """0…99 in tens: means 4.5, 14.5, …, 94.5, from the lowest bar to the highest."""
    assert screens.sparkline([float(n) for n in range(100)]) == "▁▂▃▃▄▅▆▆▇█"


def test_plain_lines_show_the_first_and_last_step_and_every_evaluation(capsys, monkeypatch):
    """A log of thousands of steps must stay readable: with 1.5 s a step, every seventh."""
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    lines = live.Lines()
    for event in seen(22, total=22):
        now[0] = event["time"]
        lines.event(event)
    said = capsys.readouterr().err
    assert [
        int(line.split()[1].split("/")[0]) for line in said.splitlines() if line.startswith("step") and "lr" in line
    ] == [1, 8, 15, 22]
    assert said.count("held_out loss") == 2
    assert "step 22/22  loss 1.821  lr 0.0001  2k tok/s  0 s left  1.2 GiB" in said


def test_prepare_is_shown_up_to_its_error(capsys):
    """The error has its own place, and no traceback is shown."""
    lines = live.Lines()
    for line in ("reading sums", "Traceback (most recent call last):", '  File "x.py"', "error: x"):
        lines.output(line)
    assert capsys.readouterr().err == "  reading sums\n"


def test_a_vanished_terminal_does_not_end_the_run(monkeypatch):
    """SIGHUP closes the terminal; the run still has to save."""

    class Gone:
        def write(self, _):
            raise OSError(5, "Input/output error")

        def flush(self): ...

    monkeypatch.setattr("sys.stderr", Gone())
    lines = live.Lines()
    lines.note("saving")
    lines.note("saved")


def test_a_step_line_says_only_what_is_known():
    """Before the first log there is no loss to show."""
    assert live.step_line(Progress()) == "step 0/?"


def test_a_score_during_training_names_its_step():
    """Several of them stand below each other."""
    score = {"event": "score", "step": 20, "dataset": "held", "metrics": {"exact_match": 0.25}, "rows": 8}
    assert live.describe({**score, "when": "step"}) == "step 20  held: exact_match 0.25 on 8 rows"
    assert live.describe({**score, "when": "final"}) == "final  held: exact_match 0.25 on 8 rows"


PREPARING = [
    {"event": "attempt", "time": 0.0, "attempt": 1}, {"event": "stage", "time": 0.0, "stage": "prepare", "state": "started"},
    *({"event": "progress", "time": 1.0 + n, "stage": "prepare", "what": "gsm8k: tokenising", "share": 0.14 * n, "rows": 12_300 * n} for n in range(4)),
]  # fmt: skip


def test_a_run_that_prepares_says_what_and_how_far(tmp_path):
    """In the table and on its own screen: an hour of tokenising is no hang."""
    run = look(tmp_path, "new", State("running"), PREPARING, Attempt(1, HERE, 1, 0.0), now=90.0)
    assert "  preparing 42%  " in screens.runs_table([run])
    assert screens.run_screen(run).splitlines()[0] == (
        "new      local · preparing for 1 min 30 s · gsm8k: tokenising ▕████████▍           ▏ 42%"
    )
    assert screens.as_json(run)["progress"] == {"what": "gsm8k: tokenising", "share": pytest.approx(0.42)}


def test_a_prepared_run_names_the_next_two_commands(tmp_path):
    """Read some rows, then train."""
    run = look(tmp_path, "new", State("prepared"), [], Attempt(1, HERE, 1, 0.0, 5.0, 0))
    assert screens.run_screen(run).splitlines() == [
        "new      local · prepared",
        "history  #1  prepared    5 s",
        "next     launcher inspect new (read some rows) · launcher run new (trains)",
    ]


def test_plain_lines_of_a_long_stage_come_every_ten_seconds(capsys, monkeypatch):
    """Twice a second would bury the rest of the log."""
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    lines = live.Lines()
    lines.event({"event": "stage", "stage": "prepare", "state": "started", "time": 0.0})
    for n in range(1, 61):
        now[0] = n / 2
        lines.event({"event": "progress", "time": n / 2, "what": "chat: tokenising", "share": n / 100, "rows": 500 * n})
    assert capsys.readouterr().err.splitlines() == [
        "prepare…",
        "  chat: tokenising  20%  1k rows/s", "  chat: tokenising  40%  1k rows/s", "  chat: tokenising  60%  1k rows/s",
    ]  # fmt: skip


def test_the_bar_of_a_terminal_follows_a_long_stage(monkeypatch):
    """With the share as a bar; without one, as words alone."""
    monkeypatch.setattr("rich.live.Live.start", lambda _: None)
    screen = live.Screen()
    for event in PREPARING:
        screen.event(event)
    bar, words = (next(iter(column.cells)) for column in screen._picture().columns)
    assert (bar.total, round(bar.completed, 2), words) == (1.0, 0.42, "gsm8k: tokenising  42%  12.3k rows/s")
    screen.event({"event": "progress", "time": 9.0, "what": "packing", "share": None})
    bar, words = (next(iter(column.cells)) for column in screen._picture().columns)
    assert (bar, words) == ("", "packing")


def test_what_w_and_b_kept_on_disk_is_sent_by_a_line_to_type(tmp_path):
    """Until `wandb sync` has marked it; then the line is gone."""
    shown = look(tmp_path, "sums", State("done"), seen())
    assert "wandb" not in screens.run_screen(shown)
    kept = shown.run_dir.tracking / "wandb" / "offline-run-20261130_191738-abc"
    kept.mkdir(parents=True)
    (line,) = (line for line in screens.run_screen(shown).splitlines() if line.startswith("tracking"))
    assert f"wandb sync {tmp_path}/sums/tracking/wandb/offline-run-* (sends what W&B kept on disk" in line
    (kept / "run-abc.wandb.synced").touch()
    assert "wandb" not in screens.run_screen(shown)
