"""`plan.html`, from predictions written by hand."""

from dataclasses import replace

import pytest

from launcher.cli.main import main
from launcher.plan.types import Decision
from launcher.render.plan_page import html
from launcher.render.stacks import Part, Stack, stacks
from tests.render import predictions
from tests.render.test_fit_text import CASES, LINE, predicted
from tests.render.test_report import Page
from tests.support import planning


@pytest.mark.parametrize("case", CASES)
def test_the_page_needs_nothing_but_itself(case, tmp_path):
    """No address outside, no script; light and dark; tags closed in order."""
    text = html(predicted(tmp_path, CASES[case]), next_line=LINE)
    page = Page(text)

    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name in ("src", "href") or name.startswith("on")]
    assert "url(" not in text
    assert "http" not in text
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


def test_the_page_of_a_plan_that_fits(tmp_path):
    """Verdict, figures, memory by term, what else was looked at, time by part, the batch's product, host, disk, the next line."""
    page = Page(html(predicted(tmp_path, predictions.FITS), next_line=LINE, on="RTX4090x1"))

    for words in (
        "small fits peak 15.6 GiB · 7.3 GiB of 22.9 GiB spare",
        "peak 15.6 GiB spare 7.3 GiB a step 28.0 s tokens a second 2.3k all steps 57 min GPU-hours 0.957 energy 0.41 kWh cost 1.05 EUR",
        "activations 8.0 GiB 51 %",  # 8.0 / 15.6
        "weights 5.3 GiB 34 %",
        "22.9 GiB free on the device",
        "launcher plan small.yaml --on RTX4090x1 --set training.activation_checkpointing=false 32.5 GiB 21.0 s does not fit",
        "compute 24.1 s 86 %",
        "packed rows per device and pass 1 × passes per step (accumulation) 16 × GPUs 1 = packed rows per step 16",
        "× 4,096 tokens = tokens per step 65,536",
        "off: 32.5 GiB, 21.0 s a step (25 % faster), does not fit",
        "loading 16.4 GiB",
        "checkpoints 1.5 GiB",
        "launcher run small.yaml again after any stop: the same line",
    ):
        assert words in page.text, words


def test_the_page_of_a_plan_that_does_not_fit_begins_with_what_would(tmp_path):
    """The fixes stand before the drawings, and below `Next` is a plan, not a run."""
    page = Page(html(predicted(tmp_path, predictions.TOO_LARGE), next_line=LINE))

    assert page.text.index("What makes it fit") < page.text.index("Memory of a device at the peak")
    assert (
        "launcher plan small.yaml --set training.optim=paged_adamw_8bit 53.0 GiB 29.1 s fits moments in 8 bits"
        in page.text
    )
    assert "launcher run" not in page.text


def test_a_plan_without_a_prediction_is_still_a_page(tmp_path):
    """Batch, data and choices are known."""
    page = Page(html(replace(predicted(tmp_path, None), unpredicted="nothing is known of it")))

    assert "not predicted memory and time are not predicted: nothing is known of it" in page.text
    assert "svg" not in page.tags
    assert "What was decided, and why" in page.text


def test_drawings_say_in_words_what_they_show(tmp_path):
    """Whoever hears the page hears the figures; the same stand in tables."""
    page = Page(html(predicted(tmp_path, predictions.FITS)))
    said = [value for name, value in page.attributes if name == "aria-label"]

    assert len(said) == page.tags.count("svg") == 2 * 4  # terms, moments, ways, time; each wide and narrow
    assert "Memory against what is free on the device: this plan, 15.6 GiB, fits" in said
    assert any("data.max_length=8192, 23.6 GiB, does not fit" in each for each in said)


def test_what_a_recipe_says_stays_text(tmp_path):
    """A name, a reason or a value may close the page's tags and bring its own."""
    evil = predictions.EVIL
    plan = replace(
        predicted(tmp_path, predictions.HOSTILE),
        name=evil, hardware=evil, warnings=(evil,), decisions=(Decision(evil, evil, evil),),
    )  # fmt: skip
    text = html(plan, next_line=evil)

    assert not {"script", "img"} & set(Page(text).tags)
    assert "<img" not in text
    assert "\x1b" not in text
    assert text.count("&lt;img src=x") > 15


def test_a_stack_is_as_long_as_its_parts():
    """30 and 10 of 50, on 1,012 pixels, of which 2 and one part in a hundred are room: 20 pixels for one."""
    parts = [Part("a", 30, "30", 0), Part("b", 10, "10", 1)]
    drawn = stacks([Stack("<b>", "40", parts)], label="sizes", width=1012, limit=50, limit_words="all")

    assert 'class="bar c0" x="0.0" y="22" width="599.0"' in drawn
    assert 'class="bar c1" x="600.0" y="22" width="199.0"' in drawn
    assert 'class="limit" x1="1000.0"' in drawn
    assert "<b>" not in drawn
    assert stacks([], label="none", width=100) == ""


def test_plan_html_writes_the_page(tmp_path, capsys):
    """Standard output says where it is; a folder is refused with the line that works."""
    planning.recipe(tmp_path)
    assert (
        main(["plan", str(tmp_path / "small.yaml"), "--gpus", "none", "--html", str(tmp_path / "out" / "a.html")]) == 0
    )
    assert capsys.readouterr().out == "out/a.html\n"
    Page((tmp_path / "out" / "a.html").read_text())
    assert main(["plan", str(tmp_path / "small.yaml"), "--gpus", "none", "--html", str(tmp_path)]) == 2
    assert "hint:  name a file: `--html " in capsys.readouterr().err


def test_a_page_that_cannot_be_written_is_one_sentence(tmp_path, capsys):
    """A file stands where the folder should be."""
    planning.recipe(tmp_path)
    (tmp_path / "out").write_text("")
    assert (
        main(["plan", str(tmp_path / "small.yaml"), "--gpus", "none", "--html", str(tmp_path / "out" / "a.html")]) == 4
    )
    assert "out/a.html cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [("--html", "a.html", "--json"), ("--html", "a.html", "--advise"), ("--trace", "--advise")]
)
def test_of_two_answers_none_is_left_out_in_silence(words, capsys):
    """Before the recipe is read."""
    assert main(["plan", "none.yaml", *words]) == 2
    assert "exclude one another" in capsys.readouterr().err
