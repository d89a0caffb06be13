"""Sizes of a transformer language model: from its configuration, and exactly from the names and shapes of its weights."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any

from launcher.predict.families import FAMILIES
from launcher.predict.family import Family
from launcher.predict.sizes import Shape, named_shapes, read_sizes, read_windows

_BLOCK = re.compile(r"(?P<prefix>.+?)\.(?P<index>\d+)\.(?P<name>.+)")
_NOT_LINEAR = frozenset({"gate", "router", "relative_attention_bias"})
"""Modules in a block with a matrix that are no linear layers: routers to experts, and an embedding of distances."""
_EMBEDDINGS = re.compile(r"(.*[._])?(embed_tokens|embeddings|wte|wpe|shared)\.weight")
_HEADS = re.compile(r"((.+\.)?lm_head|decoder|cls\.predictions\.decoder)\.weight")
_GATES = re.compile(r".*\.(gate_proj|gate_up_proj|wi_0|Wi)(\.weight)?")


@dataclass(frozen=True)
class Architecture:
    """A decoder (or encoder) of equal layers."""

    kind: str
    """transformers' `model_type`."""
    hidden: int
    ffn: int
    """Width of the feed-forward layer; of one expert, where there are experts."""
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool
    """The output head is the input embedding."""
    tensors: Mapping[str, Shape]
    """Name → shape of every parameter, as the loaded model names them; a tied head is left out."""
    experts: int = 0
    experts_per_token: int = 0
    causal: bool = True
    """A token attends only to those before it."""
    decoder_layers: int = 0
    """Layers of the decoder behind an encoder; `layers` are the encoder's then."""
    windows: tuple[int, ...] = ()
    """Tokens that one token sees in each layer, 0: all of them; empty where all layers look at everything."""
    renamed: bool = False
    """Files of this type may name the parameters otherwise than the loaded model."""
    exact: bool = True
    """The type is in our table. Otherwise the tensors are those stored, which a type may rename when it is loaded."""

    @cached_property
    def parameters(self) -> int:
        """Parameters; a tied output head is counted once."""
        return sum(prod(shape) for shape in self.tensors.values())

    @cached_property
    def linear(self) -> dict[str, tuple[int, int]]:
        """Linear layer inside the blocks → (out, in): what is quantized, and what `all-linear` adapts.

        Experts held in one tensor of three dimensions, and routers, are not among them.
        """
        return dict(self._linear())

    def _linear(self) -> Iterator[tuple[str, tuple[int, int]]]:
        for name, shape in self.tensors.items():
            module = name.removesuffix(".weight")
            if module == name or len(shape) != 2 or not _BLOCK.fullmatch(name):
                continue
            if module.rpartition(".")[2] not in _NOT_LINEAR:
                # GPT-2's matrices lie the other way round: (in, out).
                yield module, (shape[1], shape[0]) if self.kind == "gpt2" else (shape[0], shape[1])

    @cached_property
    def all_linear(self) -> dict[str, int]:
        """What `target_modules: all-linear` adapts → how many times the rank: linear layers, routers and experts.

        Source: peft 0.21, utils/transformers_weight_conversion.py: it takes fused experts for the layers they were.
        """
        routed = [name.removesuffix(".weight") for name in self.tensors if name.endswith(".mlp.gate.weight")]
        fused = {name: 2 if name.endswith("gate_up_proj") else 1 for name in self.expert_tensors}
        # Where some blocks have experts, the feed-forward layers of the others bear the experts' names, and get none.
        plain = [name for name in self.linear if not (fused and ".mlp." in name)]
        return {**dict.fromkeys((*plain, *routed), 1), **fused}

    @cached_property
    def expert_tensors(self) -> dict[str, tuple[int, int, int]]:
        """Parameter → (experts, out, in) where all experts of a block lie in one tensor."""
        return {
            name: (shape[0], shape[1], shape[2])
            for name, shape in self.tensors.items()
            if len(shape) == 3 and ".experts." in name
        }

    @cached_property
    def largest_linear(self) -> tuple[int, int]:
        """(out, in) of the largest linear layer inside the blocks."""
        return max(self.linear.values(), key=prod, default=(0, 0))

    @cached_property
    def linear_parameters(self) -> int:
        """Elements of the matrices of all linear layers inside the blocks."""
        return sum(prod(shape) for shape in self.linear.values())

    @cached_property
    def embeddings(self) -> dict[str, Shape]:
        """Parameter → shape of the embeddings: of tokens first, then of positions and the like."""
        outside = {name: shape for name, shape in self.tensors.items() if not _BLOCK.fullmatch(name)}
        found = {name: shape for name, shape in outside.items() if _EMBEDDINGS.fullmatch(name)}
        return dict(sorted(found.items(), key=lambda item: item[1][0] != self.vocabulary))

    @property
    def head(self) -> Shape:
        """(vocabulary, hidden) of the output head, its own or the input embedding's."""
        return (self.vocabulary, self.hidden)

    @property
    def gated(self) -> bool:
        """The feed-forward layer multiplies two projections (SwiGLU and its like)."""
        return any(_GATES.fullmatch(name) for name in self.tensors)

    @property
    def qk_norm(self) -> bool:
        """Queries and keys are normalized before they meet."""
        return any(".q_norm." in name for name in self.tensors)

    @cached_property
    def per_layer(self) -> tuple[dict[str, Shape], ...]:
        """Parameters of each block in order, named within it (`mlp.up_proj.weight`); an encoder's before its decoder's."""
        blocks: dict[tuple[str, str], dict[str, Shape]] = {}
        for name, shape in self.tensors.items():
            found = _BLOCK.fullmatch(name)
            if found:
                blocks.setdefault((found["prefix"], found["index"]), {})[found["name"]] = shape
        return tuple(blocks.values())

    @cached_property
    def outside(self) -> dict[str, Shape]:
        """Parameters that stand in no block: embeddings, last norm, a head of its own."""
        return {name: shape for name, shape in self.tensors.items() if not _BLOCK.fullmatch(name)}

    @cached_property
    def _shallower(self) -> dict[int, Architecture]:
        return {}

    def with_layers(self, count: int) -> Architecture:
        """The same model with its first `count` blocks (of encoder and decoder each); at most as many as it has. Made once."""
        if count not in self._shallower:
            self._shallower[count] = self._with_layers(count)
        return self._shallower[count]

    def _with_layers(self, count: int) -> Architecture:
        def kept(name: str) -> bool:
            found = _BLOCK.fullmatch(name)
            return found is None or int(found["index"]) < count

        tensors = {name: shape for name, shape in self.tensors.items() if kept(name)}
        windows = self.windows[:count]
        return replace(
            self,
            tensors=tensors,
            layers=min(count, self.layers),
            decoder_layers=min(count, self.decoder_layers),
            windows=windows if any(windows) else (),
        )


