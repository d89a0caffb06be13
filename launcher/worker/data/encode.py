"""From an example to token ids and labels. Prompt-completion rows get exactly the tokens TRL would give them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from launcher.errors import DataError
from launcher.plan.types import LossOn
from launcher.worker.data.chat import ChatTemplate
from launcher.worker.data.examples import BadRowError, Chat, Example, Pair, Text

IGNORED = -100


@dataclass(frozen=True)
class Encoded:
    """Token ids and, for each, whether it is trained."""

    ids: list[int]
    trained: list[bool]
    truncated: bool = False


@dataclass(frozen=True)
class Question:
    """What a model is asked when its answers are scored."""

    prompt: str
    prompt_ids: list[int]
    reference: str


@dataclass(frozen=True)
class Encoder:
    """How examples become tokens: one tokenizer, one rule for which tokens are trained, one longest length."""

    tokenizer: Any
    template: ChatTemplate
    max_length: int | None
    """Longest row in tokens; None: not cut here."""

    def encode(self, example: Example, loss_on: LossOn) -> Encoded:
        """Token ids and trained marks of one example, cut at `max_length`.

        Raises:
            BadRowError: no token would be trained.
            DataError: `loss_on` means nothing for this kind of row.
        """
        whole = self._whole(example, loss_on)
        limit = self.max_length or len(whole.ids)
        cut = Encoded(whole.ids[:limit], whole.trained[:limit], len(whole.ids) > limit)
        # The first token of a row is never predicted.
        if not any(cut.trained[1:]):
            raise BadRowError(_nothing_trained(whole, limit))
        return cut

    def _whole(self, example: Example, loss_on: LossOn) -> Encoded:
        if isinstance(example, Text):
            ids = self._plain(self._ended(example.text))
            return Encoded(ids, [True] * len(ids))
        if isinstance(example, Pair):
            return self._pair(example, loss_on)
        return self._chat(example, loss_on)

    def _pair(self, pair: Pair, loss_on: LossOn) -> Encoded:
        if loss_on == "assistant":
            raise DataError(
                "`loss_on: assistant` needs conversations, but prompt and completion are plain strings",
                hint="write `data.loss_on: completion`",
            )
        ids = self._plain(pair.prompt + self._ended(pair.completion))
        return Encoded(ids, _marks(ids, self._plain(pair.prompt), everything=loss_on == "all"))

    def _chat(self, chat: Chat, loss_on: LossOn) -> Encoded:
        if loss_on == "all":
            ids = self.template.ids(chat.messages, chat.tools)
            return Encoded(ids, [True] * len(ids))
        split = len(chat.messages) - 1 if chat.prompt_messages is None else chat.prompt_messages
        if loss_on == "completion" and chat.prompt_messages is not None:
            ids = self.template.ids(chat.messages, chat.tools)
            return Encoded(ids, _marks(ids, self.template.ids(chat.messages[:split], chat.tools, answer=True)))
        rendered = self.template.rendered(chat)
        if loss_on == "assistant" and chat.prompt_messages is None:
            return Encoded(rendered.ids, rendered.assistant)
        if chat.messages[-1]["role"] != "assistant":
            raise BadRowError(f"ends with a message of role `{chat.messages[-1]['role']}`, not with the assistant's")
        asked = _marks(rendered.ids, self.template.ids(chat.messages[:split], chat.tools, answer=True))
        return Encoded(rendered.ids, [a and b for a, b in zip(rendered.assistant, asked, strict=True)])

    def question(self, example: Example) -> Question:
        """The prompt of an example and its reference answer.

        Raises:
            BadRowError: there is no answer to compare with.
            DataError: running text has no prompt.
        """
        if isinstance(example, Text):
            raise DataError(
                "answers are generated from prompts, but these rows are running text",
                hint="remove this set from `evaluation.generate`",
            )
        if isinstance(example, Pair):
            return Question(example.prompt, self._plain(example.prompt), example.completion)
        answer = example.messages[-1]
        if answer["role"] != "assistant" or not answer.get("content"):
            raise BadRowError("does not end with an assistant message to compare with")
        before = example.messages[:-1]
        prompt = self.template.text(before, example.tools, answer=True)
        return Question(prompt, self.template.ids(before, example.tools, answer=True), answer["content"])

    def _plain(self, text: str) -> list[int]:
        return list(self.tokenizer(text=text)["input_ids"])

    def _ended(self, text: str) -> str:
        end = self.tokenizer.eos_token
        if end is None:
            raise DataError("the tokenizer has no eos_token, so a trained model would never stop")
        return text if text.endswith(end) else text + end


def _marks(ids: list[int], prompt: list[int], *, everything: bool = False) -> list[bool]:
    """True behind the longest common start of row and prompt, where TRL lets the completion begin."""
    common = next((i for i, (a, b) in enumerate(zip(ids, prompt, strict=False)) if a != b), min(len(ids), len(prompt)))
    return [everything or i >= common for i in range(len(ids))]


def _nothing_trained(whole: Encoded, limit: int) -> str:
    if any(whole.trained[1:]):
        first = next(i for i, mark in enumerate(whole.trained) if mark and i > 0)
        return f"has no trained token within max_length {limit}: the answer begins at token {first + 1} of {len(whole.ids)}"
    return f"has no trained token ({len(whole.ids)} tokens in all)"
