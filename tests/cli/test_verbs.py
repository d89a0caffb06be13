"""The verbs that read and stop runs, as a person types them."""

import json
import subprocess
import sys

import pytest

from launcher.cli.main import main
from launcher.runs import attempts, lock, record
from launcher.runs.paths import RunDir
from tests.support import planning
from tests.support.until import until


@pytest.fixture
def run_dir(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LAUNCHER_RUNS", raising=False)
    made = RunDir(tmp_path / "runs" / "demo")
    made.root.mkdir(parents=True)
    record.write(made, record.new("demo", {}))
    return made


def test_an_unknown_run_is_one_line_with_a_hint(run_dir, capsys):
    """No traceback, exit code 2."""
    for verb in ("status", "logs", "stop", "export", "report", "run"):
        assert main([verb, "dmo"]) == 2
        assert capsys.readouterr().err == "error: no run `dmo` in runs\nhint:  did you mean `demo`?\n"


def test_status_without_runs_says_what_to_type(tmp_path, capsys, monkeypatch):
    """An empty table helps nobody."""
    monkeypatch.chdir(tmp_path)
    assert main(["status", "--runs", "none"]) == 0
    assert capsys.readouterr().out == "no runs in none; `launcher run RECIPE` starts one\n"
    assert main(["status", "--runs", "none", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_a_queued_run_is_listed(run_dir, capsys):
    """By name and by directory."""
    assert main(["status"]) == 0
    assert (
        capsys.readouterr().out
        == "RUN   WHERE  STATE        STEP  LOSS  HELD-OUT  ETA  GOODPUT\ndemo  local  not started     -     -  -         -    -\n"
    )
    assert main(["status", str(run_dir.root), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "queued"


def test_logs_show_the_rank_and_until_it_writes_the_stage_before_it(run_dir, capfdbinary):
    """The first seconds of a run are in the log of the stage, not of a rank."""
    assert main(["logs", "demo"]) == 4
    assert b"no log of rank 0 yet" in capfdbinary.readouterr().err
    attempts.begin(run_dir)
    run_dir.stage_log(1, "prepare").write_text("reading\n")
    assert main(["logs", "demo"]) == 0
    assert capfdbinary.readouterr().out == b"reading\n"
    run_dir.rank_log(1, 0).write_text("rank zero\n")
    run_dir.rank_log(1, 1).write_text("rank one\n")
    for arguments, text in (
        ([], b"rank zero\n"),
        (["--rank", "1"], b"rank one\n"),
        (["--stage", "prepare"], b"reading\n"),
    ):
        assert main(["logs", "demo", *arguments]) == 0
        assert capfdbinary.readouterr().out == text


def test_following_a_log_ends_with_the_run(run_dir):
    """A run that has just started has no log yet; what is written until the end is shown, and then the prompt comes back."""
    with lock.hold(run_dir):
        reader = subprocess.Popen(
            [sys.executable, "-m", "launcher", "logs", "demo", "-f"], stdout=subprocess.PIPE, text=True
        )
        attempts.begin(run_dir)
        log = run_dir.rank_log(1, 0)
        log.write_text("one\n")
        assert reader.stdout.readline() == "one\n"
        log.write_text("one\ntwo\n")
        assert reader.stdout.readline() == "two\n"
        assert reader.poll() is None
    assert reader.wait(10) == 0


def test_stop_leaves_a_request_and_waits_only_as_long_as_it_is_told(run_dir, capsys):
    """A run that is not there needs no stopping, and a script must not wait for ever."""
    assert main(["stop", "demo"]) == 0
    assert capsys.readouterr().out == "demo is not running: not started\n"
    assert not run_dir.stop_request.exists()
    with lock.hold(run_dir):
        assert main(["stop", "demo"]) == 0
        assert run_dir.stop_request.exists()
        assert main(["stop", "demo", "--wait", "0.2"]) == 4
    assert "still running after 0.2 s; the request stands" in capsys.readouterr().err


def test_stop_with_wait_returns_when_the_run_has_left(run_dir, capsys):
    """And shows what became of it."""
    with lock.hold(run_dir):
        stopper = subprocess.Popen(
            [sys.executable, "-m", "launcher", "stop", "demo", "--wait", "60"], stdout=subprocess.PIPE, text=True
        )
        until(run_dir.stop_request.exists)
    assert stopper.wait(10) == 0
    assert "state   demo" in stopper.stdout.read()


def test_what_the_system_refuses_is_one_line_and_exit_code_4(run_dir, capsys):
    """A folder where a file should be, for example."""
    (run_dir.root / "logs" / "attempt-1" / "rank-0.log").mkdir(parents=True)
    (run_dir.root / "attempts" / "1").mkdir(parents=True)
    assert main(["logs", "demo"]) == 4
    assert capsys.readouterr().err == "error: Is a directory: runs/demo/logs/attempt-1/rank-0.log\n"


def test_hardware_that_is_not_here_can_be_planned_for_but_not_run_on(run_dir, capsys):
    """`--on` is for `plan`."""
    assert main(["run", "demo", "--on", "H100x8"]) == 2
    assert "`--on` names hardware that is not here" in capsys.readouterr().err
    assert main(["run", "x.yaml", "--allow-change", "peft"]) == 2
    assert "`--allow-change` needs `--continue RUN`" in capsys.readouterr().err


def test_a_missing_data_file_is_told_before_anything_is_made(run_dir, capsys):
    """With the line of the recipe, and without a half-made run directory."""
    recipe = run_dir.root.parent.parent / "sums.yaml"
    recipe.write_text(
        "schema: 1\nmodel:\n  from_config: {model_type: llama, vocab_size: 16, hidden_size: 8, num_hidden_layers: 1}\n"
        "  tokenizer_name_or_path: .\ndata:\n  datasets:\n    - {label: sums, path: sums.jsonl}\n"
    )
    assert main(["run", "sums.yaml"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: sums.yaml:7:")
    assert "sums.jsonl" in said
    assert not (run_dir.root.parent / "sums").exists()


@pytest.mark.parametrize("shell", ["launcher plan {0} --on T4 >&-", "PYTHONIOENCODING=ascii launcher plan {0} --on T4"])
def test_an_output_that_cannot_take_everything_ends_in_no_trace(tmp_path, shell):
    """A closed one (`>&-`), and one of a system without UTF-8."""
    recipe = planning.recipe(tmp_path).source
    command = shell.replace("launcher", f"{sys.executable} -m launcher").format(recipe)
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_plan_names_the_folder_of_runs_in_the_line_to_type_next(tmp_path, capsys, monkeypatch):
    """Without it, `run` would start a second run beside the one whose data the plan has shown."""
    from tests.support import planning

    monkeypatch.chdir(tmp_path)
    planning.recipe(tmp_path)
    for runs, shown in (([], False), (["--runs", "elsewhere"], True)):
        assert main(["plan", "small.yaml", *runs]) == 0
        line = next(each for each in capsys.readouterr().out.splitlines() if each.startswith("NEXT"))
        assert ("--runs elsewhere" in line) is shown


def too_large(folder) -> None:
    """A recipe for a model that needs more than any machine of a test has: 72.7e9 parameters × 16 bytes."""
    text = planning.RECIPE.replace("Qwen/Qwen3-0.6B", "Qwen/Qwen2.5-72B-Instruct").replace("peft: {r: 8}\n", "")
    planning.recipe(folder, text)


def test_a_plan_that_does_not_fit_ends_with_3(tmp_path, capsys, monkeypatch):
    """As text and as JSON, which says why."""
    monkeypatch.chdir(tmp_path)
    too_large(tmp_path)
    assert main(["plan", "small.yaml", "--on", "RTX4090x1"]) == 3
    assert "DOES NOT FIT" in capsys.readouterr().out
    assert main(["plan", "small.yaml", "--on", "RTX4090x1", "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["prediction"]["verdict"] == "does not fit"


def test_what_does_not_fit_is_not_started(tmp_path, capsys, monkeypatch):
    """Before a run directory is made."""
    monkeypatch.chdir(tmp_path)
    too_large(tmp_path)
    assert main(["run", "small.yaml", "--gpus", "none"]) == 3
    said = capsys.readouterr().err
    assert said.startswith("error: does not fit: needs ")
    assert "`--anyway` starts it as it is" in said
    assert not (tmp_path / "runs").exists()


def test_advice_is_for_every_gpu(tmp_path, capsys, monkeypatch):
    """So it goes with no other hardware."""
    monkeypatch.chdir(tmp_path)
    planning.recipe(tmp_path)
    assert main(["plan", "small.yaml", "--advise", "--on", "H100x8"]) == 2
    assert "--advise looks at every GPU" in capsys.readouterr().err
