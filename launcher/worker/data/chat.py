"""Which tokens of a conversation the assistant wrote."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError

from launcher.errors import DataError
from launcher.worker.data.examples import BadRowError, Chat, Message

_MARKER = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")
_PROBE = "Certainly"
_REFUSALS = (TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What running a template raises: its own errors, and Python's from the expressions in it."""


@dataclass(frozen=True)
class Rendered:
    """A conversation as token ids, with a mark on each token that an assistant wrote (its end of turn included)."""

    ids: list[int]
    assistant: list[bool]


@dataclass(frozen=True)
class ChatTemplate:
    """A tokenizer's chat template, and the way its assistant tokens are found.

    In this order: markers in the template; TRL's own training template, where it knows this one; else each answer is
    the text that the full conversation adds to the rendering of what came before it.
    """

    tokenizer: Any
    kwargs: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def _marked(self) -> str | None:
        """A template with generation markers that renders like the tokenizer's own, or None."""
        own = self._own()
        if _MARKER.search(own):
            return own
        from trl.chat_template_utils import get_training_chat_template

        try:
            return str(get_training_chat_template(self.tokenizer))
        except _REFUSALS:
            return None

    def _own(self) -> str:
        template = self.tokenizer.chat_template
        if template is None:
            raise DataError(
                "the rows are conversations, but the tokenizer has no chat template",
                hint="name a .jinja file in `model.chat_template_path`",
            )
        return str(template["default"] if isinstance(template, dict) else template)

    @cached_property
    def end_of_turn(self) -> int | None:
        """Id of the special token that ends an assistant turn, or None where the template writes none."""
        try:
            text = self.text([{"role": "user", "content": "Hello"}, {"role": "assistant", "content": _PROBE}])
        except BadRowError:
            return None
        after = text[text.rfind(_PROBE) + len(_PROBE) :]
        special = set(self.tokenizer.all_special_ids) | set(self.tokenizer.added_tokens_decoder)
        ids = self.tokenizer(after, add_special_tokens=False)["input_ids"]
        return next((token for token in ids if token in special), None)

    def text(self, messages: Sequence[Message], tools: Sequence[Any] | None = None, *, answer: bool = False) -> str:
        """The rendered conversation; with `answer`, up to where the assistant begins to speak.

        Raises:
            BadRowError: the template refuses these messages.
        """
        return str(self._apply(messages, tools, tokenize=False, add_generation_prompt=answer))

    def ids(
        self, messages: Sequence[Message], tools: Sequence[Any] | None = None, *, answer: bool = False
    ) -> list[int]:
        """Token ids of `text`."""
        result = self._apply(messages, tools, tokenize=True, return_dict=True, add_generation_prompt=answer)
        return list(result["input_ids"])

    def _apply(self, messages: Sequence[Message], tools: Sequence[Any] | None, **how: Any) -> Any:
        self._own()
        try:
            return self.tokenizer.apply_chat_template(
                list(messages), tools=list(tools) if tools else None, **{**self.kwargs, **how}
            )
        except TemplateSyntaxError as fault:
            raise DataError(
                f"line {fault.lineno} of the chat template is not Jinja: {fault.message}",
                hint="correct the file in `model.chat_template_path`",
            ) from None
        except _REFUSALS as fault:
            raise BadRowError(f"the chat template refuses it: {str(fault).splitlines()[0]}") from None

    def rendered(self, chat: Chat) -> Rendered:
        """Token ids and assistant marks.

        Raises:
            BadRowError: the template refuses the messages, or no assistant message is in them.
            DataError: the assistant's tokens cannot be told apart with this template.
        """
        if not any(message["role"] == "assistant" for message in chat.messages):
            raise BadRowError("has no assistant message")
        return self._by_markers(chat) if self._marked else self._by_prefixes(chat)

    def _by_markers(self, chat: Chat) -> Rendered:
        result = self._apply(
            chat.messages,
            chat.tools,
            tokenize=True,
            return_dict=True,
            return_assistant_tokens_mask=True,
            chat_template=self._marked,
        )
        ids, marks = list(result["input_ids"]), [bool(mark) for mark in result["assistant_masks"]]
        for i in range(len(ids) - 1, 0, -1):
            # Some templates close the marker before the token that ends the turn; without it the model never stops.
            if marks[i - 1] and ids[i] == self.end_of_turn and ids[i - 1] != self.end_of_turn:
                marks[i] = True
        return Rendered(ids, marks)

    def _by_prefixes(self, chat: Chat) -> Rendered:
        full = self.text(chat.messages, chat.tools)
        spans = [
            self._span(chat, number, full)
            for number, message in enumerate(chat.messages)
            if message["role"] == "assistant"
        ]
        encoded = self.tokenizer(full, add_special_tokens=False, return_offsets_mapping=True)
        marks = [
            end > start and any(first <= start and end <= last for first, last in spans)
            for start, end in encoded["offset_mapping"]
        ]
        return Rendered(list(encoded["input_ids"]), marks)

    def _span(self, chat: Chat, number: int, full: str) -> tuple[int, int]:
        """Characters of `full` that message `number` wrote, through its end of turn."""
        try:
            before = self.text(chat.messages[:number], chat.tools, answer=True)
            through = self.text(chat.messages[: number + 1], chat.tools)
        except BadRowError:
            before = through = "\0"
        if not (full.startswith(through) and through.startswith(before)):
            raise DataError(
                "this chat template renders a conversation differently when it goes on, so the assistant's tokens cannot be told apart",
                hint="mark them in a copy of the template with {% generation %} … {% endgeneration %} (`model.chat_template_path`), or set `data.loss_on: all`",
            )
        token = "" if self.end_of_turn is None else self.tokenizer.convert_ids_to_tokens(self.end_of_turn)
        end = full.rfind(token, len(before), len(through)) if token else -1
        return len(before), end + len(token) if end >= 0 else len(through)
