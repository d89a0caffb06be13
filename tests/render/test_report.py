"""The report and the before/after table, from run directories written by hand."""

import json
import re
from html.parser import HTMLParser

import pytest

from launcher.render import evaltable
from launcher.render.chart import Line, chart, smoothed, thinned, ticks
from launcher.render.report import html
from launcher.runs import files, lock, names
from launcher.runs.paths import RunDir
from tests.render import facts, runs
from tests.support import golden

VOID = {"meta", "br", "link", "img"}


class Page(HTMLParser):
    """A page taken apart: its tags, the text outside of scripts and styles, and whether tags are closed in order."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.open, self.attributes = [], [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip() and "style" not in self.open:
            self.words.append(data.strip())

    @property
    def text(self):
        return " ".join(self.words)


def test_the_page_of_a_finished_run(tmp_path):
    """Verdict, figures, curves, scores, answers, decisions, data, attempts, versions and what to type next."""
    page = Page(html(runs.finished(tmp_path)))

    assert page.tags.count("svg") == 4 + 2 * (2 + 3)  # loss and rate; mix and packing, three histograms
    for words in (
        "done",
        "800 of 800 steps",
        "0.0 % → 93.0 %",
        "sums exact_match 0.0 % 93.0 % +93.0 pt",
        "sums loss 6.000 0.410 -5.590",
        "What is 3 plus 1?",
        "training.activation_checkpointing off there is no GPU memory to save",
        "support 3,058 1,861,468 70.0 % 70.0 % 1.00 54 %",
        "support 3,100 2 bad, 12 duplicates, 8 in an eval set, 20 held out",
        "support support.jsonl:2 duplicate: support.jsonl:1",
        "82 optimizer steps in all: below 100 a model hardly learns",
        "20k of 1M parameters (2.00%)",
        "trl 1.16.0",
        "goodput 29% of 2 h 18 min lost 50 steps, 2 min 30 s loading and the rest 42 min down 53 min",
        "1 2026-11-18 11:06 UTC 30 min node-1 0 → 450 14 s 50 killed",
        "2 2026-11-18 12:30 UTC 55 min node-1 400 → 800 26 min 0 done",
        "the result: model or adapter, with its tokenizer",
    ):
        assert words in page.text, words


def test_a_run_that_never_timed_its_steps_shows_no_goodput(tmp_path):
    """Runs of older versions: a share of 0 % would be wrong."""
    steps = [{key: value for key, value in event.items() if key != "seconds"} for event in runs.course(20)]
    run = runs.written(tmp_path, steps)
    runs.attempt(run, 1, code=85)
    page = Page(html(run))

    assert "goodput" not in page.text.lower()
    assert "node-1 0 → 20 14 s 0 saved and stopped" in page.text


def test_the_page_needs_nothing_but_itself(tmp_path):
    """It is mailed around and opened years later: no address outside, no script."""
    text = html(runs.finished(tmp_path))
    page = Page(text)

    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name in ("src", "href") or name.startswith("on")]
    assert "url(" not in text
    assert "http" not in text


def test_what_people_and_models_write_stays_text(tmp_path):
    """A model can be trained to answer with a script, and a recipe can come from anyone."""
    run = runs.finished(tmp_path)
    evil = {"prompt": runs.EVIL, "reference": runs.EVIL, "output": runs.EVIL}
    final = json.loads((run.evals / "final.json").read_text())
    final["sets"] = {runs.EVIL: {"rows": 1, "metrics": {runs.EVIL: 0.5}, "samples": [evil]}}
    final["losses"] = {runs.EVIL: 1.0}
    files.write_json(run.evals / "final.json", final)
    plan = json.loads(run.plan.read_text())
    plan["decisions"] = [{"key": runs.EVIL, "value": runs.EVIL, "reason": runs.EVIL}]
    plan["model"]["name"] = plan["hardware"] = runs.EVIL
    plan["warnings"] = [runs.EVIL]
    run.plan.write_text(json.dumps(plan))
    seen = [{"event": "eval", "step": 4, "dataset": runs.EVIL, "loss": 1.0}, {"event": "warning", "message": runs.EVIL}]
    run.events.write_text(run.events.read_text() + "".join(json.dumps(event) + "\n" for event in seen))
    renamed = json.dumps(facts.PACKED).replace("support", runs.EVIL).replace("faq", runs.EVIL)
    run.data_facts.write_text(renamed)
    run.bad_rows.write_text(json.dumps({"source": runs.EVIL, "place": runs.EVIL, "reason": runs.EVIL, "of": runs.EVIL}))
    runs.attempt(run, 2, code=6, error=runs.EVIL)
    text = html(run)

    assert "<script" not in text
    assert "script" not in Page(text).tags
    assert text.count("&lt;script&gt;") > 15


def test_a_failed_run_shows_how_far_it_came_and_how_to_go_on(tmp_path):
    """The report of a failure is read more often than that of a success."""
    seen = [*runs.course(230), {"event": "save_failed", "step": 200, "error": "No space left on device"}]
    base = runs.evaluation("base", 0, loss=6.0, share=0.0, answers=["", "x"])
    run = runs.written(tmp_path, seen, evals={"base": base})
    runs.attempt(run, 1, code=6, error="rank 1: out of memory")
    page = Page(html(run))

    assert "failed 230 of 800 steps · rank 1: out of memory" in page.text
    assert "saving step 200 failed: No space left on device" in page.text
    assert "not generated" in page.text
    assert f"launcher run {names.typed(run)}" in page.text


def test_a_run_that_still_holds_its_lock_is_running_until_its_training_has_ended(tmp_path):
    """The executor writes the page as its last act, while it still holds the lock; the page must not say `running` for ever."""
    run = runs.written(tmp_path, runs.course(230))
    runs.attempt(run, 1, code=None)
    ended = {"event": "end", "time": runs.START, "step": 800, "state": "finished", "error": None}
    with lock.hold(run):
        before = Page(html(run)).text
        run.events.write_text(run.events.read_text() + json.dumps(ended) + "\n")
        after = Page(html(run)).text

    assert "running 230 of 800 steps" in before
    assert "launcher stop" in before
    assert "done 230 of 800 steps" in after


@pytest.mark.parametrize("known", ["nothing", "plan", "torn"])
def test_whatever_is_missing_is_left_out(tmp_path, known):
    """A page can be asked for at any time: right after the start, or from a damaged directory."""
    run = RunDir(tmp_path / "new")
    run.root.mkdir()
    if known == "plan":
        run = runs.written(tmp_path, [], name="planned")
        run.data_facts.unlink()
    if known == "torn":
        run.plan.write_text('{"schema": 1, "na')
        run.events.write_text('{"event": "step", "step": 3, "loss": NaN}\n{"event": "st')
        run.evals.mkdir()
        (run.evals / "base.json").write_text("{}")
    page = Page(html(run))

    assert "Next" in page.words
    assert "svg" not in page.tags


def test_steps_trained_twice_are_drawn_once(tmp_path):
    """After a kill at step 450 the run went on from 400: the curve must not run back."""
    text = html(runs.finished(tmp_path))
    curve = re.search(r'class="line c0" points="([^"]*)"', text)[1]
    across = [float(point.split(",")[0]) for point in curve.split()]

    assert across == sorted(across)


def test_a_set_that_got_worse_is_said(tmp_path):
    """A table of first and last alone would praise a run that should have stopped earlier."""
    losses = [(0, 6.0), (50, 1.9), (400, 3.06)]
    seen = [{"event": "eval", "step": step, "dataset": "faq", "loss": loss} for step, loss in losses]
    evals = {"base": runs.evaluation("base", 0, loss=6.0, share=0.0, answers=[])}
    page = Page(html(runs.written(tmp_path, seen, evals=evals)))

    assert "The loss of faq was lowest at step 50 (1.900) and is 3.060 at step 400" in page.text


def test_the_table_before_and_after(tmp_path):
    """The lines that `launcher run` prints at its end."""
    run = runs.finished(tmp_path)

    golden.check("render/before_after.txt", evaltable.before_after(run) + "\n\n" + evaltable.answers(run) + "\n")


def test_the_table_names_the_step_of_an_unfinished_run(tmp_path):
    """Half-way scores must not pass for the result."""
    evals = {
        f"step-{step}": runs.evaluation("step", step, loss=1.0 - step / 1000, share=0.5, answers=["?"])
        for step in (90, 100)
    }
    table = evaltable.before_after(runs.written(tmp_path, [], evals=evals))

    assert table.splitlines()[0].split() == ["set", "measure", "before", "step", "100", "change"]
    assert table.splitlines()[1].split() == ["sums", "loss", "-", "0.900", "-"]


def test_nothing_measured_is_no_table(tmp_path):
    """A recipe without eval sets prints nothing rather than an empty frame."""
    assert evaltable.before_after(runs.written(tmp_path, [])) == ""
    assert evaltable.answers(RunDir(tmp_path)) == ""


def test_axes_count_in_round_numbers():
    """1, 2 or 5 times a power of ten."""
    assert ticks(0, 100) == [0, 20, 40, 60, 80, 100]
    assert ticks(2.13, 6.02) == [3, 4, 5, 6]
    assert ticks(0, 2e-4) == pytest.approx([0, 5e-5, 1e-4, 1.5e-4, 2e-4])
    assert ticks(5, 5) == [5]


def test_smoothing_averages_evenly_around_each_point():
    """Means of 1, 3, 5, 3 and 1 points; a straight line stays where it is."""
    points = [(float(x), float(y)) for x, y in enumerate([3, 9, 0, 6, 12])]

    assert [y for _, y in smoothed(points, 5)] == [3, 4, 6, 6, 12]
    line = [(float(x), 2.0 * x) for x in range(20)]
    assert smoothed(line, 7) == line


def test_long_curves_keep_their_spikes():
    """100,000 steps must not make a page of megabytes, nor lose the one step at which the loss jumped."""
    points = [(float(x), 1.0) for x in range(100_000)]
    points[77_777] = (77_777.0, 50.0)

    assert len(thinned(points, 400)) <= 400
    assert (77_777.0, 50.0) in thinned(points, 400)


def test_a_loss_that_is_no_number_leaves_a_drawing():
    """Diverged runs are those whose curve people look at."""
    points = [(1.0, 2.0), (2.0, float("nan")), (3.0, float("inf")), (4.0, 1.0)]

    assert "nan" not in chart([Line("loss", points, 0)], x="step", y="loss", width=400, height=200)
    assert chart([Line("loss", points[1:3], 0)], x="step", y="loss", width=400, height=200) == ""


def test_what_was_measured_stands_beside_what_was_planned(tmp_path):
    """Whoever plans the next run wants to know how far off this plan was; without a prediction, what the steps took."""
    measured = {"event": "measured", "attempt": 1, "step": 20, "steps": 18, "step_s": 1.5, "step_p90_s": 1.6,
                "step_p99_s": 2.0, "ranks": [{"rank": 0, "anonymous_bytes": 2**30}]}  # fmt: skip
    page = Page(html(runs.written(tmp_path, [*runs.course(20), measured])))

    assert "Planned and measured" in page.text
    assert "seconds per step, median - 1.5 -" in page.text
    assert "memory of the process - 1.0 GiB -" in page.text
