"""Trained parameters against peft's own count on transformers' models."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from launcher.catalog.models import known_models
from launcher.predict.adapter import adapter_parameters
from launcher.predict.architecture import architecture
from launcher.predict.setup import Adapter

SMALL = {
    "model_type": "qwen2",
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
TIED = {**SMALL, "tie_word_embeddings": True}
QWEN3 = {**SMALL, "model_type": "qwen3", "head_dim": 24}
EXPERTS = {**QWEN3, "model_type": "qwen3_moe", "num_experts": 4, "moe_intermediate_size": 32, "mlp_only_layers": [0]}
MIXTRAL = {**SMALL, "model_type": "mixtral", "num_local_experts": 4}
GPT2 = {"model_type": "gpt2", "vocab_size": 96, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 32}
EMBEDDING = "model.embed_tokens"


def peft_count(config: dict, **settings) -> int:
    """Parameters that need a gradient once peft has wrapped the model, each counted once."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))
        wrapped = get_peft_model(model, LoraConfig(**{"r": 4, "target_modules": "all-linear", **settings}))
    return sum(parameter.numel() for parameter in wrapped.parameters() if parameter.requires_grad)


def our_count(config: dict, targets: str = "", rank: int = 4, ranks: dict | None = None, **settings) -> int:
    model = architecture(config)
    chosen = {name: rank * times for name, times in model.all_linear.items() if name.endswith(targets)}
    return adapter_parameters(model, Adapter({**chosen, **(ranks or {})}, "float32", **settings))


@pytest.mark.parametrize("config", [SMALL, TIED, QWEN3, EXPERTS, MIXTRAL, GPT2], ids=lambda each: each["model_type"])
def test_all_linear_layers(config):
    """peft adapts experts that lie in one tensor, and their router; GPT-2's matrices lie the other way."""
    assert our_count(config) == peft_count(config) > 0


@pytest.mark.parametrize("setting", [{"lora_dropout": 0.1}, {"use_dora": True}])
def test_peft_refuses_what_a_plan_refuses_for_experts(setting):
    """Should a release of peft take it, `launcher/plan/checks_adapter.py` need not refuse it any more."""
    with pytest.raises(ValueError, match="does not work with"):
        peft_count(EXPERTS, **setting)


CASES = {
    "dora": ({"use_dora": True}, {"dora": True}),
    "two targets": ({"target_modules": ["q_proj"], "r": 7}, {"targets": "q_proj", "rank": 7}),
    "own ranks": (
        {"rank_pattern": {"layers.1.mlp.up_proj": 16}},
        {"ranks": {"model.layers.1.mlp.up_proj": 16}},
    ),
    "head adapted": ({"target_modules": ["lm_head"], "r": 4}, {"targets": "none", "ranks": {"lm_head": 4}}),
    "embedding adapted": ({"target_modules": ["embed_tokens"]}, {"targets": "none", "ranks": {EMBEDDING: 4}}),
    "ends whole": ({"modules_to_save": ["embed_tokens", "lm_head"]}, {"whole": (EMBEDDING, "lm_head")}),
    "a norm whole": ({"modules_to_save": ["model.norm"]}, {"whole": ("model.norm",)}),
    "all biases": ({"bias": "all"}, {"biases": "all"}),
    "own biases": ({"bias": "lora_only", "target_modules": ["q_proj"]}, {"biases": "lora_only", "targets": "q_proj"}),
}


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_what_else_trains_with_an_adapter(case, tied):
    """Each setting of peft beside the same in our words, with a head of its own and with a tied one."""
    theirs, ours = CASES[case]
    config = TIED if tied else SMALL
    assert our_count(config, **ours) == peft_count(config, **theirs)


def test_added_tokens_train_their_rows():
    """Three tokens: three rows of the embedding, and of a head of its own; none where the whole embedding trains."""
    rows = [93, 94, 95]
    both = peft_count(SMALL, trainable_token_indices={"embed_tokens": rows, "lm_head": rows})
    assert our_count(SMALL, new_rows=3) == both
    assert our_count(TIED, new_rows=3) == peft_count(TIED, trainable_token_indices={"embed_tokens": rows})
    whole = {"modules_to_save": ["embed_tokens"], "trainable_token_indices": {"lm_head": rows}}
    assert our_count(SMALL, new_rows=3, whole=(EMBEDDING,)) == peft_count(SMALL, **whole)


def test_the_published_size_of_a_rank_16_adapter():
    """43.6 million for Qwen3-8B on all linear layers.

    36 blocks, each 16 * (2 * (4096 + 4096) + 2 * (4096 + 1024) + 3 * (4096 + 12288)) = 1,212,416; together 43,646,976.
    """
    assert our_count(known_models()["Qwen/Qwen3-8B"], rank=16) == 43_646_976
