"""From examples to token ids and trained spans, many at a time. Plain rows get exactly the tokens TRL would give them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from launcher.errors import DataError
from launcher.plan.types import LossOn
from launcher.worker.data.chat import ChatTemplate, Span
from launcher.worker.data.examples import BadRowError, Chat, Example, Pair, Text, Tokens

IGNORED = -100
_CHECKED_BORDERS = 64


@dataclass(frozen=True)
class Encoded:
    """Token ids, and which of them are trained: token i where a span holds it."""

    ids: list[int]
    spans: list[Span]

    @property
    def first_trained(self) -> int:
        """Position of the first token that is predicted and trained, −1 without one. Token 0 is never predicted."""
        return next((max(start, 1) for start, end in self.spans if end > max(start, 1)), -1)


@dataclass(frozen=True)
class Question:
    """What a model is asked when its answers are scored."""

    prompt: str
    prompt_ids: list[int]
    reference: str


@dataclass(frozen=True)
class _Job:
    """A text to encode. `spans` are trained characters; with `prompt`, all behind that prompt is trained; else everything."""

    text: str
    plain: bool
    """Plain text gets the tokenizer's own special tokens (BOS), a rendered conversation has them already."""
    spans: list[Span] | None = None
    prompt: str | None = None


@dataclass
class Encoder:
    """How examples become tokens: one tokenizer, one chat template, one rule for which tokens are trained."""

    tokenizer: Any
    template: ChatTemplate
    vocabulary: int | None = None
    """Rows of the model's embedding; None where it is not known or grows with the tokenizer."""
    _borders_checked: int = field(default=0, init=False)
    _borders_hold: bool = field(default=True, init=False)

    def encode(self, examples: Sequence[Example], loss_on: LossOn) -> list[Encoded | BadRowError]:
        """Token ids and spans of each example, or why it cannot be used.

        Raises:
            DataError: `loss_on` means nothing for this kind of row, or the chat template cannot be used.
        """
        made = [self._job(example, loss_on) for example in examples]
        encodings = dict(self._encodings(made))
        return [self._finished(job, encodings.get(number)) for number, job in enumerate(made)]

    def question(self, example: Example) -> Question:
        """The prompt of an example and its reference answer.

        Raises:
            BadRowError: there is no answer to compare with.
            DataError: rows of this kind have no prompt.
        """
        if isinstance(example, Text | Tokens):
            raise DataError(
                "answers are generated from prompts, but these rows are running text",
                hint="remove this set from `evaluation.generate`",
            )
        if isinstance(example, Pair):
            return Question(example.prompt, self._ids(example.prompt, plain=True), example.completion)
        answer = example.messages[-1]
        if answer["role"] != "assistant" or not answer.get("content"):
            raise BadRowError("does not end with an assistant message to compare with")
        prompt = self.template.text(example.messages[:-1], example.tools, answer=True)
        return Question(prompt, self._ids(prompt, plain=False), answer["content"])

    def _job(self, example: Example, loss_on: LossOn) -> _Job | Encoded | BadRowError:
        if isinstance(example, Tokens):
            return Encoded(example.ids, _runs(example.labels, len(example.ids)))
        if isinstance(example, Text):
            return _Job(self._ended(example.text), plain=True)
        if isinstance(example, Pair):
            if loss_on == "assistant":
                raise DataError(
                    "`loss_on: assistant` needs conversations, but prompt and completion are plain strings",
                    hint="write `data.loss_on: completion`",
                )
            text = example.prompt + self._ended(example.completion)
            return _Job(text, plain=True, prompt=None if loss_on == "all" else example.prompt)
        try:
            return self._chat(example, loss_on)
        except BadRowError as fault:
            return fault

    def _chat(self, chat: Chat, loss_on: LossOn) -> _Job:
        job = self._conversation(chat, loss_on)
        if lost := _not_rendered(chat, job.text):
            raise BadRowError(f"the chat template leaves out {lost}")
        return job

    def _conversation(self, chat: Chat, loss_on: LossOn) -> _Job:
        if loss_on == "all":
            return _Job(self.template.text(chat.messages, chat.tools), plain=False)
        if loss_on == "completion" and chat.prompt_messages is not None:
            prompt = self.template.text(chat.messages[: chat.prompt_messages], chat.tools, answer=True)
            return _Job(self.template.text(chat.messages, chat.tools), plain=False, prompt=prompt)
        first = len(chat.messages) - 1 if loss_on == "completion" else chat.prompt_messages or 0
        untrained = chat.untrained | frozenset(range(first))
        rendered = self.template.rendered(Chat(chat.messages, chat.tools, chat.prompt_messages, untrained))
        return _Job(rendered.text, plain=False, spans=rendered.spans)

    def _encodings(self, made: Sequence[_Job | Encoded | BadRowError]) -> Iterator[tuple[int, Any]]:
        for plain in (True, False):
            numbers = [number for number, job in enumerate(made) if isinstance(job, _Job) and job.plain is plain]
            texts = [job.text for number in numbers if isinstance(job := made[number], _Job)]
            yield from zip(numbers, self._backend(texts, plain=plain), strict=True)

    def _backend(self, texts: Sequence[str], *, plain: bool) -> list[Any]:
        """The fast tokenizer's own encodings: a `BatchEncoding` around them costs as much again."""
        return list(self.tokenizer.backend_tokenizer.encode_batch(list(texts), add_special_tokens=plain))

    def _ids(self, text: str, *, plain: bool) -> list[int]:
        return list(self._backend([text], plain=plain)[0].ids)

    def _finished(self, job: _Job | Encoded | BadRowError, encoding: Any) -> Encoded | BadRowError:
        if isinstance(job, BadRowError):
            return job
        row = job if isinstance(job, Encoded) else self._with_spans(job, encoding)
        return self._fault(row) or row

    def _with_spans(self, job: _Job, encoding: Any) -> Encoded:
        ids = encoding.ids
        if job.prompt is not None:
            return Encoded(ids, [(self._border(job, encoding, ids), len(ids))])
        if job.spans is None:
            return Encoded(ids, [(0, len(ids))])
        return Encoded(ids, [_tokens_of(span, encoding, len(ids)) for span in job.spans])

    def _border(self, job: _Job, encoding: Any, ids: list[int]) -> int:
        """Length of the longest common start of the row's tokens and the prompt's, where TRL lets the completion begin.

        Where a word of the tokenizer's own splitting begins with the completion, the tokens before it are those of the
        prompt alone, and encoding the prompt is saved. The first borders are found both ways; a tokenizer for which
        the two differ is not trusted again.
        """
        fast = _word_border(job, encoding) if self._borders_hold else None
        if fast is not None and self._borders_checked >= _CHECKED_BORDERS:
            return fast
        prompt = self._ids(job.prompt or "", plain=job.plain)
        border = next(
            (i for i, (a, b) in enumerate(zip(ids, prompt, strict=False)) if a != b), min(len(ids), len(prompt))
        )
        if fast is not None:
            self._borders_checked += 1
            self._borders_hold = self._borders_hold and fast == border
        return border

    def _ended(self, text: str) -> str:
        end = self.tokenizer.eos_token
        if end is None:
            raise DataError(
                "the tokenizer has no eos_token, so a trained model would never stop",
                hint='name it in the tokenizer\'s tokenizer_config.json: `"eos_token": "…"`',
            )
        return text if text.endswith(end) else text + end

    def _fault(self, row: Encoded) -> BadRowError | None:
        bos = self.tokenizer.bos_token_id
        if bos is not None and len(row.ids) > 1 and row.ids[0] == row.ids[1] == bos:
            return BadRowError(
                f"begins with `{self.tokenizer.bos_token}` twice: the tokenizer adds one, and the text or the chat template has one"
            )
        if self.vocabulary is not None and row.ids and max(row.ids) >= self.vocabulary:
            highest = max(row.ids)
            token = self.tokenizer.convert_ids_to_tokens(highest) if highest < len(self.tokenizer) else None
            named = f" (`{token}`)" if token else ""
            return BadRowError(f"holds token {highest}{named}, the model's embedding has {self.vocabulary} rows")
        if row.first_trained < 0:
            return BadRowError(f"has no trained token ({len(row.ids)} tokens in all)")
        return None


