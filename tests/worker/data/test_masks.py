"""Which tokens are trained, written out by hand for each format and rule. ⟦ ⟧ surround trained tokens."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher.plan.types import SourcePlan
from tests.support import tiny, trained, warm

U, A, S, E = "<|im_start|>user\n", "<|im_start|>assistant\n", "<|im_start|>system\n", "<|im_end|>"
TWO_TURNS = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "2 + 3?"},
        {"role": "assistant", "content": "5"},
    ]
}
BOTH = f"{S}Be brief.{E}\n{U}Hi{E}\n{A}⟦Hello.{E}⟧\n{U}2 + 3?{E}\n{A}⟦5{E}⟧\n"
LAST = f"{S}Be brief.{E}\n{U}Hi{E}\n{A}Hello.{E}\n{U}2 + 3?{E}\n{A}⟦5{E}⟧\n"
CHAT_PAIR = {
    "prompt": [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "2 + 3?"},
    ],
    "completion": [{"role": "assistant", "content": "5"}],
}


def rows_of(tmp_path: Path, row: dict[str, Any], loss_on: str, template: str = tiny.CHATML, **data: Any) -> str:
    """The one prepared row, with its trained tokens marked."""
    run = tiny.run_dir(
        tmp_path / "run",
        tiny.plan(
            data={"loss_on": loss_on, "max_length": 256, **data}, model_plan={"chat_template": template}, global_size=1
        ),
        {"model": str(tiny.model(tmp_path / "model")), "data.train": str(tiny.jsonl(tmp_path / "train.jsonl", [row]))},
    )
    trained.prepare(run)
    rows = warm.run("tests.support.cases:marked", {"run_dir": str(run.root), "label": "train"}).value
    assert len(rows) == 1
    return str(rows[0])


@pytest.mark.parametrize("template", [tiny.CHATML, tiny.CHATML_WITHOUT_MARKERS], ids=["markers", "prefixes"])
@pytest.mark.parametrize(
    ("loss_on", "expected"),
    [
        ("auto", BOTH),
        ("assistant", BOTH),
        ("completion", LAST),
        ("all", "⟦" + LAST.replace("⟦", "").replace("⟧", "") + "⟧"),
    ],
)
def test_messages(tmp_path: Path, template: str, loss_on: str, expected: str):
    """Every answer with its end of turn, the last answer, or everything; with and without markers in the template."""
    assert rows_of(tmp_path, TWO_TURNS, loss_on, template) == expected


def test_end_of_turn_is_trained_where_the_marker_closes_too_early(tmp_path: Path):
    """Without it the model would never learn to stop."""
    early = tiny.CHATML.replace("+ '<|im_end|>' }}{% endgeneration %}", "}}{% endgeneration %}{{- '<|im_end|>' }}")

    assert rows_of(tmp_path, TWO_TURNS, "assistant", early) == BOTH


def test_a_template_known_to_trl_is_trained_with_its_markers(tmp_path: Path):
    """Qwen3: TRL's markers hold the empty thought, the answer, its end of turn and the line break behind it."""
    template = warm.run("tests.support.cases:trl_template", {"name": "qwen3"}).value
    row = {"messages": TWO_TURNS["messages"][1:3]}

    assert rows_of(tmp_path, row, "assistant", template) == f"{U}Hi{E}\n{A}⟦<think>\n\n</think>\n\nHello.{E}\n⟧"


def test_a_template_that_rewrites_earlier_turns_is_refused(tmp_path: Path):
    """There the assistant's tokens cannot be told apart by comparing texts; a wrong mask would be silent."""
    forgetful = tiny.CHATML_WITHOUT_MARKERS.replace(
        "{%- for message in messages %}",
        "{{- messages | length }}{%- for message in messages %}",
    )
    run = tiny.run_dir(
        tmp_path / "run",
        tiny.plan(model_plan={"chat_template": forgetful}),
        {
            "model": str(tiny.model(tmp_path / "model")),
            "data.train": str(tiny.jsonl(tmp_path / "train.jsonl", [TWO_TURNS])),
        },
    )
    note = trained.prepare(run, code=2)

    assert "train.jsonl:1: this chat template renders a conversation differently when it goes on" in note["error"]
    assert "loss_on: all" in note["hint"]


