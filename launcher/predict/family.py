"""How `families.py` writes down which parameters a type of model has: name → shape in letters.

Shapes are written with letters: H hidden, F feed-forward, V vocabulary, Q and K width of all query and all key heads,
D of one head, E experts, X feed-forward of an expert, P positions, T token types, R relative positions, N heads.
`2F` is twice F, `Q+2K` a sum.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Tensors = Mapping[str, str]
"""Parameter → shape in letters."""


@dataclass(frozen=True)
class When:
    """Parameters that are there only if something holds: a key of the configuration, or where a block stands."""

    condition: str
    """A key that is true; `untied`, `gated`, `ungated`; or of the block: `first`, `later`, `sparse`, `dense`."""
    tensors: Tensors


Part = Tensors | When


@dataclass(frozen=True)
class Family:
    """Models of one type."""

    blocks: Mapping[str, tuple[Part, ...]]
    """Where equal blocks stand (`model.layers`) → the parameters of one of them."""
    around: tuple[Part, ...]
    """Parameters outside the blocks."""
    defaults: Mapping[str, Any]
    """What the configuration class takes for a key that is not written."""
    keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Letter → keys of the configuration, where they are not the common ones."""
    window: str | None = None
    """Key of the configuration that holds how many tokens a bounded layer looks back."""
    full: Callable[[int, Mapping[str, Any]], bool] = lambda _index, _config: False
    """Whether the block looks at all tokens nevertheless, where `layer_types` does not say it."""
    causal: bool = True
    stored_otherwise: bool = False
    """Its files may name the parameters otherwise than the loaded model."""


KEYS = {
    "H": ("hidden_size",),
    "F": ("intermediate_size",),
    "V": ("vocab_size",),
    "L": ("num_hidden_layers",),
    "N": ("num_attention_heads",),
    "G": ("num_key_value_heads",),
    "D": ("head_dim",),
    "E": ("num_experts", "num_local_experts"),
    "A": ("num_experts_per_tok",),
    "X": ("moe_intermediate_size",),
    "P": ("max_position_embeddings",),
    "T": ("type_vocab_size",),
    "R": ("relative_attention_num_buckets",),
    "C": ("num_decoder_layers",),
}
"""Letter → the keys that transformers reads it from. G: key heads, A: experts of a token, L: blocks, C: of a decoder."""


def sizes(vocabulary: int, hidden: int, ffn: int, layers: int, heads: int, **more: Any) -> dict[str, Any]:
    """Defaults of a configuration class."""
    names = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    return {**dict(zip(names, (vocabulary, hidden, ffn, layers, heads), strict=True)), **more}


def weights(shapes: Tensors) -> dict[str, str]:
    """Module → shape of its weight."""
    return {f"{name}.weight": shape for name, shape in shapes.items()}


def biased(shapes: Tensors) -> dict[str, str]:
    """The biases of modules whose weights these are."""
    return {name.removesuffix("weight") + "bias": shape.split()[0] for name, shape in shapes.items()}
