"""The format is told from a row's columns, and a hint for rows that do not fit was tried on them."""

import re
from typing import Any

import pytest
import yaml

from launcher.plan.data_files import DataPathError
from launcher.plan.formats import Layout, sniff
from launcher.recipe.data import Source
from launcher.recipe.formats import FORMATS

SAID = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
FROM = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]


def layout(row: dict[str, Any], **source: Any) -> Layout:
    found = sniff(Source(label="a", path="a.jsonl", **source), [row])
    assert found is not None
    return found


def refused(row: dict[str, Any], **source: Any) -> DataPathError:
    with pytest.raises(DataPathError) as raised:
        layout(row, **source)
    return raised.value


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"messages": SAID}, "messages"),
        ({"conversations": FROM}, "sharegpt"),
        ({"messages": FROM}, "sharegpt"),
        ({"conversations": SAID}, "messages"),
        ({"messages": SAID, "conversations": FROM}, "messages"),
        ({"messages": [], "text": "a"}, "messages"),
        ({"conversations": "a"}, "sharegpt"),
        ({"instruction": "a", "output": "b"}, "alpaca"),
        ({"prompt": "a", "completion": "b"}, "prompt_completion"),
        ({"input_ids": [1]}, "tokenized"),
        ({"text": "a"}, "text"),
    ],
)
def test_the_format_is_told_from_columns_and_items(row: dict[str, Any], name: str):
    """Both names of the column are in use for both ways to write a message."""
    assert layout(row).format == name
    assert layout(row).told


def test_of_several_formats_the_first_counts():
    """Data sets often carry the rendered text beside the conversation, and the ids beside the text."""
    row = {
        "text": "a",
        "input_ids": [1],
        "completion": "b",
        "prompt": "a",
        "output": "b",
        "instruction": "a",
        "conversations": FROM,
        "messages": SAID,
    }
    found = []
    while row:
        found.append(layout(row).format)
        for column in FORMATS[found[-1]].columns:
            del row[column]

    assert found == ["messages", "sharegpt", "alpaca", "prompt_completion", "tokenized", "text"] == list(FORMATS)


def test_a_null_column_does_not_tell_the_format():
    """A table that joins two formats fills the other's columns with null."""
    assert layout({"messages": None, "prompt": "a", "completion": "b"}).format == "prompt_completion"
    assert layout({"messages": None, "id": 1}).format == "messages"


def test_a_layout_holds_the_files_names_of_all_columns():
    found = layout({"task": "a", "result": "b", "extra": "c"}, columns={"instruction": "task", "output": "result"})

    assert found.format == "alpaca"
    assert found.columns == ("task", "result", "input", "system")


def test_a_mapped_conversation_is_told_from_its_items():
    """Recipes of other tools write `messages` for any conversation."""
    found = layout({"talk": FROM}, columns={"messages": "talk"})

    assert (found.format, found.names["conversations"]) == ("sharegpt", "talk")


def test_a_format_that_the_source_names_is_not_told():
    found = layout({"text": "a", "prompt": "a", "completion": "b"}, format="text")

    assert (found.format, found.told) == ("text", False)


def test_a_named_conversation_format_is_found_under_both_columns():
    """The plan hands the worker the name of the format it told, and no columns."""
    assert layout({"messages": FROM}, format="sharegpt").names["conversations"] == "messages"


