"""How many parameters an adapter trains, from the shapes of the layers that it stands beside."""

from __future__ import annotations

from math import prod

from launcher.predict.architecture import Architecture
from launcher.predict.setup import Adapter


def adapter_parameters(model: Architecture, adapter: Adapter) -> int:
    """Parameters that train with a LoRA adapter, as peft counts them.

    Beside a layer of in → out stand A, rank × in, and B, out × rank, for each expert where the layer holds several;
    DoRA adds one magnitude per row of out. Modules trained whole are copies of their own, the head too where it is tied
    to the embedding.

    Raises:
        KeyError: the model has no such layer.

    Source: Hu et al., 2021, arXiv:2106.09685, section 4.1; Liu et al., 2024, arXiv:2402.09353, section 4.
    """
    layers = {name: _layer(model, name) for name in adapter.ranks}
    low_rank = sum(rank * layers[name][0] * sum(layers[name][1:]) for name, rank in adapter.ranks.items())
    magnitudes = sum(out for _, out, _ in layers.values()) if adapter.dora else 0
    return low_rank + magnitudes + _whole(model, adapter) + _rows(model, adapter) + _biases(model, adapter)


def _layer(model: Architecture, name: str) -> tuple[int, int, int]:
    """(experts, out, in) of an adapted layer."""
    if name in model.linear:
        return (1, *model.linear[name])
    if name in model.expert_tensors:
        return model.expert_tensors[name]
    rows, columns = model.head if name == "lm_head" else model.tensors[f"{name}.weight"]
    return (1, rows, columns)


def _whole(model: Architecture, adapter: Adapter) -> int:
    inside = tuple(f"{name}." for name in adapter.whole)
    copies = sum(prod(shape) for name, shape in model.tensors.items() if name.startswith(inside))
    return copies + (prod(model.head) if "lm_head" in adapter.whole and model.tied else 0)


def _rows(model: Architecture, adapter: Adapter) -> int:
    """Rows of added tokens in the embedding, and in a head of its own; not where that is trained whole."""
    trained = {name.rpartition(".")[2] for name in adapter.whole}
    ends = {name.removesuffix(".weight").rpartition(".")[2] for name in list(model.embeddings)[:1]}
    ends |= set() if model.tied else {"lm_head"}
    return adapter.new_rows * model.hidden * len(ends - trained)


def _biases(model: Architecture, adapter: Adapter) -> int:
    biases = {name: prod(shape) for name, shape in model.tensors.items() if name.endswith(".bias")}
    if adapter.biases == "lora_only":
        return sum(biases.get(f"{name}.bias", 0) for name in adapter.ranks)
    return sum(biases.values()) if adapter.biases == "all" else 0
