"""Sizes of the models that are measured. They get random weights, so only sizes matter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from launcher.catalog.models import known_models


@dataclass(frozen=True)
class Shape:
    """A llama-like decoder."""

    name: str
    kind: str
    """transformers' `model_type`: llama, qwen2 or qwen3."""
    hidden: int
    ffn: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool

    @property
    def queries(self) -> int:
        """Width of all query heads."""
        return self.heads * self.head_dim

    @property
    def keys(self) -> int:
        """Width of all key heads."""
        return self.kv_heads * self.head_dim

    @property
    def linear(self) -> int:
        """Parameters of the linear layers: what is quantized, and what adapters stand beside."""
        attention = self.hidden * (2 * self.queries + 2 * self.keys)
        return self.layers * (attention + 3 * self.hidden * self.ffn)

    @property
    def embeddings(self) -> int:
        """Parameters of the embedding and the output head."""
        return self.vocabulary * self.hidden * (1 if self.tied else 2)

    def adapter(self, rank: int) -> int:
        """Parameters of LoRA on all linear layers: rank × (in + out) of each."""
        attention = 2 * (self.hidden + self.queries) + 2 * (self.hidden + self.keys)
        return self.layers * rank * (attention + 3 * (self.hidden + self.ffn))

    def config(self) -> dict[str, Any]:
        """Arguments of transformers' configuration class."""
        return {
            "model_type": self.kind, "vocab_size": self.vocabulary, "hidden_size": self.hidden,
            "intermediate_size": self.ffn, "num_hidden_layers": self.layers, "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads, "head_dim": self.head_dim, "tie_word_embeddings": self.tied,
            "max_position_embeddings": 32768, "use_cache": False,
        }  # fmt: skip


def of_catalog(name: str) -> Shape:
    """The shape of a model of launcher's catalog."""
    return _shape(name.rpartition("/")[2], known_models()[name])


def _shape(name: str, config: Mapping[str, Any]) -> Shape:
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    return Shape(
        name, config["model_type"], hidden, config["intermediate_size"], config["num_hidden_layers"], heads,
        config["num_key_value_heads"], config.get("head_dim", hidden // heads), config["vocab_size"],
        config["tie_word_embeddings"],
    )  # fmt: skip


QWEN3_06B = of_catalog("Qwen/Qwen3-0.6B")
QWEN3_8B = of_catalog("Qwen/Qwen3-8B")
QWEN3_32B = of_catalog("Qwen/Qwen3-32B")
QWEN25_72B = of_catalog("Qwen/Qwen2.5-72B-Instruct")
# Qwen3 technical report, arXiv:2505.09388, table 1; Llama 3 report, arXiv:2407.21783, table 3.
QWEN3_14B = Shape("Qwen3-14B", "qwen3", 5120, 17408, 40, 40, 8, 128, 151936, tied=False)
LLAMA31_8B = Shape("Llama-3.1-8B", "llama", 4096, 14336, 32, 32, 8, 128, 128256, tied=False)
TINY = Shape("tiny", "qwen3", 64, 192, 2, 4, 2, 16, 1024, tied=False)
"""What the smoke mode puts in place of every other shape."""