@pytest.mark.parametrize(
    ("wanted", "row", "hint"),
    [
        ("prompt_completion", {"text": "a"}, '{"prompt": "…", "completion": "…"}'),
        ("text", {"question": "a", "answer": "b"}, '{"text": "…"}'),
        ("prompt_completion", {"question": "a", "answer": "b"}, "{prompt: question, completion: answer}"),
        (None, {"question": "a", "answer": "b"}, "{prompt: question, completion: answer}"),
        (None, {"prompt": "a", "response": "b"}, "{completion: response}"),
        (None, {"input": "a", "output": "b"}, "{prompt: input, completion: output}"),
        (None, {"instruction": "a", "response": "b"}, "{output: response}"),
        (None, {"instruction": "a", "context": "", "response": "b"}, "{output: response, input: context}"),
        (None, {"dialogue": SAID}, "{messages: dialogue}"),
        (None, {"dialogue": FROM}, "{conversations: dialogue}"),
        (None, {"question": SAID[:1], "answer": SAID[1:]}, "{prompt: question, completion: answer}"),
        (None, {"content": "a"}, "{text: content}"),
        ("messages", {"conversation": SAID}, "{messages: conversation}"),
        (None, {"question": 5, "answer": "b"}, 'a row looks like {"messages"'),
        (None, {"dialogue": "a"}, 'a row looks like {"messages"'),
    ],
)
def test_the_hint_is_about_the_wanted_format_and_works(wanted: Any, row: dict[str, Any], hint: str):
    """An example of another format sends people the wrong way, and so does a line that does not help."""
    fault = refused(row, format=wanted)

    assert fault.hint is not None
    assert hint in fault.hint
    line = re.search(r"`(columns: {.*})`", fault.hint)
    if line:
        assert set(layout(row, format=wanted, **yaml.safe_load(line[1])).columns) & set(row)


def test_rows_without_a_format_list_what_was_found_and_what_is_needed():
    fault = refused({"question": "a", "answer": "b"})

    assert fault.message == (
        "its first row has `question`, `answer`, and needs `messages`; or `conversations`; or `instruction` and `output`; "
        "or `prompt` and `completion`; or `input_ids`; or `text`"
    )


def test_of_many_columns_eight_are_listed():
    """A table of features has hundreds."""
    eight = "its first row has `a`, `b`, `c`, `d`, `e`, `f`, `g`, `h`"

    assert refused(dict.fromkeys("abcdefgh", 1)).message.startswith(f"{eight}, and needs")
    assert refused(dict.fromkeys("abcdefghi", 1)).message.startswith(f"{eight}, …, and needs")


def test_items_without_a_speaker_leave_it_to_the_name_of_the_column():
    assert layout({"messages": [{"content": "a"}]}).format == "messages"
    assert layout({"conversations": [{"value": "a"}]}).format == "sharegpt"
    assert layout({"conversations": ["a"]}).format == "sharegpt"


def test_a_mapped_column_that_is_not_there_is_named():
    """The recipe names it, so the fault is in that line."""
    fault = refused({"question": "a", "answer": "b"}, columns={"prompt": "qestion", "completion": "answer"})

    assert fault.message == "its first row has `question`, `answer`, and no `qestion` (`columns: {prompt: qestion}`)"
    assert fault.hint == "write `columns: {prompt: question, completion: answer}`"


def test_an_optional_column_may_be_absent_from_the_first_row():
    assert layout({"messages": SAID}, columns={"tools": "functions"}).names["tools"] == "functions"


@pytest.mark.parametrize(
    ("wanted", "row", "columns", "message", "hint"),
    [
        (
            "messages",
            {"messages": FROM},
            {},
            "its first row has `from` and `value` in `messages`, and `messages` needs `role` and `content`",
            "write `format: sharegpt`",
        ),
        (
            "sharegpt",
            {"talk": SAID},
            {"conversations": "talk"},
            "its first row has `role` and `content` in `talk`, and `sharegpt` needs `from` and `value`",
            "remove `format`",
        ),
    ],
)
def test_items_of_the_other_conversation_format_are_named(
    wanted: Any, row: dict[str, Any], columns: dict[str, str], message: str, hint: str
):
    """The column is there, so a list of columns would explain nothing."""
    fault = refused(row, format=wanted, columns=columns)

    assert (fault.message, fault.hint) == (message, hint)
    layout(row, format=None if columns else hint.split(": ")[1].strip("`"), columns=columns)


def test_without_rows_nothing_is_told():
    assert sniff(Source(label="a", path="a.parquet"), []) is None
