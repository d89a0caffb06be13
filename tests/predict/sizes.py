"""Models whose sizes are written out, and setups of them."""

from __future__ import annotations

from typing import Any

from launcher.predict.architecture import Architecture, architecture
from launcher.predict.setup import Adapter, Setup

LLAMA_8B: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 128256, "tie_word_embeddings": False,
}  # fmt: skip
SMALL: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 1024, "tie_word_embeddings": False,
}  # fmt: skip


def model(config: dict[str, Any], **changes: Any) -> Architecture:
    """The architecture of a configuration."""
    found = architecture({**config, **changes})
    assert found is not None
    return found


def setup(sizes: Architecture | None = None, *, rank: int = 16, **changes: Any) -> Setup:
    """Full fine-tuning of a small llama on a CPU in float32, one row of 128 tokens; an adapter where the method has one."""
    sizes = sizes or model(SMALL)
    method = changes.get("method", "full")
    plain: dict[str, Any] = {
        "model": sizes, "method": "full", "dtype": "float32", "precision": "float32", "optim": "adamw_torch_fused",
        "rows": 1, "length": 128, "attention": "sdpa", "device": "cpu",
    }  # fmt: skip
    if method != "full":
        width = "bfloat16" if method in ("qlora", "int8") else "float32"
        plain["adapter"] = Adapter(dict.fromkeys(sizes.linear, rank), width)
    return Setup(**{**plain, **changes})
