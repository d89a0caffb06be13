"""Train the demo's tokenizer: `python recipes/demo/make_tokenizer.py [FOLDER]` (the same bytes every time with the same library).

Byte-level BPE, so any text can be written in it; learnt from the demo's own text. Two special tokens: `<|im_end|>` ends
a turn and a text, `<|endoftext|>` pads; `<|im_start|>` opens a turn.
"""

from __future__ import annotations

import sys
from pathlib import Path

import make_base_text
import make_data
import shop
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

HERE = Path(__file__).parent
VOCABULARY = 1024
TEMPLATE = """\
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- if message.role == 'assistant' %}
        {%- generation %}{{ message.content + '<|im_end|>' }}{% endgeneration %}
        {{- '\\n' }}
    {%- else %}
        {{- message.content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}"""


def text() -> list[str]:
    """What the merges are learnt from: the base model's text, the demo's turns, and words that shall be one token."""
    turns = [turn["content"] for row in make_data.rows("train") for turn in row["messages"]]
    whole = [f'"{word}"' for word in (*shop.NAMES, *shop.TOWNS)] + ["user", "assistant"]
    base = [row["prompt"] + row["completion"] for row in make_base_text.documents(8000)]
    return [*base, *turns, *whole * 200]


def train() -> PreTrainedTokenizerFast:
    """The tokenizer with its chat template."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        text(),
        trainers.BpeTrainer(
            vocab_size=VOCABULARY, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token="<|im_end|>",  # noqa: S106 - not a password
        pad_token="<|endoftext|>",  # noqa: S106 - not a password
        chat_template=TEMPLATE,
        model_max_length=1024,
        clean_up_tokenization_spaces=False,
    )


if __name__ == "__main__":
    train().save_pretrained(sys.argv[1] if sys.argv[1:] else HERE / "tokenizer")
