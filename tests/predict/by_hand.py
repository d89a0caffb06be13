"""Models written out by hand, for arithmetic that a reader can follow."""

from __future__ import annotations

from launcher.predict.architecture import Architecture


def llama(
    layers: int, hidden: int, ffn: int, heads: int, kv_heads: int, vocabulary: int, *, tied: bool = False
) -> Architecture:
    """A decoder of llama's build with heads of `hidden / heads`."""
    size = hidden // heads
    layer = {
        "self_attn.q_proj.weight": (heads * size, hidden),
        "self_attn.k_proj.weight": (kv_heads * size, hidden),
        "self_attn.v_proj.weight": (kv_heads * size, hidden),
        "self_attn.o_proj.weight": (hidden, heads * size),
        "mlp.gate_proj.weight": (ffn, hidden),
        "mlp.up_proj.weight": (ffn, hidden),
        "mlp.down_proj.weight": (hidden, ffn),
        "input_layernorm.weight": (hidden,),
        "post_attention_layernorm.weight": (hidden,),
    }
    tensors: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocabulary, hidden)}
    for index in range(layers):
        tensors |= {f"model.layers.{index}.{name}": shape for name, shape in layer.items()}
    tensors["model.norm.weight"] = (hidden,)
    if not tied:
        tensors["lm_head.weight"] = (vocabulary, hidden)
    return Architecture("llama", hidden, ffn, layers, heads, kv_heads, size, vocabulary, tied, tensors)


LLAMA_8B = llama(32, 4096, 14336, 32, 8, 128256)
"""Llama-3.1-8B. Source: Llama 3 report, arXiv:2407.21783, table 3."""
