"""The demo's tokenizer: ours, repeatable, able to write any text, and exact about what an answer is."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[2] / "recipes" / "demo"


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(DEMO / "tokenizer")


def test_training_it_again_gives_the_committed_files(tmp_path):
    """The tokenizer is learnt from our own text and nothing else."""
    subprocess.run([sys.executable, DEMO / "make_tokenizer.py", tmp_path], check=True)

    for name in ("tokenizer.json", "chat_template.jinja"):
        assert (tmp_path / name).read_bytes() == (DEMO / "tokenizer" / name).read_bytes()


@pytest.mark.parametrize("text", ["1 + 2 = 3", "héllo — ☃ 漢字 \n\t end", "  two  spaces "])
def test_any_text_survives(tokenizer, text):
    """Byte-level: no text is out of vocabulary, and nothing is cleaned away."""
    assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_the_loss_falls_on_the_answer_and_its_end(tokenizer):
    """The template marks the ticket and the end of the turn, no more: the model must learn to stop."""
    row = json.loads((DEMO / "train.jsonl").read_text(encoding="utf-8").splitlines()[0])
    made = tokenizer.apply_chat_template(row["messages"], return_assistant_tokens_mask=True, return_dict=True)
    trained = [token for token, mask in zip(made["input_ids"], made["assistant_masks"], strict=True) if mask]

    assert tokenizer.decode(trained) == row["messages"][1]["content"] + "<|im_end|>"
