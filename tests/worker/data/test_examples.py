"""Rows of every format become one schema, and a row that cannot be used says what is wrong with it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from launcher.errors import DataError
from launcher.plan.types import SourcePlan
from launcher.recipe.formats import FORMATS
from launcher.worker.data.examples import (
    BadRowError,
    Chat,
    Example,
    Layout,
    Pair,
    Text,
    Tokens,
    control_pattern,
    example,
    sniff,
)
from launcher.worker.data.raw import Raw

SPECIAL = control_pattern(["<|im_start|>", "<|im_end|>", "</s>", " "])


def raw(values: dict[str, Any], fault: str | None = None) -> Raw:
    return Raw(place="rows.jsonl:7", number=7, values=values, fault=fault)


def layout(name: Any, **columns: str) -> Layout:
    return Layout(name, {each: columns.get(each, each) for each in (*FORMATS[name].columns, *FORMATS[name].optional)})


def read(name: str, values: dict[str, Any], **columns: str) -> Example:
    return example(raw(values), layout(name, **columns), special=SPECIAL)


def reason(name: str, values: dict[str, Any], **columns: str) -> str:
    with pytest.raises(BadRowError) as raised:
        read(name, values, **columns)
    return str(raised.value)


def said(*speech: str) -> list[dict[str, Any]]:
    """Messages from `role: content`."""
    return [dict(zip(("role", "content"), each.split(": ", 1), strict=True)) for each in speech]


ASKED = said("user: Hi")
GOOD = said("user: Hi", "assistant: Yes")
ANSWERED = ({"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"})
SYSTEM = {"role": "system", "content": "Be brief."}
CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {}}}
CALLED = (
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "tool_calls": [CALL]},
    {"role": "tool", "content": "1"},
    {"role": "assistant", "content": "One"},
)


def calling(arguments: Any, **more: Any) -> dict[str, Any]:
    call = {"type": "function", "function": {"name": "add", "arguments": arguments}, **more}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def conversation(*middle: Any) -> dict[str, Any]:
    return {"messages": [*ASKED, *middle, *said("tool: 1", "assistant: One")]}


READ = {
    "messages": ("messages", {"messages": GOOD}, Chat(ANSWERED)),
    "a system message": ("messages", {"messages": [SYSTEM, *GOOD]}, Chat((SYSTEM, *ANSWERED))),
    "an empty system message": (
        "messages",
        {"messages": [{"role": "system", "content": ""}, *GOOD]},
        Chat(({"role": "system", "content": ""}, *ANSWERED)),
    ),
    "nulls that a table filled in": (
        "messages",
        {"messages": [{**each, "name": None, "tool_calls": None, "weight": None} for each in GOOD], "tools": None},
        Chat(ANSWERED),
    ),
    "an empty list of calls": ("messages", {"messages": [{**each, "tool_calls": []} for each in GOOD]}, Chat(ANSWERED)),
    "content in parts": (
        "messages",
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "H"}, {"type": "text", "text": "i"}]},
                GOOD[1],
            ]
        },
        Chat(ANSWERED),
    ),
    "further keys": (
        "messages",
        {"messages": [*ASKED, {"role": "assistant", "content": "Yes", "reasoning_content": "Well"}]},
        Chat((ANSWERED[0], {"role": "assistant", "content": "Yes", "reasoning_content": "Well"})),
    ),
    "train: false": (
        "messages",
        {"messages": [SYSTEM, *ASKED, {**GOOD[1], "train": False}, *ASKED, {**GOOD[1], "train": True}]},
        Chat((SYSTEM, *ANSWERED, *ANSWERED), untrained=frozenset({2})),
    ),
    "weight: 0": (
        "messages",
        {"messages": [{**ASKED[0], "weight": 0}, {**GOOD[1], "weight": 1}, *ASKED, {**GOOD[1], "weight": 0.0}]},
        Chat((*ANSWERED, *ANSWERED), untrained=frozenset({3})),
    ),
    "calls with arguments as an object": ("messages", conversation(calling({"a": 1, "b": None})), Chat(CALLED)),
    "calls with arguments as JSON": ("messages", conversation(calling('{"a": 1}', index=None)), Chat(CALLED)),
    "calls without the word function": (
        "messages",
        conversation({"role": "assistant", "tool_calls": [{"name": "add", "arguments": {"a": 1}}]}),
        Chat(CALLED),
    ),
    "calls as JSON": (
        "messages",
        conversation({"role": "assistant", "content": None, "tool_calls": json.dumps([CALL])}),
        Chat(CALLED),
    ),
    "a call without arguments, and words beside it": (
        "messages",
        conversation({**calling(""), "content": ""}),
        Chat(
            (
                CALLED[0],
                {
                    "role": "assistant",
                    "content": "",
                    "tool_calls": [{"type": "function", "function": {"name": "add", "arguments": {}}}],
                },
                *CALLED[2:],
            )
        ),
    ),
    "two tool messages": (
        "messages",
        {"messages": [*CALLED[:3], *CALLED[2:]]},
        Chat((*CALLED[:3], *CALLED[2:])),
    ),
    "tools as a list": ("messages", {"messages": GOOD, "tools": [{**TOOL, "strict": None}]}, Chat(ANSWERED, (TOOL,))),
    "tools as JSON": ("messages", {"messages": GOOD, "tools": json.dumps([TOOL])}, Chat(ANSWERED, (TOOL,))),
    "no tools": ("messages", {"messages": GOOD, "tools": []}, Chat(ANSWERED)),
    "blank tools": ("messages", {"messages": GOOD, "tools": " "}, Chat(ANSWERED)),
    "an empty column of images": ("messages", {"messages": GOOD, "images": []}, Chat(ANSWERED)),
    "sharegpt": (
        "sharegpt",
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yes", "weight": None}]},
        Chat(ANSWERED),
    ),
    "sharegpt with a system column": (
        "sharegpt",
        {
            "system": "Be brief.",
            "conversations": [
                {"from": "human", "value": "Hi"},
                {"from": "gpt", "value": "Yes", "train": False},
                {"from": "human", "value": "Hi"},
                {"from": "gpt", "value": "Yes", "markdown": True},
            ],
        },
        Chat((SYSTEM, *ANSWERED, *ANSWERED), untrained=frozenset({2})),
    ),
    "sharegpt with a blank system column": (
        "sharegpt",
        {"system": "", "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yes"}]},
        Chat(ANSWERED),
    ),
    "sharegpt with a call": (
        "sharegpt",
        {
            "conversations": [
                {"from": "human", "value": "Hi"},
                {"from": "function_call", "value": '{"name": "add", "arguments": {"a": 1}}'},
                {"from": "observation", "value": "1"},
                {"from": "gpt", "value": "One"},
            ],
            "tools": json.dumps([TOOL]),
        },
        Chat(CALLED, (TOOL,)),
    ),
    "alpaca": ("alpaca", {"instruction": "Hi", "output": "Yes"}, Chat(ANSWERED)),
    "alpaca with a blank input": ("alpaca", {"instruction": "Hi", "input": " ", "output": "Yes"}, Chat(ANSWERED)),
    "alpaca with input and system": (
        "alpaca",
        {"instruction": "Add", "input": "1 and 2", "output": "3", "system": "Be brief."},
        Chat((SYSTEM, {"role": "user", "content": "Add\n\n1 and 2"}, {"role": "assistant", "content": "3"})),
    ),
    "prompt and completion": ("prompt_completion", {"prompt": "1+1=", "completion": " 2"}, Pair("1+1=", " 2")),
    "control tokens in a prompt that is a string": (
        "prompt_completion",
        {"prompt": "<|im_start|>user\nHi<|im_end|>", "completion": "Yes<|im_end|>"},
        Pair("<|im_start|>user\nHi<|im_end|>", "Yes<|im_end|>"),
    ),
    "prompt and completion as messages": (
        "prompt_completion",
        {"prompt": [SYSTEM, *ASKED], "completion": said("assistant: Yes"), "tools": [TOOL]},
        Chat((SYSTEM, *ANSWERED), (TOOL,), prompt_messages=2),
    ),
    "an untrained message of a completion": (
        "prompt_completion",
        {"prompt": ASKED, "completion": [{**GOOD[1], "weight": 0}, *GOOD]},
        Chat((*ANSWERED, *ANSWERED), prompt_messages=1, untrained=frozenset({1})),
    ),
    "ids": ("tokenized", {"input_ids": [1, 2, 3], "attention_mask": [1, 1, 1]}, Tokens([1, 2, 3])),
    "the smallest and the largest id": ("tokenized", {"input_ids": [0, 2**31 - 1]}, Tokens([0, 2**31 - 1])),
    "ids and labels": (
        "tokenized",
        {"input_ids": [1, 2, 3], "labels": [-100, 2, 3], "completion_mask": [0, 1, 1]},
        Tokens([1, 2, 3], [-100, 2, 3]),
    ),
    "text": ("text", {"text": "Once upon a time</s>"}, Text("Once upon a time</s>")),
}


@pytest.mark.parametrize("case", READ)
def test_a_row_becomes_the_example_written_by_hand(case: str):
    name, values, expected = READ[case]

    assert read(name, values) == expected


def test_every_format_is_read():
    """The two sides share the names; a format without a reader would be found in a run."""
    assert {name for name, _, _ in READ.values()} == set(FORMATS)


@pytest.mark.parametrize("name", FORMATS)
def test_the_row_that_a_message_shows_can_be_read(name: Any):
    """People copy it."""
    values = json.loads(FORMATS[name].example)

    assert sniff(SourcePlan("a", "a.jsonl"), raw(values)).format == name
    assert read(name, values)


def test_the_rows_of_the_page_on_formats_can_be_read():
    """One row for each format, under a heading of its name."""
    page = (Path(__file__).parents[3] / "docs" / "data-formats.md").read_text()
    rows = dict(re.findall(r"^## `(\w+)`\n\n```json\n(.*?)\n```", page, re.MULTILINE | re.DOTALL))

    assert list(rows) == list(FORMATS)
    assert all(read(name, json.loads(row)) for name, row in rows.items())


@pytest.mark.parametrize("name", ["human", "user"])
@pytest.mark.parametrize("answerer", ["gpt", "chatgpt", "bing", "bard", "assistant", "model"])
def test_sharegpt_has_many_names_for_two_roles(name: str, answerer: str):
    values = {"conversations": [{"from": name, "value": "Hi"}, {"from": answerer, "value": "Yes"}]}

    assert read("sharegpt", values) == Chat(ANSWERED)


@pytest.mark.parametrize("name", ["tool", "observation", "function_response"])
def test_sharegpt_has_many_names_for_a_tool(name: str):
    call = {"from": "function_call", "value": '[{"name": "add", "arguments": "{\\"a\\": 1}"}]'}
    values = {
        "conversations": [
            {"from": "human", "value": "Hi"},
            call,
            {"from": name, "value": "1"},
            {"from": "gpt", "value": "One"},
        ]
    }

    assert read("sharegpt", values) == Chat(CALLED)


def test_reading_changes_no_row():
    """A row is read once for each source that names it."""
    values = conversation({**calling('{"a": 1}'), "train": True})
    before = json.dumps(values)
    read("messages", values)

    assert json.dumps(values) == before


def talk(*speech: str, **more: Any) -> dict[str, Any]:
    return {"messages": said(*speech), **more}


def human(*items: tuple[str, Any]) -> dict[str, Any]:
    return {"conversations": [{"from": name, "value": value} for name, value in items]}


KNOWN = "known roles: system, developer, user, assistant, tool"
MESSAGES: dict[str, tuple[Any, str]] = {
    # the list
    "D08 empty list": ([], "`messages` is an empty list"),
    "D09 a string": ("Hi", "`messages` is of type str, wanted a list of messages"),
    "no object": (["Hi"], "`messages[0]` is of type str, wanted an object {role: …, content: …}"),
    "null": ([*GOOD, None], "`messages[2]` is null"),
    "no role": (
        [{"from": "human", "value": "Hi"}],
        "`messages[0]` has no `role` (it has: from, value); a message is {role: …, content: …}",
    ),
    # contents
    "D01 empty": (said("user: Hi", "assistant: "), "`messages[1].content` is empty"),
    "D55 blank": (said("user: Hi", "assistant:  \n\t\u00a0"), "`messages[1].content` is empty"),
    "an empty question": (said("user: ", "assistant: Yes"), "`messages[0].content` is empty"),
    "D02 null": ([*ASKED, {"role": "assistant", "content": None}], "`messages[1].content` is null"),
    "D03 missing": ([*ASKED, {"role": "assistant"}], "`messages[1]` has no `content` (it has: role)"),
    "D10 int": ([{"role": "user", "content": 5}], "`messages[0].content` is of type int, wanted a string"),
    "D44 an image part": (
        [{"role": "user", "content": [{"type": "text", "text": "See"}, {"type": "image_url", "image_url": "a.png"}]}],
        "`messages[0].content[1]` is of type `image_url`; only text is trained",
    ),
    "a part without type": (
        [{"role": "user", "content": [{"text": "See"}]}],
        "`messages[0].content[0]` has no `type` (it has: text); only text is trained",
    ),
    "a part that is a string": (
        [{"role": "user", "content": ["See"]}],
        "`messages[0].content[0]` is of type str, wanted an object {type: text, text: …}",
    ),
    "a part without text": (
        [{"role": "user", "content": [{"type": "text"}]}],
        "`messages[0].content[0].text` is null",
    ),
    "no parts": ([{"role": "user", "content": []}], "`messages[0].content` is empty"),
    # roles
    "D05 typo": (
        said("user: Hi", "assitant: Yes"),
        "role `assitant` of `messages[1]` is unknown; did you mean `assistant`",
    ),
    "capital": (said("User: Hi"), "role `User` of `messages[0]` is unknown; did you mean `user`"),
    "a name of another format": (said("human: Hi"), "role `human` of `messages[0]` is unknown; did you mean `user`"),
    "nothing near": (said("narrator: Hi"), f"role `narrator` of `messages[0]` is unknown; {KNOWN}"),
    "D52 homoglyph": (
        said("user: Hi", "\u0430ssistant: Yes"),
        "role `\u0430ssistant` of `messages[1]` holds U+0430 CYRILLIC SMALL LETTER A; did you mean `assistant`",
    ),
    "zero width": (
        said("us\u200ber: Hi"),
        "role `us\\u200ber` of `messages[0]` holds U+200B ZERO WIDTH SPACE; did you mean `user`",
    ),
    "right to left": (
        said("\u202euser: Hi"),
        "role `\\u202euser` of `messages[0]` holds U+202E RIGHT-TO-LEFT OVERRIDE; did you mean `user`",
    ),
    "full width": (
        said("\uff55\uff53\uff45\uff52: Hi"),
        "role `\uff55\uff53\uff45\uff52` of `messages[0]` holds U+FF55 FULLWIDTH LATIN SMALL LETTER U; did you mean `user`",
    ),
    "blank": (said("user : Hi"), "role `user ` of `messages[0]` holds U+0020 SPACE; did you mean `user`"),
    "no name": (said(": Hi"), f"role `` of `messages[0]` is unknown; {KNOWN}"),
    "a role that is null": ([{"role": None, "content": "Hi"}], "`messages[0].role` is null"),
    "a role that is a list": (
        [{"role": ["user"], "content": "Hi"}],
        "`messages[0].role` is of type list, wanted a string",
    ),
    # order
    "D04 no answer": (ASKED, "has no assistant message"),
    "only a system message": (said("system: Be brief."), "has no assistant message"),
    "D54 ends with the user": (
        said("user: Hi", "assistant: Yes", "user: Why?"),
        "ends with `messages[2]`, which is the user's",
    ),
    "ends with a tool": ([*CALLED[:3]], "ends with `messages[2]`, which is a tool's"),
    "D06 assistant first": (
        said("system: Be brief.", "assistant: Yes", "user: Hi"),
        "`messages[1]` is the assistant's; the user speaks first",
    ),
    "tool first": (said("tool: 1", "assistant: One"), "`messages[0]` is a tool's; the user speaks first"),
    "D07 two of the user": (
        said("user: Hi", "user: Hello", "assistant: Yes"),
        "`messages[0]` and `messages[1]` are both the user's",
    ),
    "D07 two of the assistant": (
        [*ASKED, calling({"a": 1}), *said("assistant: Yes")],
        "`messages[1]` and `messages[2]` are both the assistant's",
    ),
    "a tool answers the user": (
        said("user: Hi", "tool: 1", "assistant: One"),
        "`messages[1]` is a tool's, right after `messages[0]`, the user's",
    ),
    "D53 system twice": (
        said("system: Be brief.", "user: Hi", "developer: Be long.", "assistant: Yes"),
        "`messages[2]` is a second system message, after `messages[0]`",
    ),
    "D53 system late": (
        said("user: Hi", "system: Be brief.", "assistant: Yes"),
        "`messages[1]` is a system message, and not the first message",
    ),
    # which messages are trained
    "train is a word": (
        [*ASKED, {**GOOD[1], "train": "no"}],
        "`messages[1].train` is `no`, wanted true or false",
    ),
    "half a weight": ([*ASKED, {**GOOD[1], "weight": 0.5}], "`messages[1].weight` is `0.5`, wanted 0 or 1"),
    "a weight that is true": ([*ASKED, {**GOOD[1], "weight": True}], "`messages[1].weight` is `True`, wanted 0 or 1"),
    "weight against train": (
        [*ASKED, {**GOOD[1], "weight": 1, "train": False}],
        "`messages[1]` has `train: false` and `weight: 1`, which disagree",
    ),
    "a trained question": (
        [{**ASKED[0], "train": True}, GOOD[1]],
        "`messages[0]` has `train: true`, and role `user`; only the assistant's messages are trained",
    ),
    "nothing trained": (
        [*ASKED, {**GOOD[1], "weight": 0}],
        "no assistant message is trained: each has `train: false` or `weight: 0`",
    ),
    # tool calls
    "arguments that are no JSON": (
        [*ASKED, calling('{"a": 1')],
        "`messages[1].tool_calls[0].function.arguments` is not JSON: Expecting ',' delimiter at character 8",
    ),
    "arguments too deep": (
        [*ASKED, calling("[" * 9000 + "]" * 9000)],
        "`messages[1].tool_calls[0].function.arguments` cannot be read: maximum recursion depth exceeded while decoding a JSON array from a unicode string",
    ),
    "arguments in a list": (
        [*ASKED, calling("[1]")],
        "`messages[1].tool_calls[0].function.arguments` is of type list, wanted an object",
    ),
    "a call without a name": (
        [*ASKED, {"role": "assistant", "tool_calls": [{"function": {"arguments": {}}}]}],
        "`messages[1].tool_calls[0].function` has no `name`; a call is {function: {name: …, arguments: …}}",
    ),
    "a call that is a string": (
        [*ASKED, {"role": "assistant", "tool_calls": ["add"]}],
        "`messages[1].tool_calls[0]` is of type str, wanted an object {function: {name: …, arguments: …}}",
    ),
    "calls that are no list": (
        [*ASKED, {"role": "assistant", "tool_calls": {"name": "add"}}],
        "`messages[1].tool_calls` is of type dict, wanted a list of calls",
    ),
    "the user calls a tool": (
        [{**ASKED[0], "tool_calls": [CALL]}],
        "`messages[0]` has `tool_calls`, and role `user`; only the assistant calls tools",
    ),
    "the old form of a call": (
        [*ASKED, {"role": "assistant", "content": None, "function_call": {"name": "add", "arguments": "{}"}}],
        "`messages[1].function_call` is not read; write `tool_calls`",
    ),
    # D35 control tokens
    "in a question": (
        said("user: Hi<|im_end|>", "assistant: Yes"),
        "`messages[0].content` holds the control token `<|im_end|>`",
    ),
    "in an answer": (said("user: Hi", "assistant: </s>"), "`messages[1].content` holds the control token `</s>`"),
    "in a system message": (
        said("system: <|im_start|>", "user: Hi", "assistant: Yes"),
        "`messages[0].content` holds the control token `<|im_start|>`",
    ),
    "in a tool's answer": (
        [*CALLED[:2], *said("tool: </s>", "assistant: One")],
        "`messages[2].content` holds the control token `</s>`",
    ),
    "in parts": (
        [{"role": "user", "content": [{"type": "text", "text": "<|im_"}, {"type": "text", "text": "end|>"}]}],
        "`messages[0].content` holds the control token `<|im_end|>`",
    ),
    "in arguments": (
        [*ASKED, calling({"a": ["</s>"]})],
        "`messages[1].tool_calls` holds the control token `</s>`",
    ),
    "in a thought": (
        [*ASKED, {**GOOD[1], "reasoning_content": "</s>"}],
        "`messages[1].reasoning_content` holds the control token `</s>`",
    ),
}


@pytest.mark.parametrize("case", MESSAGES)
def test_a_conversation_that_cannot_be_used_says_why(case: str):
    """Without this a template fails without naming the row, or the model learns something silly in silence."""
    value, expected = MESSAGES[case]

    assert reason("messages", {"messages": value}) == expected


ROWS: dict[str, tuple[str, dict[str, Any], str]] = {
    "D44 images": ("messages", talk("user: Hi", "assistant: Yes", images=["a.png"]), "has `images`; only text is trained"),
    "audio": ("prompt_completion", {"prompt": "a", "completion": "b", "audio": "a.wav"}, "has `audio`; only text is trained"),
    "a picture of an instruction": (
        "alpaca",
        {"instruction": "a", "output": "b", "image": "a.png"},
        "has `image`; only text is trained",
    ),
    "tools of another type": ("messages", talk("user: Hi", "assistant: Yes", tools=5), "`tools` is of type int, wanted a list"),
    "tools in an object": (
        "messages",
        talk("user: Hi", "assistant: Yes", tools='{"name": "add"}'),
        "`tools` is of type dict, wanted a list",
    ),
    "tools that are no JSON": (
        "messages",
        talk("user: Hi", "assistant: Yes", tools="add"),
        "`tools` is not JSON: Expecting value at character 1",
    ),
    "tools that are names": (
        "messages",
        talk("user: Hi", "assistant: Yes", tools=["add"]),
        "`tools[0]` is of type str, wanted an object {type: function, function: {name: …, parameters: …}}",
    ),
    "a control token in a tool": (
        "messages",
        talk("user: Hi", "assistant: Yes", tools=[{"description": "</s>"}]),
        "`tools` holds the control token `</s>`",
    ),
    "an empty value": ("sharegpt", human(("human", "Hi"), ("gpt", " ")), "`conversations[1].value` is empty"),
    "a value that is null": ("sharegpt", human(("human", "Hi"), ("gpt", None)), "`conversations[1].value` is null"),
    "a name like a name": (
        "sharegpt",
        human(("humam", "Hi")),
        "role `humam` of `conversations[0]` is unknown; did you mean `human`",
    ),
    "messages among sharegpt": (
        "sharegpt",
        {"conversations": GOOD},
        "`conversations[0]` has no `from` (it has: role, content); a message is {from: …, value: …}",
    ),
    "sharegpt begins with gpt": (
        "sharegpt",
        human(("gpt", "Yes"), ("human", "Hi")),
        "`conversations[0]` is the assistant's; the user speaks first",
    ),
    "two system messages": (
        "sharegpt",
        {**human(("system", "Be long."), ("human", "Hi"), ("gpt", "Yes")), "system": "Be brief."},
        "`conversations[0]` is a second system message, after `system`",
    ),
    "two in a row behind a system column": (
        "sharegpt",
        {**human(("human", "Hi"), ("human", "Hi"), ("gpt", "Yes")), "system": "Be brief."},
        "`conversations[0]` and `conversations[1]` are both the user's",
    ),
    "a system column that is a number": (
        "sharegpt",
        {**human(("human", "Hi"), ("gpt", "Yes")), "system": 5},
        "`system` is of type int, wanted a string",
    ),
    "a call that is no JSON": (
        "sharegpt",
        human(("human", "Hi"), ("function_call", "add(1)")),
        "`conversations[1].value` is not JSON: Expecting value at character 1",
    ),
    "a call that is not simple": (
        "sharegpt",
        human(("human", "Hi"), ("function_call", '{"action": "add"}')),
        "`conversations[1].value` is no function call such as {name: …, arguments: …}",
    ),
    "a control token in a value": (
        "sharegpt",
        human(("human", "</s>"), ("gpt", "Yes")),
        "`conversations[0].value` holds the control token `</s>`",
    ),
    "a control token in a call": (
        "sharegpt",
        human(("human", "Hi"), ("function_call", '{"name": "</s>"}')),
        "`conversations[1].value` holds the control token `</s>`",
    ),
    "no instruction": ("alpaca", {"instruction": " ", "output": "Yes"}, "`instruction` is empty"),
    "no output": ("alpaca", {"instruction": "Hi", "output": ""}, "`output` is empty"),
    "a null output": ("alpaca", {"instruction": "Hi", "output": None}, "column `output` is null"),
    "an input that is a list": (
        "alpaca",
        {"instruction": "Hi", "input": ["1"], "output": "Yes"},
        "`input` is of type list, wanted a string",
    ),
    "a control token in an input": (
        "alpaca",
        {"instruction": "Hi", "input": "</s>", "output": "Yes"},
        "`input` holds the control token `</s>`",
    ),
    "a control token in an output": (
        "alpaca",
        {"instruction": "Hi", "output": "Yes</s>"},
        "`output` holds the control token `</s>`",
    ),
    "D39 an empty completion": ("prompt_completion", {"prompt": "a", "completion": "\n"}, "`completion` is empty"),
    "an empty prompt": ("prompt_completion", {"prompt": "", "completion": "b"}, "`prompt` is empty"),
    "a number as completion": (
        "prompt_completion",
        {"prompt": "a", "completion": 5},
        "`completion` is of type int, wanted a string",
    ),
    "D16 half a conversation": (
        "prompt_completion",
        {"prompt": ASKED, "completion": "Yes"},
        "`prompt` is of type list, `completion` of type str; both must be strings, or both lists of messages",
    ),
    "an empty completion in messages": (
        "prompt_completion",
        {"prompt": ASKED, "completion": said("assistant: ")},
        "`completion[0].content` is empty",
    ),
    "a completion without messages": ("prompt_completion", {"prompt": ASKED, "completion": []}, "`completion` is an empty list"),
    "a completion of the user": (
        "prompt_completion",
        {"prompt": GOOD, "completion": ASKED},
        "ends with `completion[0]`, which is the user's",
    ),
    "a prompt that ends like its completion begins": (
        "prompt_completion",
        {"prompt": GOOD, "completion": said("assistant: Yes")},
        "`prompt[1]` and `completion[0]` are both the assistant's",
    ),
    "D18 empty text": ("text", {"text": ""}, "`text` is empty"),
    "D19 blank text": ("text", {"text": " \n"}, "`text` is empty"),
    "D20 null text": ("text", {"text": None}, "column `text` is null"),
    "D16 text in an object": ("text", {"text": {"en": "a"}}, "`text` is of type dict, wanted a string"),
    "D56 ids as strings": ("tokenized", {"input_ids": [1, "2"]}, "`input_ids[1]` is of type str, wanted an integer"),
    "ids as floats": ("tokenized", {"input_ids": [1.0]}, "`input_ids[0]` is of type float, wanted an integer"),
    "ids as booleans": ("tokenized", {"input_ids": [1, True]}, "`input_ids[1]` is of type bool, wanted an integer"),
    "D56 a huge id": (
        "tokenized",
        {"input_ids": [2**31 - 1, 2**31]},
        "`input_ids[1]` is 2147483648; ids go from 0 to 2147483647",
    ),
    "an id of a thousand digits": (
        "tokenized",
        {"input_ids": [2**4000]},
        "`input_ids[0]` is a number of 4001 bits; ids go from 0 to 2147483647",
    ),
    "a negative id": ("tokenized", {"input_ids": [0, -100]}, "`input_ids[1]` is -100; ids go from 0 to 2147483647"),
    "no ids": ("tokenized", {"input_ids": []}, "`input_ids` is an empty list"),
    "ids in a string": ("tokenized", {"input_ids": "1 2"}, "`input_ids` is of type str, wanted a list of integers"),
    "labels of another length": (
        "tokenized",
        {"input_ids": [1, 2], "labels": [1]},
        "`labels` has 1 entries, and `input_ids` has 2",
    ),
    "labels of other ids": (
        "tokenized",
        {"input_ids": [1, 2, 3], "labels": [-100, 3, 3]},
        "`labels[1]` is 3, and `input_ids[1]` is 2; a label is its id, or -100",
    ),
    "labels as strings": (
        "tokenized",
        {"input_ids": [1, 2], "labels": [1, "2"]},
        "`labels[1]` is of type str, wanted an integer",
    ),
    "labels without effect": (
        "tokenized",
        {"input_ids": [1, 2], "labels": [-100, -100]},
        "`labels` is -100 throughout: nothing is trained",
    ),
    "padding": (
        "tokenized",
        {"input_ids": [1, 2], "attention_mask": [1, 0]},
        "`attention_mask[1]` is 0; rows must hold no padding",
    ),
    "a mask without labels": (
        "tokenized",
        {"input_ids": [1, 2], "completion_mask": [0, 1]},
        "`completion_mask` is not read; write `labels`, with -100 where nothing is trained",
    ),
    "D17 no column": (
        "messages",
        {"foo": 1},
        "has no column `messages`, but there is `foo`; the source's format is `messages`",
    ),
    "eight columns": (
        "text",
        dict.fromkeys("abcdefgh", 1),
        "has no column `text`, but there is `a`, `b`, `c`, `d`, `e`, `f`, `g`, `h`; the source's format is `text`",
    ),
    "nine columns": (
        "text",
        dict.fromkeys("abcdefghi", 1),
        "has no column `text`, but there is `a`, `b`, `c`, `d`, `e`, `f`, `g`, `h`, …; the source's format is `text`",
    ),
    "nothing at all": ("messages", {}, "has no column `messages`"),
    "null": ("messages", {"messages": None, "id": 5}, "column `messages` is null"),
}  # fmt: skip


@pytest.mark.parametrize("case", ROWS)
def test_a_row_that_cannot_be_used_says_why(case: str):
    name, values, expected = ROWS[case]

    assert reason(name, values) == expected


def test_a_row_that_could_not_be_read_keeps_its_own_reason():
    with pytest.raises(BadRowError, match=r"^is not JSON$"):
        example(raw({}, "is not JSON"), layout("text"))


def test_a_reason_names_the_files_own_columns():
    """Nobody finds `completion` in a file that calls it `answer`."""
    columns = {"prompt": "question", "completion": "answer"}

    assert read("prompt_completion", {"question": "a", "answer": "b"}, **columns) == Pair("a", "b")
    assert reason("prompt_completion", {"question": "a", "answer": ""}, **columns) == "`answer` is empty"


def test_a_source_whose_rows_change_their_columns_says_what_the_first_row_was():
    """D15: two files with different columns under one path; once they are one table, the absent columns are null."""
    told = Layout("messages", {"messages": "messages", "tools": "tools"}, told=True)
    expected = (
        "but there is `prompt`, `completion`; the source's format is `messages`, told from its first row",
        "but there is `prompt`, `completion`; the source's format is `messages`",
    )
    other = {"prompt": "a", "completion": "b"}
    with pytest.raises(BadRowError, match=f"^has no column `messages`, {expected[0]}$"):
        example(raw(other), told)
    with pytest.raises(BadRowError, match=f"^column `messages` is null, {expected[0]}$"):
        example(raw({"messages": None, **other}), told)

    assert reason("messages", other) == f"has no column `messages`, {expected[1]}"


def test_without_special_tokens_nothing_is_a_control_token():
    assert control_pattern([]) is None
    assert example(raw({"messages": said("user: </s>", "assistant: Yes")}), layout("messages")) == Chat(
        (*said("user: </s>", "assistant: Yes"),)
    )


def test_the_longest_control_token_is_named():
    """`<|im|>` stands in `<|im|>_end`, and the tokenizer would read the longer one."""
    pattern = control_pattern(["<|im|>", "<|im|>_end"])

    assert pattern is not None
    assert pattern.findall("a <|im|>_end") == ["<|im|>_end"]


def test_the_worker_tells_the_format_as_the_plan_does():
    found = sniff(SourcePlan("chats", "chats.jsonl"), raw(human(("human", "Hi"), ("gpt", "Yes"))))

    assert (found.format, found.told) == ("sharegpt", True)


def test_a_first_row_that_fits_no_format_is_refused_with_its_place():
    with pytest.raises(DataError) as raised:
        sniff(SourcePlan("sums", "sums.jsonl", format="prompt_completion"), raw({"question": "a", "answer": "b"}))

    assert raised.value.message == (
        "rows.jsonl:7 (source `sums`): its first row has `question`, `answer`, and needs `prompt` and `completion`"
    )
    assert raised.value.hint == "write `columns: {prompt: question, completion: answer}`"
