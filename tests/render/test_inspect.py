"""Rows as text and the page of `inspect`, from facts written by hand."""

import json

import pytest

from launcher.errors import EnvironmentFault
from launcher.render import inspect_text
from launcher.render.bars import Share, histogram, shares
from launcher.render.inspect_page import html
from launcher.runs import files
from tests.render import facts, runs
from tests.render.test_report import Page
from tests.support import golden


@pytest.fixture
def run(tmp_path):
    return runs.written(tmp_path, [])


def test_golden_rows_without_colour():
    """Trained runs in ⟦ ⟧, borders of packed examples, a long text shortened, control characters harmless."""
    golden.check("render/inspect-rows.txt", inspect_text.plain(list(inspect_text.pieces(facts.ROWS, full=False))))


def test_full_leaves_nothing_out():
    """Six examples, the last with all of its 300 words."""
    text = inspect_text.plain(list(inspect_text.pieces(facts.ROWS, full=True)))

    assert [f"┄┄ {number} of 6" in text for number in range(1, 7)] == [True] * 6
    assert text.count("long ") == 300
    assert "--full" not in text


def test_of_a_packed_row_the_source_it_was_chosen_for_is_shown():
    """It may stand behind all the examples that fit on a screen."""
    text = inspect_text.plain(list(inspect_text.pieces(facts.ROWS, full=False)))

    assert "6 of 6 · general" in text
    assert "2 more examples" in text


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a\n\tb", "a\n\tb"), ("\x1b[2J", "\\x1b[2J"), ("\r", "\\r"), ("\u202eabc", "\\u202eabc"), ("é 你 🙂", "é 你 🙂"), ("\x00", "\\x00")],
)  # fmt: skip
def test_characters_that_steer_a_terminal_are_shown_as_escapes(text, shown):
    """Rows come from anyone; a terminal obeys what it is told."""
    assert inspect_text.visible(text) == shown


def test_the_page_says_what_will_be_trained(run):
    """Verdict, figures, shares, lengths, what was left out, rows, what to type."""
    text = html(run, facts.ROWS)
    page = Page(text)

    for words in (
        "1 warning",
        "652 (99.6 %)",
        "1.62M (61 %)",
        "82 (41)",
        "support 3,058 1,861,468 70.0 % 70.0 % 1.00 54 %",
        "70.0 %, asked 70.0 %",
        "max_length 4,096",
        "The last bar holds all that is longer, up to 9,000 tokens.",
        "max_length 4,096 is beyond the right end: nothing is cut.",
        "support 3,100 2 bad, 12 duplicates, 8 in an eval set, 20 held out",
        "14 of 22 with their places",
        "support.jsonl:2",
        "the chat template has no {% generation %} marks",
        "train[17] · general · 12 tokens, 6 trained · 6 examples packed",
        "faq (measured, never trained)",
        "something could not be told",
    ):
        assert words in page.text, words
    assert "<mark>Hello.&lt;|im_end|&gt;</mark>" in text


def test_the_page_needs_nothing_but_itself(run):
    """No address outside, no script."""
    text = html(run, facts.ROWS)
    page = Page(text)

    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name in ("src", "href") or name.startswith("on")]
    assert "url(" not in text
    assert "http" not in text
    assert "prefers-color-scheme: dark" in text


def test_what_rows_hold_stays_text(run):
    """A row may close the page's tags and bring its own."""
    evil = "</pre></script><img src=x onerror=alert(1)>"
    renamed = json.loads(json.dumps(facts.PACKED).replace("support", evil).replace("faq", evil))
    files.write_json(run.data_facts, {**renamed, "warnings": [evil]})
    run.removed_rows.write_text(json.dumps({"source": evil, "place": evil, "reason": evil, "of": evil}))
    example = {"source": evil, "place": evil, "length": 1, "trained": 1, "segments": [[True, evil], [False, evil]]}
    row = {"set": "train", "source": evil, "number": 0, "length": 2, "trained": 1, "examples": [example, example]}
    text = html(run, {"rows": [row], "notes": [evil]})

    assert not {"script", "img"} & set(Page(text).tags)
    assert "<img" not in text
    assert text.count("&lt;img src=x") > 15


def test_line_breaks_of_a_row_are_kept(run):
    """Templates are made of them."""
    assert "user\nHi&lt;|im_end|&gt;\n<mark>" in html(run, facts.ROWS)


def test_data_of_an_older_launcher_is_refused_in_one_sentence(run):
    """There is nothing to draw."""
    files.write_json(run.data_facts, {"schema": 1, "sets": {"train": {"rows": 1}}})
    with pytest.raises(EnvironmentFault, match="no figures of the mixture"):
        html(run, facts.ROWS)


def test_a_histogram_marks_what_is_cut():
    """Of three bars from 0 to 300, the one beyond 200 has another colour, and the line stands at two thirds."""
    drawn = histogram(
        [(0, 100, 5), (100, 200, 3), (200, 300, 1)], x="tokens", y="rows", limit=200, width=386, height=200
    )

    assert [drawn.count(f'class="bar c{colour}"') for colour in (0, 1)] == [2, 1]
    assert 'class="limit" x1="272.0"' in drawn  # 72 + 2/3 · (386 − 14 − 72)
    assert histogram([], x="tokens", y="rows", limit=1, width=386, height=200) == ""


def test_a_share_is_a_bar_of_that_share_and_a_mark_where_it_was_asked():
    """60 % of 500 pixels are 300; asked was a half."""
    drawn = shares([Share("<b>", 0.6, 0.5, "60 %", 0)], label="share", width=500)

    assert 'width="300.0"' in drawn
    assert 'class="mark" x1="250.0"' in drawn
    assert "<b>" not in drawn
