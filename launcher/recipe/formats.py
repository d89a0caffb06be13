"""Dataset formats: the columns each one needs. The mapping to token ids is in `launcher.worker.data`."""

from dataclasses import dataclass
from typing import Literal

FormatName = Literal["messages", "sharegpt", "alpaca", "prompt_completion", "text", "tokenized"]


@dataclass(frozen=True)
class Format:
    """Column contract of one dataset format: what a row must have, what it may have, and which tokens are trained."""

    name: FormatName
    columns: tuple[str, ...]
    optional: tuple[str, ...]
    example: str
    default_loss_on: Literal["assistant", "completion", "all"]
    allowed_loss_on: tuple[str, ...]


FORMATS: dict[FormatName, Format] = {
    "messages": Format(
        "messages",
        ("messages",),
        ("tools",),
        '{"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}',
        "assistant",
        ("assistant", "completion", "all"),
    ),
    "sharegpt": Format(
        "sharegpt",
        ("conversations",),
        ("system", "tools"),
        '{"conversations": [{"from": "human", "value": "…"}, {"from": "gpt", "value": "…"}]}',
        "assistant",
        ("assistant", "completion", "all"),
    ),
    "alpaca": Format(
        "alpaca",
        ("instruction", "output"),
        ("input", "system"),
        '{"instruction": "…", "input": "…", "output": "…"}',
        "assistant",
        ("assistant", "completion", "all"),
    ),
    "prompt_completion": Format(
        "prompt_completion",
        ("prompt", "completion"),
        ("tools",),
        '{"prompt": "…", "completion": "…"}',
        "completion",
        ("assistant", "completion", "all"),
    ),
    "tokenized": Format(
        "tokenized",
        ("input_ids",),
        ("labels",),
        '{"input_ids": [1, 2, 3], "labels": [-100, 2, 3]}',
        "all",
        ("all",),
    ),
    "text": Format("text", ("text",), (), '{"text": "…"}', "all", ("all",)),
}
"""In the order in which they are tried when a source names none."""
