"""Parameter counts against totals that others published or that can be added up by hand."""

import json
from pathlib import Path

import pytest

from launcher.catalog import models as module
from launcher.catalog.models import known_models
from launcher.predict.architecture import architecture

PUBLISHED = {
    "HuggingFaceTB/SmolLM2-135M": 134_515_008,
    "HuggingFaceTB/SmolLM2-360M": 361_821_120,
    "HuggingFaceTB/SmolLM2-1.7B": 1_711_376_384,
    "HuggingFaceTB/SmolLM3-3B": 3_075_098_624,
    "Qwen/Qwen2.5-0.5B-Instruct": 494_032_768,
    "Qwen/Qwen3-0.6B": 596_049_920,
    "Qwen/Qwen2.5-1.5B-Instruct": 1_543_714_304,
    "Qwen/Qwen3-1.7B": 1_720_574_976,
    "Qwen/Qwen2.5-3B-Instruct": 3_085_938_688,
    "Qwen/Qwen3-4B": 4_022_468_096,
    "Qwen/Qwen2.5-7B-Instruct": 7_615_616_512,
    "Qwen/Qwen3-8B": 8_190_735_360,
    "Qwen/Qwen3-14B": 14_768_307_200,
    "Qwen/Qwen2.5-14B-Instruct": 14_770_033_664,
    "Qwen/Qwen3-30B-A3B": 30_532_122_624,
    "Qwen/Qwen3-32B": 32_762_123_264,
    "Qwen/Qwen2.5-32B-Instruct": 32_763_876_352,
    "Qwen/Qwen2.5-72B-Instruct": 72_706_203_648,
    "TinyLlama/TinyLlama-1.1B-Chat-v1.0": 1_100_048_384,
    "allenai/OLMo-2-1124-7B": 7_298_617_344,
    "google/gemma-3-1b-it": 999_885_952,
    "google/gemma-2-2b": 2_614_341_888,
    "google/gemma-2-9b": 9_241_705_984,
    "meta-llama/Llama-3.2-1B": 1_235_814_400,
    "meta-llama/Llama-3.2-3B": 3_212_749_824,
    "meta-llama/Llama-3.1-8B": 8_030_261_248,
    "meta-llama/Llama-3.3-70B-Instruct": 70_553_706_496,
    "microsoft/Phi-4-mini-instruct": 3_836_021_760,
    "microsoft/phi-4": 14_659_507_200,
    "mistralai/Mistral-7B-v0.3": 7_248_023_552,
    "mistralai/Mistral-Small-24B-Instruct-2501": 23_572_403_200,
}


@pytest.mark.parametrize(("name", "published"), PUBLISHED.items())
def test_the_catalog_counts_what_the_hub_publishes(name, published):
    """The totals of tensors on the models' hub pages, a tied head counted once."""
    assert architecture(known_models()[name]).parameters == published


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
    assert architecture(config).parameters == 6_738_415_616


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
    assert architecture(config).parameters == 494_032_768


def test_every_model_row_has_a_total_and_cites_its_source():
    """A fact without a source cannot be checked; a variant named beside a model has the same sizes."""
    rows = json.loads(Path(module.__file__).with_name("models.json").read_text(encoding="utf-8"))
    assert {row["name"] for row in rows} == set(PUBLISHED)
    names = [name for row in rows for name in (row["name"], *row.get("also", ()))]
    assert len(names) == len(set(names)) == len(known_models())
    assert all(row["source"] and row["config"]["max_position_embeddings"] for row in rows)
    assert known_models()["meta-llama/Llama-3.1-8B-Instruct"] == known_models()["meta-llama/Llama-3.1-8B"]
