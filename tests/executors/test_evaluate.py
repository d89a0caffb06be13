"""The stage `evaluate` behind a training: done once, and again without the training where it was not done."""

import json

import pytest

from launcher.cli import screens
from launcher.cli.look import Look, look
from launcher.cli.main import main
from launcher.errors import EnvironmentFault, Exit, RunFailed
from launcher.executors import local, time_left
from launcher.render.report import html
from launcher.runs import events, state
from tests.executors import stages
from tests.executors.test_export import EXPORTS, TRAINS, stage_states
from tests.executors.test_local import Silent
from tests.support import tiny

SAYS = """
def tell(**event):
    open(f"{run}/events.jsonl", "a").write(json.dumps({"time": time.time(), **event}) + "\\n")
"""
BEGINS = SAYS + 'tell(event="start", step=0, max_steps=8, attempt=int(os.environ["LAUNCHER_ATTEMPT"]))\n' + TRAINS
MEASURES = (
    SAYS
    + """
print("measuring", flush=True)
if os.path.exists(f"{run}/lacks"):
    note("evaluate", 4, "environment", "model `base` cannot be loaded", "put it back")
    sys.exit(4)
os.makedirs(f"{run}/eval", exist_ok=True)
json.dump({"when": "final", "step": 8, "losses": {"held": 0.5}, "sets": {}}, open(f"{run}/eval/final.json", "w"))
tell(event="eval", step=8, dataset="held", loss=0.5, when="final", seconds=2.0)
note("evaluate", 0, "finished")
"""
)


@pytest.fixture
def run_dir(tmp_path):
    """A run whose result is measured by a process of its own, then merged."""
    jobs = stages.job("train", BEGINS), stages.job("evaluate", MEASURES), stages.job("export", EXPORTS + MERGED)
    made = stages.run_dir(tmp_path / "demo", *jobs)
    stages.replan(made, method="lora", peft=tiny.LORA)
    return made


MERGED = 'os.makedirs(f"{run}/merged", exist_ok=True)\n'


def slice_of(run_dir, *wanted):
    """What one job of a cluster does: some of the stages."""
    return local._held(run_dir, Silent(), None, wanted)


def test_training_evaluation_and_merge_follow_one_another(run_dir):
    """In the foreground, as on a cluster."""
    assert local.run(run_dir, Silent()) == Exit.DONE
    done = [(stage, word) for stage in ("train", "evaluate", "export") for word in ("started", "done")]
    assert stage_states(run_dir) == done
    assert state.derive(run_dir).name == "done"


def test_what_was_not_measured_is_measured_without_training_again(run_dir, capsys, monkeypatch):
    """The training may have taken days; its ranks are gone."""
    monkeypatch.chdir(run_dir.root.parent)
    (run_dir.root / "lacks").touch()
    with pytest.raises(EnvironmentFault, match="model `base` cannot be loaded"):
        local.run(run_dir, Silent())
    assert not run_dir.done.exists()
    assert main(["logs", "demo", "--stage", "evaluate", "--runs", "."]) == Exit.DONE
    assert capsys.readouterr().out == "measuring\n"
    (run_dir.root / "lacks").unlink()

    assert local.run(run_dir, Silent()) == Exit.DONE
    assert stage_states(run_dir)[4:] == [
        ("train", "skipped"),
        ("evaluate", "started"),
        ("evaluate", "done"),
        ("export", "started"),
        ("export", "done"),
    ]
    assert (run_dir.root / "trained").read_text() == "x"
    assert "evaluated" in screens.run_screen(look(run_dir))
    assert "<title>demo" in html(run_dir) and "evaluated" in html(run_dir)


