"""How many parameters a decoder has, from its configuration alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_QKV_BIAS = frozenset({"qwen2"})
_QK_NORM = frozenset({"qwen3"})
# What transformers takes when a configuration leaves `num_key_value_heads` out; None: as many as heads.
_KEY_VALUE_HEADS = {"llama": None, "mistral": 8, "qwen2": 32, "qwen3": 32}


def count_parameters(config: Mapping[str, Any]) -> int | None:
    """Parameters of a decoder of the llama, mistral, qwen2 or qwen3 type; None for any other.

    A tied output head is counted once, as `numel()` over unique parameters counts it.

    Source: the layer shapes of these models: gated feed-forward of three matrices, grouped-query attention,
    root-mean-square norms without bias; qwen2 has a bias on q, k and v, qwen3 a norm on q and k.
    """
    if config.get("model_type") not in _KEY_VALUE_HEADS:
        return None
    try:
        return _embeddings(config) + int(config["num_hidden_layers"]) * _layer(config) + int(config["hidden_size"])
    except (KeyError, TypeError, ValueError):
        return None


def _embeddings(config: Mapping[str, Any]) -> int:
    copies = 1 if config.get("tie_word_embeddings", False) else 2
    return int(config["vocab_size"]) * int(config["hidden_size"]) * copies


def _layer(config: Mapping[str, Any]) -> int:
    hidden = int(config["hidden_size"])
    feed_forward = 3 * hidden * int(config["intermediate_size"])
    if config.get("mlp_bias"):
        feed_forward += 2 * int(config["intermediate_size"]) + hidden
    return _attention(config) + feed_forward + 2 * hidden


def _attention(config: Mapping[str, Any]) -> int:
    hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
    head = int(config.get("head_dim") or (128 if config["model_type"] == "qwen3" else hidden // heads))
    queries, keys = heads * head, int(_key_value_heads(config) or heads) * head
    weights = hidden * (2 * queries + 2 * keys)
    bias_qkv = config["model_type"] in _QKV_BIAS or config.get("attention_bias")
    bias = (queries + 2 * keys if bias_qkv else 0) + (hidden if config.get("attention_bias") else 0)
    norms = 2 * head if config["model_type"] in _QK_NORM else 0
    return weights + bias + norms


def _key_value_heads(config: Mapping[str, Any]) -> Any:
    return config.get("num_key_value_heads", _KEY_VALUE_HEADS[config["model_type"]])
