"""What is known of a model without its weights: `config.json` from a folder, the hub cache on disk, or the catalog."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from launcher.catalog.models import known_models
from launcher.errors import EnvironmentFault
from launcher.plan.hub_cache import headers_file, hub_cache, snapshot
from launcher.plan.model_files import COPY_AGAIN, Weights, read_weights
from launcher.predict.architecture import Architecture, architecture
from launcher.predict.families import FAMILIES
from launcher.predict.sizes import Shape
from launcher.runs.files import read_json
from launcher.text import quote


@dataclass(frozen=True)
class ModelFacts:
    """A model's configuration and where it was found.

    `path` is set for a local folder only, `weights` where they, or their headers, are on this machine; `beside` is the
    folder that the configuration was read from.
    """

    config: dict[str, Any]
    origin: str
    path: str | None = None
    weights: Weights | None = None
    beside: Path | None = None

    @cached_property
    def sizes(self) -> Architecture | None:
        """Every parameter with its shape; None where neither the type is in our table nor the weights tell."""
        return architecture(self.config, self._stored)

    @property
    def unsized(self) -> str:
        """Why there are no sizes, for people."""
        if self.architecture in FAMILIES:
            return f"the configuration of this `{self.architecture}` has a size that is missing or makes no model"
        kind = f"models of type `{self.architecture}`" if self.architecture else "a model without `model_type`"
        return f"sizes of {kind} are not known; `--trace` counts them on a small copy, where transformers knows it"

    @property
    def parameters(self) -> int | None:
        """Parameters, a tied output head counted once; None where they are not known."""
        return self.sizes.parameters if self.sizes else None

    @property
    def context_length(self) -> int | None:
        """Longest input the model was made for, in tokens."""
        length = self.config.get("max_position_embeddings", self.config.get("n_positions"))
        return length if isinstance(length, int) else None

    @property
    def tensors(self) -> Mapping[str, Shape]:
        """Name → shape of the weights as stored, or as they would be; empty where neither is known."""
        known = self.sizes.tensors if self.sizes and not self.sizes.renamed else {}
        return self._stored or known

    @property
    def _stored(self) -> dict[str, Shape]:
        return self.weights.tensors if self.weights and not self.weights.faults else {}

    @property
    def vocabulary(self) -> int | None:
        """Rows of the input embedding: token ids are below it."""
        text = self.config.get("text_config")
        size = self.config.get("vocab_size", text.get("vocab_size") if isinstance(text, dict) else None)
        return size if isinstance(size, int) else None

    @property
    def architecture(self) -> str | None:
        """The model type, by transformers' name."""
        return self.config.get("model_type")

    @property
    def quantized(self) -> str | None:
        """How the stored weights are quantized already (`bitsandbytes`, `gptq`, …)."""
        stored = self.config.get("quantization_config")
        return str(stored.get("quant_method", "bitsandbytes")) if isinstance(stored, dict) else None

    @property
    def in_8bit(self) -> bool:
        """Whether the weights are stored in bitsandbytes' 8 bits."""
        stored = self.config.get("quantization_config")
        return self.quantized == "bitsandbytes" and isinstance(stored, dict) and bool(stored.get("load_in_8bit"))


def from_folder(folder: Path) -> ModelFacts:
    """Facts of a model in a local folder.

    Raises:
        EnvironmentFault: no readable `config.json` there.
    """
    config = _read(folder / "config.json")
    return ModelFacts(config, "its folder", str(folder), read_weights(folder), folder)


def from_hub(name: str, revision: str, cache: Path | None = None) -> ModelFacts:
    """Facts of a hub model, from the hub's cache on disk or the catalog. Never asks the network.

    Args:
        name: the hub id.
        revision: branch, tag or commit.
        cache: the hub's cache, where it is not the environment's.

    Raises:
        EnvironmentFault: neither knows the model.
    """
    where = cache or hub_cache()
    folder = snapshot(where, "model", name, revision)
    if (folder / "config.json").is_file():
        weights = read_weights(folder)
        known = _headers(where, name, folder.name) if weights.faults else weights
        return ModelFacts(_read(folder / "config.json"), "the hub cache", weights=known, beside=folder)
    if name in known_models():
        return ModelFacts(known_models()[name], "the catalog")
    raise EnvironmentFault(
        f"the config.json of `{name}` is not on this machine (no such folder, not in {where})",
        hint="`launcher fetch RECIPE --facts` on a machine with network brings it; a local folder works too",
    )


def _headers(cache: Path, name: str, commit: str) -> Weights | None:
    """What `launcher fetch --facts` noted of the weights."""
    noted = read_json(headers_file(cache, name, commit))
    tensors = {tensor: tuple(shape) for each in (noted or {}).values() for tensor, shape in each.items()}
    return Weights(tensors) if tensors else None


def _read(file: Path) -> dict[str, Any]:
    if file.exists() and not file.is_file():
        raise EnvironmentFault(f"{file} is not a file")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        hint = "a model folder is what `save_pretrained` wrote"
        if (file.parent / "adapter_config.json").exists():
            hint = "it holds an adapter: name it in `model.adapter_name_or_path`, and its base model here"
        raise EnvironmentFault(f"{file.parent} holds no config.json", hint=hint) from None
    except (OSError, ValueError) as fault:
        raise EnvironmentFault(f"{file} cannot be read: {fault}") from None
    if not isinstance(config, dict):
        raise EnvironmentFault(f"{file} holds {quote(json.dumps(config))}, not a configuration", hint=COPY_AGAIN)
    if not isinstance(kind := config.get("model_type"), str | None):
        raise EnvironmentFault(f"{file}: `model_type` is {quote(json.dumps(kind))}, not a name", hint=COPY_AGAIN)
    return config
