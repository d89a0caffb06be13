"""Greedy answers to a batch of prompts. Shapes: B = prompts in a batch, T = longest prompt in tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jinja2 import TemplateError
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase, StoppingCriteriaList


def answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    interrupted: Callable[[], bool] = lambda: False,
    together: bool = False,
) -> list[str]:
    """The most probable continuation of each prompt, token by token, without special tokens. All prompts at once.

    Neither the tokenizer's nor the model's settings are changed; the model's own sampling settings are not used.

    Args:
        model: a causal language model, with or without adapters, in eval mode.
        tokenizer: its tokenizer.
        prompts: token ids, each prompt at least one.
        max_new_tokens: longest answer, in tokens.
        interrupted: asked after each token; when true, the answers end there.
        together: ranks hold parts of the model, so that each must make as many steps as the one with the longest answer.
    """
    stop = stop_tokens(model, tokenizer)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else stop[0] if stop else 0
    greedy = GenerationConfig(
        max_new_tokens=max_new_tokens, do_sample=False, pad_token_id=pad, eos_token_id=stop or None, use_cache=True
    )
    ids_BT, mask_BT = left_padded(prompts, pad)

    def cut_off(so_far_BT: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        return so_far_BT.new_full((len(so_far_BT),), interrupted(), dtype=torch.bool)

    with _generating_by(model, greedy):
        output = model.generate(
            input_ids=ids_BT.to(model.device),
            attention_mask=mask_BT.to(model.device),
            generation_config=greedy,
            stopping_criteria=StoppingCriteriaList([cut_off]),
            synced_gpus=together,
        )
    return list(tokenizer.batch_decode(output[:, ids_BT.shape[1] :], skip_special_tokens=True))


def left_padded(prompts: Sequence[Sequence[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Prompts as token ids [B, T] and attention mask [B, T], padded on the left so that answers start together."""
    longest = max(len(prompt) for prompt in prompts)
    ids = [[pad] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids), torch.tensor(mask)


def stop_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Tokens that end an answer: the tokenizer's and the model's end of text, and the chat template's end of turn."""
    of_model = model.generation_config.eos_token_id if model.generation_config is not None else None
    found = [tokenizer.eos_token_id, *(of_model if isinstance(of_model, list) else [of_model]), _end_of_turn(tokenizer)]
    return list(dict.fromkeys(token for token in found if token is not None))


def _end_of_turn(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The special token that the chat template puts right behind an assistant's words; None when there is none."""
    if not tokenizer.chat_template:
        return None
    words = "answer"
    turns = [{"role": "user", "content": "question"}, {"role": "assistant", "content": words}]
    try:
        tail = tokenizer.apply_chat_template(turns, tokenize=False).rpartition(words)[2].lstrip()
    except (TemplateError, ValueError, TypeError):
        return None  # a template for other roles or contents than plain text
    ids = tokenizer(tail, add_special_tokens=False)["input_ids"]
    special = {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}
    return ids[0] if ids and ids[0] in special else None


@contextmanager
def _generating_by(model: Any, config: GenerationConfig) -> Iterator[None]:
    """`generate` fills what a configuration leaves open from the model's own, sampling settings included; lend it ours."""
    holders = [model, model.get_base_model()] if hasattr(model, "get_base_model") else [model]
    own = [holder.generation_config for holder in holders]
    try:
        for holder in holders:
            holder.generation_config = config
        yield
    finally:
        for holder, kept in zip(holders, own, strict=True):
            holder.generation_config = kept