def _not_rendered(chat: Chat, text: str) -> str | None:
    """What a template drops without a word: tools and calls by their names, a system message by its text."""
    names = [_name(tool) for tool in chat.tools or ()]
    if names and not any(name and name in text for name in names):
        return "`tools`"
    for number, message in enumerate(chat.messages):
        calls = message.get("tool_calls") or ()
        if any((name := _name(call)) and name not in text for call in calls):
            return f"`messages[{number}].tool_calls`"
        if message["role"] in ("system", "developer") and str(message.get("content", "")).strip() not in text:
            return f"`messages[{number}]` of role `{message['role']}`"
    return None


def _name(item: Any) -> str | None:
    """Name of the function of a tool or a call, wrapped in `function` or not."""
    inner = item.get("function", item) if isinstance(item, dict) else {}
    name = inner.get("name") if isinstance(inner, dict) else None
    return name if isinstance(name, str) else None


def _word_border(job: _Job, encoding: Any) -> int | None:
    """Number of the token that begins with the completion, if it also begins a word; None otherwise."""
    prompt = job.prompt or ""
    if not job.text.startswith(prompt):
        return None
    token = encoding.char_to_token(len(prompt))
    if not token or encoding.token_to_chars(token)[0] != len(prompt):
        return None
    word, before = encoding.token_to_word(token), encoding.token_to_word(token - 1)
    return int(token) if word is not None and word != before else None


def _tokens_of(span: Span, encoding: Any, length: int) -> Span:
    """Tokens that hold the characters of a span, as `apply_chat_template` counts them for its assistant mask."""
    start, last = encoding.char_to_token(span[0]), encoding.char_to_token(span[1] - 1)
    if start is None:
        return (length, length)
    return (int(start), int(last) + 1 if last else length)


def _runs(labels: list[int] | None, length: int) -> list[Span]:
    """Spans of the labels that are trained; everything without labels."""
    if labels is None:
        return [(0, length)]
    edges = [
        i for i in range(length + 1) if (i < length and labels[i] != IGNORED) != (i > 0 and labels[i - 1] != IGNORED)
    ]
    return list(zip(edges[::2], edges[1::2], strict=True))