@pytest.mark.parametrize(
    ("loss_on", "expected"),
    [
        ("auto", f"What is 2 plus 3?\n⟦5{E}⟧"),
        ("completion", f"What is 2 plus 3?\n⟦5{E}⟧"),
        ("all", f"⟦What is 2 plus 3?\n5{E}⟧"),
    ],
)
def test_prompt_and_completion_strings(tmp_path: Path, loss_on: str, expected: str):
    """The completion with the end-of-text token that TRL adds, or everything."""
    assert rows_of(tmp_path, {"prompt": "What is 2 plus 3?\n", "completion": "5"}, loss_on) == expected


@pytest.mark.parametrize(
    ("loss_on", "expected"),
    [
        ("auto", f"{U}Hi{E}\n{A}Yes?{E}\n{U}2 + 3?{E}\n{A}⟦5{E}\n⟧"),
        ("assistant", f"{U}Hi{E}\n{A}Yes?{E}\n{U}2 + 3?{E}\n{A}⟦5{E}⟧\n"),
        ("all", f"⟦{U}Hi{E}\n{A}Yes?{E}\n{U}2 + 3?{E}\n{A}5{E}\n⟧"),
    ],
)
def test_prompt_and_completion_as_messages(tmp_path: Path, loss_on: str, expected: str):
    """`completion` is all that follows the prompt, as in TRL; `assistant` leaves the template's line break out."""
    assert rows_of(tmp_path, CHAT_PAIR, loss_on) == expected


@pytest.mark.parametrize("loss_on", ["auto", "all"])
def test_text(tmp_path: Path, loss_on: str):
    """Everything, with the end-of-text token."""
    assert rows_of(tmp_path, {"text": "The answer is five."}, loss_on) == f"⟦The answer is five.{E}⟧"


def test_text_that_ends_already_is_not_ended_twice(tmp_path: Path):
    assert rows_of(tmp_path, {"text": f"Five.{E}"}, "auto") == f"⟦Five.{E}⟧"


@pytest.mark.parametrize(
    "row",
    [{"prompt": "2 plus 3?\n", "completion": "5"}, {"prompt": "2 plus 3? ", "completion": "5"}, CHAT_PAIR],
    ids=["strings", "strings that merge into one token", "messages"],
)
def test_prompt_completion_equals_trl(tmp_path: Path, row: dict[str, Any]):
    """The same ids and labels as TRL's own preparation of the same row."""
    rows_of(tmp_path, row, "completion")
    ours = warm.run("tests.support.cases:prepared", {"run_dir": str(tmp_path / "run"), "label": "train"}).value
    theirs = warm.run("tests.support.cases:prepared_by_trl", {"model": str(tmp_path / "model"), "row": row}).value

    assert [ours["input_ids"][0], ours["labels"][0]] == theirs


def test_sources_of_different_formats_are_trained_by_their_own_rules(tmp_path: Path):
    """`auto` follows the format of each source."""
    plan = tiny.plan(global_size=1)
    plan = tiny.changed(plan, data=replace(plan.data, sources=(SourcePlan("chat", "c"), SourcePlan("notes", "n"))))
    placement = {
        "model": str(tiny.model(tmp_path / "model")),
        "data.chat": str(tiny.jsonl(tmp_path / "c.jsonl", tiny.messages(1))),
        "data.notes": str(tiny.jsonl(tmp_path / "n.jsonl", [{"text": "Five."}])),
    }
    run = tiny.run_dir(tmp_path / "run", plan, placement)
    trained.prepare(run)

    assert warm.run("tests.support.cases:marked", {"run_dir": str(run.root), "label": "train"}).value == [
        f"{U}What is 3 plus 1?{E}\n{A}⟦3 + 1 = 4{E}⟧\n",
        f"⟦Five.{E}⟧",
    ]
