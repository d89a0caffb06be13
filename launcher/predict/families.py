"""Which parameters a model of a known type has, and what transformers takes for a size that is not written.

Source: transformers 5.23, the modules of each type and the defaults of its configuration class; a test builds every
type on the meta device and compares all names and shapes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from launcher.predict.encoders import ENCODERS
from launcher.predict.family import Family, Part, When, biased, sizes, weights

_QKV = weights({"self_attn.q_proj": "Q H", "self_attn.k_proj": "K H", "self_attn.v_proj": "K H"})
_ATTENTION = {**_QKV, **weights({"self_attn.o_proj": "H Q"})}
_BIAS = When("attention_bias", biased(_ATTENTION))
_MLP = weights({"mlp.gate_proj": "F H", "mlp.up_proj": "F H", "mlp.down_proj": "H F"})
_MLP_BIAS = When("mlp_bias", biased(_MLP))
_EXPERTS = {
    "mlp.gate.weight": "E H",
    "mlp.experts.gate_up_proj": "E 2X H",
    "mlp.experts.down_proj": "E H X",
}
_NORMS = weights({"input_layernorm": "H", "post_attention_layernorm": "H"})
_NORMS_BEHIND = weights({"post_attention_layernorm": "H", "post_feedforward_layernorm": "H"})
_FOUR_NORMS = {**_NORMS, **weights({"pre_feedforward_layernorm": "H", "post_feedforward_layernorm": "H"})}
_HEAD_NORMS = weights({"self_attn.q_norm": "D", "self_attn.k_norm": "D"})
_WIDE_NORMS = weights({"self_attn.q_norm": "Q", "self_attn.k_norm": "K"})
_FUSED = weights(
    {"self_attn.qkv_proj": "Q+2K H", "self_attn.o_proj": "H Q", "mlp.gate_up_proj": "2F H", "mlp.down_proj": "H F"}
)
_AROUND: tuple[Part, ...] = (
    weights({"model.embed_tokens": "V H", "model.norm": "H"}),
    When("untied", weights({"lm_head": "V H"})),
)


def _decoder(defaults: Mapping[str, Any], *layer: Part, **more: Any) -> Family:
    """A decoder of llama's build: what its blocks hold differs."""
    return Family({"model.layers": layer}, _AROUND, defaults, **more)


def _qwen_full(index: int, config: Mapping[str, Any]) -> bool:
    return not config.get("use_sliding_window") or index < int(config.get("max_window_layers", 28))


_GPT2 = weights(
    {"ln_1": "H", "attn.c_attn": "H 3H", "attn.c_proj": "H H", "ln_2": "H", "mlp.c_fc": "H F", "mlp.c_proj": "F H"}
)
_GPT2_BIAS = {name.removesuffix("weight") + "bias": shape.split()[-1] for name, shape in _GPT2.items()}  # (in, out)

FAMILIES: Mapping[str, Family] = {
    **ENCODERS,
    "llama": _decoder(sizes(32000, 4096, 11008, 32, 32), _ATTENTION, _BIAS, _MLP, _MLP_BIAS, _NORMS),
    "granite": _decoder(sizes(32000, 4096, 11008, 32, 32), _ATTENTION, _BIAS, _MLP, _MLP_BIAS, _NORMS),
    "smollm3": _decoder(
        sizes(128256, 2048, 11008, 36, 16, num_key_value_heads=4, tie_word_embeddings=True),
        *(_ATTENTION, _BIAS, _MLP, _MLP_BIAS, _NORMS),
    ),
    "mistral": _decoder(
        sizes(32000, 4096, 14336, 32, 32, num_key_value_heads=8, sliding_window=4096),
        *(_ATTENTION, _MLP, _NORMS),
        window="sliding_window",
    ),
    "qwen2": _decoder(
        sizes(151936, 4096, 22016, 32, 32, num_key_value_heads=32, sliding_window=4096),
        *(_ATTENTION, biased(_QKV), _MLP, _NORMS),
        window="sliding_window",
        full=_qwen_full,
    ),
    "qwen3": _decoder(
        sizes(151936, 4096, 22016, 32, 32, num_key_value_heads=32, head_dim=128, sliding_window=4096),
        *(_ATTENTION, _BIAS, _HEAD_NORMS, _MLP, _NORMS),
        window="sliding_window",
        full=_qwen_full,
    ),
    "gemma": _decoder(
        sizes(256000, 3072, 24576, 28, 16, num_key_value_heads=16, head_dim=256, tie_word_embeddings=True),
        *(_ATTENTION, _BIAS, _MLP, _NORMS),
    ),
    "gemma2": _decoder(
        sizes(256000, 2304, 9216, 26, 8, num_key_value_heads=4, head_dim=256, tie_word_embeddings=True)
        | {"sliding_window": 4096},
        *(_ATTENTION, _BIAS, _MLP, _FOUR_NORMS),
        window="sliding_window",
        full=lambda index, _: index % 2 == 1,
    ),
    "gemma3_text": _decoder(
        sizes(262208, 2304, 9216, 26, 8, num_key_value_heads=4, head_dim=256, tie_word_embeddings=True)
        | {"sliding_window": 4096},
        *(_ATTENTION, _BIAS, _HEAD_NORMS, _MLP, _FOUR_NORMS),
        window="sliding_window",
        full=lambda index, config: (index + 1) % int(config.get("sliding_window_pattern", 6)) == 0,
    ),
    "phi3": _decoder(sizes(32064, 3072, 8192, 32, 32), _FUSED, _NORMS, window="sliding_window"),
    "olmo2": _decoder(sizes(50304, 4096, 11008, 32, 32), _ATTENTION, _BIAS, _WIDE_NORMS, _MLP, _NORMS_BEHIND),
    "qwen3_moe": _decoder(
        sizes(151936, 2048, 6144, 24, 32, num_key_value_heads=4, num_experts=128, num_experts_per_tok=8)
        | {"moe_intermediate_size": 768},
        *(_ATTENTION, _BIAS, _HEAD_NORMS, When("sparse", _EXPERTS), When("dense", _MLP), _NORMS),
        stored_otherwise=True,
    ),
    "mixtral": _decoder(
        sizes(32000, 4096, 14336, 32, 32, num_key_value_heads=8, num_experts=8, num_experts_per_tok=2),
        *(_ATTENTION, _EXPERTS, _NORMS),
        keys={"X": ("intermediate_size",)},
        window="sliding_window",
        stored_otherwise=True,
    ),
    "gpt2": Family(
        {"transformer.h": (_GPT2, _GPT2_BIAS)},
        (
            {
                **weights({"transformer.wte": "V H", "transformer.wpe": "P H", "transformer.ln_f": "H"}),
                "transformer.ln_f.bias": "H",
            },
            When("untied", weights({"lm_head": "V H"})),
        ),
        {
            "vocab_size": 50257,
            "n_embd": 768,
            "n_layer": 12,
            "n_head": 12,
            "n_positions": 1024,
            "tie_word_embeddings": True,
        },
        keys={
            "H": ("n_embd", "hidden_size"),
            "F": ("n_inner",),
            "L": ("n_layer", "num_hidden_layers"),
            "N": ("n_head", "num_attention_heads"),
            "P": ("n_positions", "max_position_embeddings"),
        },
        stored_otherwise=True,
    ),
}
"""transformers' `model_type` → its parameters."""
