"""Parameter counts against totals that others published or that can be added up by hand."""

import pytest

from launcher.catalog.models import known_models
from launcher.catalog.parameters import count_parameters

PUBLISHED = {
    "Qwen/Qwen3-0.6B": 596_049_920,
    "Qwen/Qwen3-8B": 8_190_735_360,
    "Qwen/Qwen3-32B": 32_762_123_264,
    "Qwen/Qwen2.5-72B-Instruct": 72_706_203_648,
}


@pytest.mark.parametrize(("name", "published"), PUBLISHED.items())
def test_the_catalog_counts_what_the_hub_publishes(name, published):
    """The safetensors totals on the models' hub pages; the smallest one has a tied head, the others have not."""
    assert count_parameters(known_models()[name]) == published


def test_llama_2_7b_has_its_published_size():
    """6,738,415,616 is the safetensors total of Llama-2-7b-hf: no biases, no grouped keys."""
    config = {
        "model_type": "llama",
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
    }
    assert count_parameters(config) == 6_738_415_616


def test_qwen2_counts_its_query_key_value_biases():
    """494,032,768 is the safetensors total of Qwen2.5-0.5B, which differs from llama's layout by those biases."""
    config = {
        "model_type": "qwen2",
        "vocab_size": 151936,
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    }
    assert count_parameters(config) == 494_032_768


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "mamba"},
        {},
        {"model_type": "llama", "vocab_size": 10},
        {"model_type": "llama", "vocab_size": "x", "hidden_size": 1, "num_hidden_layers": 1},
    ],
)
def test_what_the_formula_does_not_cover_is_unknown_and_not_guessed(config):
    """A wrong count would be worse than none: plans show it as a fact."""
    assert count_parameters(config) is None


def test_every_model_row_cites_its_source():
    """A fact without a source cannot be checked."""
    import json
    from pathlib import Path

    import launcher.catalog.models as module

    files = sorted((Path(module.__file__).parent / "models").glob("*.json"))
    assert set(PUBLISHED) == set(known_models())
    for file in files:
        row = json.loads(file.read_text(encoding="utf-8"))
        assert row["source"], file
        assert row["name"] in known_models()
