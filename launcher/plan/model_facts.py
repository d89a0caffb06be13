"""What is known of a model without its weights: `config.json` from a folder, the hub cache on disk, or the catalog."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.catalog.models import known_models
from launcher.catalog.parameters import count_parameters
from launcher.errors import EnvironmentFault


@dataclass(frozen=True)
class ModelFacts:
    """A model's configuration and where it was found. `path` is set for a local folder only."""

    config: dict[str, Any]
    origin: str
    path: str | None = None

    @property
    def parameters(self) -> int | None:
        """Parameters by the layer shapes; None for a type the catalog has no formula for."""
        return count_parameters(self.config)

    @property
    def context_length(self) -> int | None:
        """Longest input the model was made for, in tokens."""
        length = self.config.get("max_position_embeddings", self.config.get("n_positions"))
        return length if isinstance(length, int) else None

    @property
    def architecture(self) -> str | None:
        """The model type, by transformers' name."""
        return self.config.get("model_type")

    @property
    def quantized(self) -> str | None:
        """How the stored weights are quantized already (`bitsandbytes`, `gptq`, …)."""
        stored = self.config.get("quantization_config")
        return str(stored.get("quant_method", "bitsandbytes")) if isinstance(stored, dict) else None


def from_folder(folder: Path) -> ModelFacts:
    """Facts of a model in a local folder.

    Raises:
        EnvironmentFault: no readable `config.json` there.
    """
    return ModelFacts(_read(folder / "config.json"), "its folder", str(folder))


def from_hub(name: str, revision: str) -> ModelFacts:
    """Facts of a hub model, from this machine's cache or the catalog. Never asks the network.

    Raises:
        EnvironmentFault: neither knows the model.
    """
    cached = cached_file(name, revision, "config.json")
    if cached is not None:
        return ModelFacts(_read(cached), "the hub cache")
    if name in known_models():
        return ModelFacts(known_models()[name], "the catalog")
    raise EnvironmentFault(
        f"the config.json of `{name}` is not on this machine (no such folder, not in {hub_cache()})",
        hint=f"`hf download {name}` on a machine with network fills the cache; a local folder works too",
    )


def hub_cache() -> Path:
    """The hub's cache on disk, where huggingface_hub puts it."""
    home = os.environ.get("HF_HOME") or "~/.cache/huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()


def cached_file(name: str, revision: str, file: str) -> Path | None:
    """A file of a cached hub repository, or None."""
    repository = hub_cache() / f"models--{name.replace('/', '--')}"
    reference = repository / "refs" / revision
    commit = reference.read_text(encoding="ascii").strip() if reference.is_file() else revision
    found = repository / "snapshots" / commit / file
    return found if found.is_file() else None


def _read(file: Path) -> dict[str, Any]:
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise EnvironmentFault(
            f"{file.parent} holds no config.json", hint="a model folder is what `save_pretrained` wrote"
        ) from None
    except (OSError, ValueError) as fault:
        raise EnvironmentFault(f"{file} cannot be read: {fault}") from None
    if not isinstance(config, dict):
        raise EnvironmentFault(f"{file} holds no configuration, but a {type(config).__name__}")
    return config