def test_a_run_is_done_when_the_last_of_its_jobs_is(run_dir):
    """On a cluster each stage may be a job; between them the run says what is to come."""
    assert slice_of(run_dir, "prepare", "train") == Exit.DONE
    assert state.left(run_dir) == ("evaluate", "export")
    assert state.derive(run_dir) == state.State("stopped", "trained; evaluate and export to come")
    assert not run_dir.done.exists() and not run_dir.report.exists()

    assert slice_of(run_dir, "evaluate") == Exit.DONE
    assert state.derive(run_dir) == state.State("stopped", "trained; export to come")
    assert slice_of(run_dir, "prepare", "train", "evaluate") == Exit.DONE
    assert stage_states(run_dir)[-2:] == [("train", "skipped"), ("evaluate", "skipped")]
    assert slice_of(run_dir, "export") == Exit.DONE
    assert state.left(run_dir) == ()
    assert state.derive(run_dir).name == "done" and run_dir.report.exists()


def test_a_longer_training_has_a_result_that_is_not_measured(run_dir):
    """The score of eight steps says nothing of sixteen; nor does it of other eight."""
    assert local.run(run_dir, Silent()) == Exit.DONE
    assert state.evaluated(run_dir)
    run_dir.data_facts.write_text(json.dumps({"max_steps": 16}))
    assert not state.evaluated(run_dir)
    run_dir.data_facts.write_text(json.dumps({"max_steps": 8}))
    for event in ({"event": "start", "step": 0}, {"event": "end", "state": "finished", "step": 8}):
        events.append(run_dir.events, event.pop("event"), **event)
    assert state.complete(run_dir) and not state.evaluated(run_dir)


@pytest.mark.parametrize(
    ("script", "kind", "says"),
    [
        ("note('evaluate', 6, 'out_of_memory', 'MemoryError')\nsys.exit(6)", EnvironmentFault, "measuring the result ran out of memory: MemoryError"),
        ("note('evaluate', 6, 'code', 'KeyError')\nsys.exit(6)", RunFailed, "measuring the result failed: KeyError"),
    ],
)  # fmt: skip
def test_an_evaluation_that_fails_says_why(run_dir, script, kind, says):
    """No split of the training's batch helps it."""
    stages.replan(run_dir, jobs=(stages.job("train", BEGINS), stages.job("evaluate", script)))
    with pytest.raises(kind) as caught:
        local.run(run_dir, Silent())
    assert caught.value.message.splitlines()[0] == says


def test_an_evaluation_that_was_asked_to_leave_is_stopped(run_dir):
    """A scheduler's signal reaches the process itself, which says so in its note."""
    script = "note('evaluate', 85, 'stopped')\nsys.exit(85)"
    stages.replan(run_dir, jobs=(stages.job("train", BEGINS), stages.job("evaluate", script)))
    assert local.run(run_dir, Silent()) == Exit.SAVED_AND_STOPPED
    assert state.derive(run_dir).name == "stopped"


def test_while_it_runs_the_screen_says_so(run_dir):
    """The bar of steps is full by then."""
    assert slice_of(run_dir, "prepare", "train") == Exit.DONE
    events.append(run_dir.events, "stage", stage="evaluate", state="started")
    seen = look(run_dir)
    running = Look(run_dir, state.State("running"), seen.seen, (), seen.now)
    assert screens.run_screen(running).splitlines()[0].endswith("running · evaluate")
    events.append(run_dir.events, "progress", stage="evaluate", what="measuring the result", share=None)
    running = Look(run_dir, state.State("running"), look(run_dir).seen, (), seen.now)
    assert screens.run_screen(running).splitlines()[0].endswith("running · measuring the result")


def test_a_merge_begins_where_twelve_bytes_per_parameter_are_moved_in_time(run_dir):
    """1e9 parameters: read, written, read again, four bytes each at 50 MB/s, a minute to start, half a one to leave."""
    plan = tiny.changed(tiny.plan(peft=tiny.LORA), export=tiny.plan().export)
    assert not time_left.fits(plan, run_dir, 1e9)  # nobody knows its size
    events.append(run_dir.events, "start", parameters=10**9)
    assert time_left.fits(plan, run_dir, 12e9 / 50e6 + 60 + 30)
    assert not time_left.fits(plan, run_dir, 12e9 / 50e6 + 60 + 29)
