"""`launcher calibrate` on runs written by hand: what is taken, what not and why, and that a run counts once."""

import dataclasses
import json

import pytest

from launcher.cli.main import main
from launcher.cluster import calibrations
from launcher.plan import codec
from launcher.predict.prediction import Memory, Prediction
from launcher.runs import events, record
from launcher.runs.machine import processor
from launcher.runs.paths import RunDir
from launcher.version import VERSION
from tests.support import tiny

MIB = 2**20
MEMORY = Memory({"weights": 100 * MIB, "activations": 60 * MIB}, "backward")


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("LAUNCHER_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def made(folder, name, *, step_s=2.0, formula_s=1.0, held=200 * MIB, steps=20, done=True, device=None, **plan):
    """A run on this processor that was predicted to take `formula_s` a step and 160 MiB of tensors."""
    run_dir = RunDir(folder / "runs" / name)
    found = Prediction(MEMORY, 2**33, "fits", formula_s=formula_s, flops=1e10)
    changed = {"prediction": found, "launcher_version": VERSION, **plan}
    tiny.run_dir(run_dir.root, dataclasses.replace(tiny.plan(), **changed), {})
    record.write(run_dir, record.new(name, {}))
    events.append(run_dir.events, "start", attempt=1, step=0)
    ranks = [{"rank": 0, "anonymous_bytes": held}]
    told = {"device": device or processor(), "steps": steps, "step_s": step_s, "ranks": ranks}
    events.append(run_dir.events, "measured", attempt=1, step=steps, **told)
    if done:
        run_dir.done.touch()
    return run_dir


def said(capsys, *argv):
    assert main(["calibrate", *argv]) == 0
    return capsys.readouterr().out


def test_finished_runs_teach_and_each_counts_once(tmp_path, capsys):
    """2, 2.2 and 1.8 s instead of 1 s: ×2; the process holds 40 MiB beside its tensors. The same line again adds nothing."""
    for name, step_s in (("a", 2.0), ("b", 2.2), ("c", 1.8)):
        made(tmp_path, name, step_s=step_s)
    first = said(capsys)
    assert first.splitlines()[:3] == [
        f"{processor()}: 3 runs",
        "process   beside its tensors 40.0 MiB  (40.0 MiB to 40.0 MiB, 3 runs)",
        "speed     in float32 5 GFLOP/s  (4.55 GFLOP/s to 5.56 GFLOP/s, 3 runs)",
    ]
    assert "3 new" in first
    again = said(capsys)
    assert "0 new" in again
    assert len(calibrations.known(processor())[0]) == 3


def test_errors_are_told_without_and_with_what_the_others_have_taught(tmp_path, capsys):
    """Run b took 2.2 s; a and c have taught 2.0 and 1.8, their median is 1.9: -14 %. Its own figure is not in it."""
    for name, step_s in (("a", 2.0), ("b", 2.2), ("c", 1.8)):
        made(tmp_path, name, step_s=step_s)
    out = said(capsys)
    assert [line.split() for line in out.splitlines() if line.startswith("b ")] == [
        ["b", "-", "-14", "%", "-20", "%", "+0", "%"]
    ]
    assert "each run by what the others have taught" in out


def test_what_is_not_taken_is_named_with_its_reason(tmp_path, capsys):
    """Silence would look like a run that was counted."""
    made(tmp_path, "good")
    made(tmp_path, "open", done=False)
    made(tmp_path, "short", steps=3)
    made(tmp_path, "far", device="NVIDIA H100 80GB HBM3")
    made(tmp_path, "old", launcher_version="0.0.1")
    made(tmp_path, "blind", prediction=None, unpredicted="no sizes")
    out = said(capsys)
    assert "1 new" in out
    for line in (
        "not taken: open: it is not finished",
        "not taken: short: 3 steps were measured, 5 are needed",
        "not taken: far: it ran on H100",
        "not taken: old: launcher 0.0.1 has planned it",
        "not taken: blind: nothing was predicted for it: no sizes",
    ):
        assert line in out, line


def test_a_named_run_is_taken_wherever_it_ran(tmp_path, capsys):
    """A folder of runs copied from a cluster teaches about the cluster's GPU."""
    made(tmp_path, "far", device="NVIDIA GeForce RTX 4090", done=False)
    made(tmp_path, "near")
    assert "RTX4090: 1 run" in said(capsys, "far")
    assert calibrations.known(processor())[0] == ()


def test_a_run_that_went_on_teaches_its_newest_figures(tmp_path, capsys):
    """More epochs of the same run: the same id, measured again."""
    run_dir = made(tmp_path, "a")
    said(capsys)
    events.append(run_dir.events, "start", attempt=2, step=20)
    told = {"device": processor(), "steps": 20, "step_s": 3.0, "ranks": []}
    events.append(run_dir.events, "measured", attempt=2, step=40, **told)
    assert "0 new" in said(capsys)
    (point,) = calibrations.known(processor())[0]
    assert point.step_s == 3.0


def test_show_and_json_learn_nothing(tmp_path, capsys):
    """`--show` looks; programs get the figures."""
    made(tmp_path, "a")
    assert said(capsys, "--show").startswith(f"nothing is learned about {processor()}")
    said(capsys)
    (found,) = json.loads(said(capsys, "--show", "--json"))
    assert (found["device"], found["step"]["float32"]["value"], found["step"]["float32"]["n"]) == (processor(), 2.0, 1)


def test_a_damaged_file_is_told_with_its_line(tmp_path, capsys):
    """It was edited; nothing is overwritten."""
    made(tmp_path, "a")
    said(capsys)
    path = calibrations.path_of(processor())
    path.write_text(path.read_text().replace("step_s: 2.0", "step_s: two"))
    assert main(["calibrate"]) == 2
    assert f"error: {path}:6:" in capsys.readouterr().err
    assert "step_s: two" in path.read_text()


def test_an_attempts_own_plan_is_what_it_is_held_to(tmp_path, capsys):
    """The run's plan may have changed since."""
    run_dir = made(tmp_path, "a")
    run_dir.attempt(1).mkdir(parents=True, exist_ok=True)
    own = codec.loads(run_dir.plan.read_text())
    halved = dataclasses.replace(own, prediction=dataclasses.replace(own.prediction, formula_s=0.5))
    run_dir.attempt_plan(1).write_text(codec.dumps(halved))
    said(capsys)
    assert calibrations.read(processor()).step["float32"].value == 4.0


@pytest.mark.parametrize(
    ("words", "said"),
    [(["--show", "tiny"], "--show learns nothing"), (["--runs", "nothere"], "no folder nothere")],
)
def test_what_would_be_passed_over_is_refused(words, said, capsys):
    """A name beside `--show`, and a folder that is not there."""
    assert main(["calibrate", *words]) == 2
    assert said in capsys.readouterr().err