def architecture(config: Mapping[str, Any], tensors: Mapping[str, Shape] | None = None) -> Architecture | None:
    """The model that transformers makes from a configuration; None where neither table nor tensors tell.

    Args:
        config: `config.json`, or what a recipe writes in its place.
        tensors: name → shape of the stored weights. They are used for types that the table lacks.
    """
    family = FAMILIES.get(str(config.get("model_type")))
    try:
        return _of_family(config, family) if family else _of_tensors(config, tensors or {})
    except (TypeError, ValueError, ArithmeticError, LookupError):
        return None


def _of_family(config: Mapping[str, Any], family: Family) -> Architecture:
    sizes = read_sizes(config, family)
    tensors = named_shapes(config, family, sizes)
    return replace(
        _of_sizes(config, sizes, tensors),
        causal=family.causal,
        renamed=family.stored_otherwise,
        decoder_layers=sizes["C"] if any(place.startswith("decoder") for place in family.blocks) else 0,
        windows=read_windows(config, family, sizes["L"]),
    )


def _of_tensors(config: Mapping[str, Any], tensors: Mapping[str, Shape]) -> Architecture | None:
    """A type that the table lacks: its sizes by the keys that most configurations share, its parameters as stored."""
    text = config.get("text_config", config)
    if not tensors or config.get("quantization_config") or not isinstance(text, Mapping):
        return None
    sizes = read_sizes(text, Family({}, (), {}))
    return replace(_of_sizes(config, sizes, tensors), renamed=True, exact=False)


def _of_sizes(config: Mapping[str, Any], sizes: Mapping[str, int], tensors: Mapping[str, Shape]) -> Architecture:
    """What every type has."""
    return Architecture(
        kind=str(config.get("model_type")),
        hidden=sizes["H"],
        ffn=sizes.get("X", sizes["F"]) if "E" in sizes else sizes["F"],
        layers=sizes["L"],
        heads=sizes["N"],
        kv_heads=sizes["G"],
        head_dim=sizes["D"],
        vocabulary=sizes["V"],
        tied=not any(_HEADS.fullmatch(name) for name in tensors),
        tensors=tensors,
        experts=sizes.get("E", 0),
        experts_per_token=sizes.get("A", 0),
    )
