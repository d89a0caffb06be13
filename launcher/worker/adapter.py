"""The adapter that is trained: peft's settings from the plan, rows for added tokens, and what TRL's loss needs of them."""

from __future__ import annotations

from functools import partial
from typing import Any

from peft import LoraConfig
from peft.utils.other import TrainableTokensWrapper

from launcher.worker.job import Job


def config(job: Job, model: Any, tokenizer: Any) -> LoraConfig | None:
    """The new adapter to train; None for full fine-tuning, and when an existing adapter is trained on."""
    plan = job.plan
    if plan.peft is None or plan.model.adapter:
        return None
    made = LoraConfig(**plan.peft)
    if plan.model.add_tokens:
        made.trainable_token_indices = _new_rows(model, tokenizer, plan.model.add_tokens, made.modules_to_save or ())
    return made


def _new_rows(model: Any, tokenizer: Any, tokens: tuple[str, ...], whole: Any) -> dict[str, list[int]] | None:
    """Embedding (and output head, where it has weights of its own) → rows of the added tokens; not where it is trained whole."""
    rows = sorted(tokenizer.convert_tokens_to_ids(list(tokens)))
    ends = [model.get_input_embeddings()]
    if model.get_output_embeddings() is not None and not model.config.get_text_config().tie_word_embeddings:
        ends.append(model.get_output_embeddings())
    names = [name.rpartition(".")[2] for name, module in model.named_modules() if any(module is end for end in ends)]
    return {name: rows for name in names if name not in whole} or None


def ready(model: Any) -> None:
    """Make an adapter that trains single rows of the embeddings fit for TRL's loss, and small to save.

    TRL's fused head reads `lm_head.bias`; peft's wrapper of single rows passes on `weight` and nothing else, so the
    attribute is set here. To be removed when a peft release passes `bias` on, which
    `tests/worker/test_adapter.py::test_the_wrapper_of_peft_still_hides_the_bias` will tell. And peft would save the
    whole embeddings with the adapter wherever they have grown: all new rows are in it already.
    """
    if not any(isinstance(module, TrainableTokensWrapper) for module in model.modules()):
        return
    head = model.get_base_model().get_output_embeddings()
    if isinstance(head, TrainableTokensWrapper):
        head.bias = None
    model.save_pretrained = partial(model.save_pretrained, save_embedding_layers=False)
