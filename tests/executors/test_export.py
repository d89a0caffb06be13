"""Exporting: behind a training, which is not done again for it, and on its own, for a run that is finished."""

import json
import shutil

import pytest

from launcher.cli import look as looking
from launcher.cli import screens
from launcher.cli.main import main
from launcher.errors import EnvironmentFault, Exit, RunFailed, UsageError
from launcher.executors import local
from launcher.executors.export import export
from launcher.runs import events, lock, state
from tests.executors import stages
from tests.executors.test_local import Silent
from tests.support import tiny

TRAINS = """
open(f"{run}/trained", "a").write("x")
os.makedirs(f"{run}/model", exist_ok=True)
json.dump({"max_steps": 8}, open(f"{run}/data.json", "w"))
line = json.dumps({"event": "end", "time": time.time(), "step": 8, "state": "finished", "error": None})
open(f"{run}/events.jsonl", "a").write(line + "\\n")
note(0, 0, "finished")
"""
EXPORTS = """
if os.path.exists(f"{run}/lacks"):
    note("export", 4, "environment", "model `base` cannot be loaded", "put it back")
    sys.exit(4)
note("export", 0, "finished")
"""


@pytest.fixture
def run_dir(tmp_path):
    """A run that trains an adapter and merges it."""
    made = stages.run_dir(tmp_path / "demo", stages.job("train", TRAINS), stages.job("export", EXPORTS))
    stages.replan(made, method="lora", peft=tiny.LORA)
    return made


def stage_states(run_dir):
    return [(each["stage"], each["state"]) for each in events.read(run_dir.events) if each["event"] == "stage"]


def test_what_fails_behind_the_training_is_done_again_without_it(run_dir):
    """The training may have taken days on GPUs that this machine does not have."""
    (run_dir.root / "lacks").touch()
    with pytest.raises(EnvironmentFault) as caught:
        local.run(run_dir, Silent())
    assert (caught.value.message, caught.value.hint) == ("model `base` cannot be loaded", "put it back")
    assert state.derive(run_dir) == state.State("failed", "model `base` cannot be loaded")
    (run_dir.root / "lacks").unlink()

    assert local.run(run_dir, Silent()) == Exit.DONE
    assert (run_dir.root / "trained").read_text() == "x"
    again = [("train", "skipped"), ("export", "started"), ("export", "done")]
    assert stage_states(run_dir) == [
        ("train", "started"),
        ("train", "done"),
        ("export", "started"),
        ("export", "failed"),
        *again,
    ]


def test_a_longer_training_is_not_taken_for_done(run_dir):
    """A recipe that goes on with more steps has more to train."""
    assert local.run(run_dir, Silent()) == Exit.DONE
    run_dir.data_facts.write_text(json.dumps({"max_steps": 16}))
    run_dir.done.unlink()
    assert local.run(run_dir, Silent()) == Exit.DONE
    assert (run_dir.root / "trained").read_text() == "xx"


@pytest.mark.parametrize(
    ("script", "kind", "says"),
    [
        ("note('export', 6, 'out_of_memory', 'MemoryError')\nsys.exit(6)", EnvironmentFault, "merging ran out of memory: MemoryError"),
        ("note('export', 6, 'code', 'the merged model is another one')\nsys.exit(6)", RunFailed, "merging failed: the merged model is another one"),
        ("os.kill(os.getpid(), 9)", RunFailed, "merging ended with SIGKILL (`launch.max_requeues` is 0: it does not start again by itself)"),
    ],
)  # fmt: skip
def test_a_merge_that_fails_says_why(run_dir, script, kind, says):
    """Too little memory is no reason to split the batch."""
    stages.replan(run_dir, jobs=(stages.job("train", TRAINS), stages.job("export", script)))
    with pytest.raises(kind) as caught:
        local.run(run_dir, Silent())
    assert caught.value.message.splitlines()[0] == says


def test_export_leaves_a_finished_run_as_it_is(run_dir, monkeypatch):
    """State, attempts and the account of its time are those of the training."""
    assert local.run(run_dir, Silent()) == Exit.DONE
    before = screens.as_json(looking.look(run_dir))
    monkeypatch.setattr("launcher.executors.export.export_job", lambda *_: stages.job("export", EXPORTS))

    assert export(run_dir, Silent(), base="original") == Exit.DONE
    assert screens.as_json(looking.look(run_dir)) == before
    assert stage_states(run_dir)[-2:] == [("export", "started"), ("export", "done")]
    assert run_dir.stage_log(1, "export").exists()


def test_a_copy_without_its_history_can_be_exported(run_dir, tmp_path, monkeypatch):
    """`attempts/` and `logs/` may be left behind."""
    assert local.run(run_dir, Silent()) == Exit.DONE
    shutil.rmtree(run_dir.attempt(1).parent)
    shutil.rmtree(run_dir.logs(1).parent)
    copy = type(run_dir)(shutil.copytree(run_dir.root, tmp_path / "copy"))
    monkeypatch.setattr("launcher.executors.export.export_job", lambda *_: stages.job("export", EXPORTS))
    assert export(copy, Silent()) == Exit.DONE
    assert state.derive(copy).name == "done"


def test_what_cannot_be_exported_says_what_to_type(run_dir, capsys, monkeypatch):
    """Not trained, running, another base than there is, nothing to merge, a base that is not here."""
    monkeypatch.chdir(run_dir.root.parent)
    monkeypatch.setenv("LAUNCHER_RUNS", ".")

    def refused(*arguments):
        return main(["export", "demo", *arguments]), *capsys.readouterr().err.splitlines()

    goes_on = "hint:  `launcher run demo` goes on to the end"
    assert refused() == (2, "error: demo is not finished: it is queued (not started)", goes_on)
    with lock.hold(run_dir):
        assert refused() == (2, "error: demo is running", "hint:  `launcher status demo` shows what it does")
    stages.replan(run_dir, jobs=(stages.job("train", TRAINS),))
    assert local.run(run_dir, Silent()) == Exit.DONE

    other = "hint:  `launcher export demo --merge-base original`"
    assert refused("--merge-base", "quantized") == (
        2,
        "error: --merge-base quantized: the base is not quantized",
        other,
    )
    run_dir.placement.write_text('{"model": "/nowhere/base"}')
    where = "hint:  say where it is: `launcher export demo --set model.model_name_or_path=PATH`"
    assert refused() == (4, "error: /nowhere/base is not on this machine (`model.model_name_or_path`)", where)
    stages.replan(run_dir, method="full", peft=None)
    nothing = "error: there is no adapter: all weights are trained, and demo/model is the whole model"
    assert refused() == (2, nothing, "hint:  load demo/model with transformers")


def test_a_run_whose_training_is_over_can_be_exported_before_it_is_done(run_dir, monkeypatch):
    """Its own export failed; with another base it may not."""
    (run_dir.root / "lacks").touch()
    with pytest.raises(EnvironmentFault):
        local.run(run_dir, Silent())
    (run_dir.root / "lacks").unlink()
    monkeypatch.setattr("launcher.executors.export.export_job", lambda *_: stages.job("export", EXPORTS))
    assert export(run_dir, Silent()) == Exit.DONE
    shutil.rmtree(run_dir.model)
    with pytest.raises(UsageError, match="demo is not finished: it is failed"):
        export(run_dir, Silent())
