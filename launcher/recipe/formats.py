"""Dataset formats: the columns each one needs. The mapping to token ids is in `launcher.worker.data`."""

from dataclasses import dataclass
from typing import Literal

FormatName = Literal["messages", "prompt_completion", "text"]


@dataclass(frozen=True)
class Format:
    """Column contract of one dataset format."""

    name: FormatName
    columns: tuple[str, ...]
    example: str
    default_loss_on: Literal["assistant", "completion", "all"]
    allowed_loss_on: tuple[str, ...]


FORMATS: dict[FormatName, Format] = {
    "messages": Format(
        "messages",
        ("messages",),
        '{"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}',
        "assistant",
        ("assistant", "completion", "all"),
    ),
    "prompt_completion": Format(
        "prompt_completion",
        ("prompt", "completion"),
        '{"prompt": "…", "completion": "…"}',
        "completion",
        ("assistant", "completion", "all"),
    ),
    "text": Format("text", ("text",), '{"text": "…"}', "all", ("all",)),
}
