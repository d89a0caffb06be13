"""A chat template, and which characters of a rendered conversation the assistant wrote."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from jinja2 import TemplateError, TemplateSyntaxError

from launcher.errors import DataError
from launcher.worker.data.examples import BadRowError, Chat, Message

Span = tuple[int, int]
How = Literal["markers", "training", "prefixes"]

_MARKER = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")
_PROBE = "Certainly"
HELLO = ({"role": "user", "content": "Hello"}, {"role": "assistant", "content": _PROBE})
_REFUSALS = (TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What running a template raises: its own errors, and Python's from the expressions in it."""


@dataclass(frozen=True)
class Rendered:
    """A conversation as text, and the parts of it that are trained, in characters."""

    text: str
    spans: list[Span]


@dataclass(frozen=True)
class ChatTemplate:
    """A tokenizer's chat template, and the way the assistant's part is found (`how`).

    `markers`: the template marks it with `{% generation %}`. `training`: TRL knows this template and has a copy with
    markers, whose text can differ from what the model sees later. `prefixes`: an answer begins where the rendering of
    all before it, with the generation prompt, ends, and goes through the next end-of-turn token.
    """

    tokenizer: Any
    kwargs: dict[str, Any] = field(default_factory=dict)

    @property
    def how(self) -> How:
        """How the assistant's part is found.

        Raises:
            DataError: the tokenizer has no chat template.
        """
        if _MARKER.search(self.own):
            return "markers"
        return "prefixes" if self._training is None else "training"

    @cached_property
    def own(self) -> str:
        """Text of the tokenizer's template."""
        template = self.tokenizer.chat_template
        if template is None:
            raise DataError(
                "the rows are conversations, but the tokenizer has no chat template",
                hint="name a .jinja file in `model.chat_template_path`",
            )
        return str(template["default"] if isinstance(template, dict) else template)

    @cached_property
    def _training(self) -> str | None:
        """TRL's training template where it has one for exactly this template."""
        from trl.chat_template_utils import get_training_chat_template

        try:
            found = get_training_chat_template(self.tokenizer)
        except _REFUSALS:
            return None
        return None if found is None else str(found)

    @cached_property
    def marked(self) -> str | None:
        """A template with markers: the tokenizer's own, or TRL's for it."""
        return self.own if self.how == "markers" else self._training

    @cached_property
    def end_of_turn(self) -> str:
        """The special token that ends an answer.

        Raises:
            DataError: the template writes none, so a model would never learn to stop.
        """
        try:
            text = self.text(HELLO)
        except BadRowError as fault:
            raise DataError(str(fault), hint="correct the file in `model.chat_template_path`") from None
        after = text[text.rfind(_PROBE) + len(_PROBE) :]
        special = set(self.tokenizer.all_special_ids) | set(self.tokenizer.added_tokens_decoder)
        ids = self.tokenizer(after, add_special_tokens=False)["input_ids"]
        found = next((token for token in ids if token in special), None)
        if found is None:
            raise DataError(
                "the chat template ends an answer without a special token, so the model would never learn to stop",
                hint="write `{{ eos_token }}` behind the assistant's content in a copy of the template (`model.chat_template_path`)",
            )
        return str(self.tokenizer.convert_ids_to_tokens(found))

    def text(self, messages: Sequence[Message], tools: Sequence[Any] | None = None, *, answer: bool = False) -> str:
        """The rendered conversation; with `answer`, up to where the assistant begins to speak.

        Raises:
            BadRowError: the template refuses these messages.
        """
        return self._render(self.own, messages, tools, add_generation_prompt=answer)[0]

    def rendered(self, chat: Chat) -> Rendered:
        """The conversation with the spans of the answers that are trained, each with its end of turn.

        Raises:
            BadRowError: the template refuses the messages.
            DataError: the assistant's part cannot be told apart with this template.
        """
        answers = [number for number, message in enumerate(chat.messages) if message["role"] == "assistant"]
        wanted = [number for number in answers if number not in chat.untrained]
        if self.marked is not None:
            text, spans = self._render(self.marked, chat.messages, chat.tools, return_assistant_tokens_mask=True)
            spans = [span for span in spans if span[1] > span[0]]
            if len(spans) == len(answers):
                spans = [span for number, span in zip(answers, spans, strict=True) if number in wanted]
            elif len(wanted) < len(answers):
                raise DataError(
                    f"the chat template marks {len(spans)} parts for {len(answers)} answers, so single answers cannot be left out",
                    hint="remove `train` and `weight` from the messages, or mark each answer once in a copy of the template",
                )
            return Rendered(text, [(start, self._through_end(text, end)) for start, end in spans])
        text = self.text(chat.messages, chat.tools)
        return Rendered(text, [self._answer(chat, number, text) for number in wanted])

    def _through_end(self, text: str, end: int) -> int:
        """Some templates close the marker before the token that ends the turn; without it the model never stops."""
        token = self.end_of_turn
        inside = text.endswith(token, 0, len(text[:end].rstrip()))
        follows = end + len(text[end:]) - len(text[end:].lstrip())
        return end if inside or not text.startswith(token, follows) else follows + len(token)

    def _answer(self, chat: Chat, number: int, text: str) -> Span:
        """Characters of `text` that message `number` wrote, through its end of turn."""
        try:
            before = self.text(chat.messages[:number], chat.tools, answer=True)
        except BadRowError:
            before = "\0"
        end = text.find(self.end_of_turn, len(before))
        if not text.startswith(before) or end < 0:
            raise DataError(
                f"this chat template renders what stands before `messages[{number}]` differently when the conversation goes on, so the answer cannot be told apart",
                hint="mark the answers in a copy of the template with {% generation %} … {% endgeneration %} (`model.chat_template_path`), or set `data.loss_on: all`",
            )
        return len(before), end + len(self.end_of_turn)

    def _render(
        self, template: str, messages: Sequence[Message], tools: Sequence[Any] | None, **how: Any
    ) -> tuple[str, list[Span]]:
        try:
            texts, spans = _renderer()(
                conversations=[list(messages)],
                tools=list(tools) if tools else None,
                chat_template=template,
                **{**self.tokenizer.special_tokens_map, **self.kwargs, **how},
            )
        except TemplateSyntaxError as fault:
            raise DataError(
                f"line {fault.lineno} of the chat template is not Jinja: {fault.message}",
                hint="correct the file in `model.chat_template_path`",
            ) from None
        except _REFUSALS as fault:
            raise BadRowError(f"the chat template refuses it: {(str(fault) or repr(fault)).splitlines()[0]}") from None
        return texts[0], [(start, end) for start, end in spans[0]] if spans else []


def _renderer() -> Callable[..., tuple[list[str], list[list[Span]]]]:
    """What `apply_chat_template` renders with, sandboxed; it also gives the marked parts in characters."""
    from transformers.utils.chat_template_utils import render_jinja_template

    return render_jinja_template  # type: ignore[no-any-return]
