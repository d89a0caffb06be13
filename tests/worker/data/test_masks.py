"""Which tokens are trained, written out by hand for each format and rule. ⟦ ⟧ surround trained tokens."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random
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


THOUGHT = {
    "messages": [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "<think>\nA greeting.\n</think>\n\nHello."},
        {"role": "user", "content": "2 + 3?"},
        {"role": "assistant", "content": "<think>\nA sum.\n</think>\n\n5"},
    ]
}
EMPTY = "<think>\n\n</think>\n\n"


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        # Earlier turns lose their thoughts, and the last answer gets an empty one: no rendering is a prefix of the next.
        ({"messages": TWO_TURNS["messages"][1:]}, f"{U}Hi{E}\n{A}⟦Hello.{E}⟧\n{U}2 + 3?{E}\n{A}⟦{EMPTY}5{E}⟧\n"),
        (THOUGHT, f"{U}Hi{E}\n{A}⟦Hello.{E}⟧\n{U}2 + 3?{E}\n{A}⟦<think>\nA sum.\n</think>\n\n5{E}⟧\n"),
    ],
    ids=["without thinking", "with thinking"],
)
def test_a_template_unknown_to_trl_that_drops_earlier_thoughts(tmp_path: Path, row: dict[str, Any], expected: str):
    """Qwen3's template, changed by a comment so that TRL has no copy of it: spans from the generation prompt still hold."""
    template = warm.run("tests.support.cases:trl_template", {"name": "qwen3"}).value

    assert rows_of(tmp_path, row, "assistant", "{# ours #}" + template) == expected


def test_single_answers_can_be_left_out(tmp_path: Path):
    """`train: false` and OpenAI's `weight: 0`, by markers and by prefixes."""
    messages = [{**message} for message in TWO_TURNS["messages"]]
    messages[2]["train"] = False
    for number, template in enumerate((tiny.CHATML, tiny.CHATML_WITHOUT_MARKERS)):
        assert rows_of(tmp_path / str(number), {"messages": messages}, "assistant", template) == LAST
    messages[2] = {**TWO_TURNS["messages"][2], "weight": 0}

    assert rows_of(tmp_path / "weight", {"messages": messages}, "assistant") == LAST


def test_a_template_that_ends_no_turn_is_refused(tmp_path: Path):
    """Trained on it, a model would talk on for ever."""
    endless = tiny.CHATML.replace(" + '<|im_end|>' }}{% endgeneration %}", " }}{% endgeneration %}").replace(
        "<|im_end|>", ""
    )
    run = tiny.run_dir(
        tmp_path / "run",
        tiny.plan(model_plan={"chat_template": endless}),
        {
            "model": str(tiny.model(tmp_path / "model")),
            "data.train": str(tiny.jsonl(tmp_path / "t.jsonl", [TWO_TURNS])),
        },
    )
    note = trained.prepare(run, code=2)

    assert "ends an answer without a special token" in note["error"]
    assert "eos_token" in note["hint"]


CALL = {"type": "function", "function": {"name": "look_up", "arguments": {"id": 5}}}
DROPPED = {
    "tools": ({"messages": TWO_TURNS["messages"], "tools": [CALL]}, tiny.CHATML, "`tools`"),
    "a call": (
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "", "tool_calls": [CALL]}]},
        tiny.CHATML,
        "`messages[1].tool_calls`",
    ),
    "a system message": (
        TWO_TURNS,
        tiny.CHATML.replace("for message in messages", "for message in messages if message['role'] != 'system'"),
        "`messages[0]` of role `system`",
    ),
}


@pytest.mark.parametrize("what", DROPPED)
def test_what_a_template_drops_without_a_word_is_said(tmp_path: Path, what: str):
    """Trained without its call, the model would learn to end at once."""
    row, template, lost = DROPPED[what]
    run = tiny.run_dir(
        tmp_path / "run",
        tiny.plan(model_plan={"chat_template": template}, data={"max_length": 256}),
        {"model": str(tiny.model(tmp_path / "model")), "data.train": str(tiny.jsonl(tmp_path / "t.jsonl", [row]))},
    )
    note = trained.prepare(run, code=2)

    assert note["error"] == f"{tmp_path}/t.jsonl:1: the chat template leaves out {lost}"


def test_sharegpt_and_alpaca_are_conversations(tmp_path: Path):
    """Other names for the same rows."""
    talk = {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello."}]}
    task = {"instruction": "Add.", "input": "2 and 3", "output": "5"}

    assert rows_of(tmp_path / "a", talk, "auto") == f"{U}Hi{E}\n{A}⟦Hello.{E}⟧\n"
    assert rows_of(tmp_path / "b", task, "auto") == f"{U}Add.\n\n2 and 3{E}\n{A}⟦5{E}⟧\n"


def test_token_ids_are_taken_as_they_are(tmp_path: Path):
    """`labels` say what is trained; without them everything is."""
    ids = [1, 260, 33, 2]
    with_labels = {"input_ids": ids, "labels": [-100, 260, -100, 2]}
    for number, (row, labels) in enumerate([({"input_ids": ids}, ids), (with_labels, with_labels["labels"])]):
        rows_of(tmp_path / str(number), row, "auto")
        args = {"run_dir": str(tmp_path / str(number) / "run"), "label": "train"}
        assert warm.run("tests.support.cases:prepared", args).value == {"input_ids": [ids], "labels": [labels]}


def test_a_text_that_begins_with_the_token_that_the_tokenizer_adds_is_bad(tmp_path: Path):
    """Two at the start are what no model has seen."""
    model = tiny.model(tmp_path / "model")
    tiny.add_bos(model)
    run = tiny.run_dir(
        tmp_path / "run",
        tiny.plan(),
        {"model": str(model), "data.train": str(tiny.jsonl(tmp_path / "t.jsonl", [{"text": "<|endoftext|>Five."}]))},
    )
    note = trained.prepare(run, code=2)

    assert f"{tmp_path}/t.jsonl:1: begins with `<|endoftext|>` twice" in note["error"]


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

    assert "train.jsonl:1: this chat template renders what stands before `messages[2]` differently" in note["error"]
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


def test_completions_begin_where_trl_lets_them_begin(tmp_path: Path):
    """Wherever a text is cut in two: between words, in a word, in a number, around blanks, behind 100 that are easy."""
    random = Random(5)
    easy = [[f"What is {i}?\n", f"It is {i}."] for i in range(100)]
    texts = [" ".join(random.choices(tiny.TEXT.split(), k=6)) + f"  {random.randrange(999)}\n\n é" for _ in range(150)]
    cuts = [random.randrange(1, len(text)) for text in texts]
    rows = easy + [[text[:cut], text[cut:]] for text, cut in zip(texts, cuts, strict=True)]
    model = tiny.model(tmp_path / "model")
    found = warm.run("tests.support.cases:borders", {"folder": str(model), "rows": rows}).value

    assert found["ours"] == found["theirs"]


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
