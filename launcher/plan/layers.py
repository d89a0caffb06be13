"""The layers of a model by the names and shapes of its weights, and which of them an adapter can be for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cached_property

from launcher.plan.model_files import Adapter
from launcher.predict.sizes import Shape

_WEIGHT = ".weight"
_LORA = re.compile(r"base_model\.model\.(?P<layer>.+)\.lora_(?P<side>[AB])\.weight")


class Layers:
    """Modules of a model as peft sees them: dotted names, matched by their last parts."""

    def __init__(self, tensors: Mapping[str, Shape]) -> None:
        self.tensors = tensors

    @property
    def known(self) -> bool:
        """Whether there is anything to compare names with."""
        return bool(self.weights)

    @property
    def plain(self) -> bool:
        """Whether the tensors bear the names that the modules have; some types are renamed when they are loaded."""
        return "model.embed_tokens.weight" in self.tensors

    @cached_property
    def weights(self) -> dict[str, Shape]:
        """Module → shape of its weight matrix; the output head too, which is not stored where it is tied."""
        found = {
            name.removesuffix(_WEIGHT): shape
            for name, shape in self.tensors.items()
            if name.endswith(_WEIGHT) and len(shape) >= 2
        }
        return found | ({"lm_head": found["model.embed_tokens"]} if "model.embed_tokens" in found else {})

    @cached_property
    def linear(self) -> tuple[str, ...]:
        """Last names of the linear layers inside the blocks (`k_proj`, `q_proj`, …), sorted."""
        inside = (name for name in self.weights if re.search(r"\.\d+\.", name))
        return tuple(sorted({name.rpartition(".")[2] for name in inside}))

    @cached_property
    def modules(self) -> frozenset[str]:
        """Every module, those that hold others included."""
        return frozenset(self._modules())

    def _modules(self) -> Iterator[str]:
        yield "lm_head"
        for name in (name for name in self.tensors if f"{_WEIGHT}." not in name):  # what quantizers store beside one
            parts = name.split(".")[:-1]
            yield from (".".join(parts[:end]) for end in range(1, len(parts) + 1))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Last names of all modules but the numbers of blocks."""
        last = {name.rpartition(".")[2] for name in self.modules}
        return tuple(sorted(name for name in last if not name.isdigit()))

    @property
    def example(self) -> str:
        """A whole name."""
        return min((name for name in self.weights if re.search(r"\.\d+\.", name)), default="")

    def has(self, name: str) -> bool:
        """Whether `name` ends the name of a module."""
        return bool(self._ending(name))

    def unfit(self, name: str) -> str | None:
        """Why `name` is no target for an adapter, or None."""
        ending = self._ending(name)
        if not ending:
            return "names no layer of this model"
        wrong = [module for module in ending if module not in self.weights]
        return f"is no linear layer (`{min(wrong)}`)" if wrong else None

    def matched(self, pattern: str) -> list[str]:
        """Modules whose whole name the regular expression matches, as peft compares them."""
        compiled = re.compile(pattern)
        return sorted(name for name in self.modules if compiled.fullmatch(name))

    def _ending(self, name: str) -> list[str]:
        # Where tensors are renamed on loading, the folders of a name are not known, its last part is.
        wanted = name if self.plain else name.rpartition(".")[2]
        return [module for module in self.modules if module == wanted or module.endswith(f".{wanted}")]


def adapter_differences(adapter: Adapter, layers: Layers) -> list[str]:
    """Where a LoRA adapter's weights fit neither its own configuration nor the model, one sentence each."""
    sides: dict[str, dict[str, Shape]] = {}
    for name, shape in adapter.weights.tensors.items():
        found = _LORA.fullmatch(name)
        if found:
            sides.setdefault(found["layer"], {})[found["side"]] = shape
    return [*_against_config(adapter, sides), *_against_model(adapter, sides, layers)]


def _against_config(adapter: Adapter, sides: Mapping[str, Mapping[str, Shape]]) -> Iterator[str]:
    rank, targets = adapter.config.get("r"), adapter.config.get("target_modules")
    for layer, shapes in sides.items():
        if set(shapes) != {"A", "B"}:
            yield f"`{layer}` has only one of lora_A and lora_B"
        elif shapes["A"][0] != rank and not adapter.config.get("rank_pattern"):
            yield f"adapter_config.json has r {rank}, the weights of `{layer}` have rank {shapes['A'][0]}"
    for target in targets if isinstance(targets, list) else ():
        if not any(layer == target or layer.endswith(f".{target}") for layer in sides):
            yield f"adapter_config.json adapts `{target}`, adapter_model.safetensors has no weights for it"


def _against_model(adapter: Adapter, sides: Mapping[str, Mapping[str, Shape]], layers: Layers) -> Iterator[str]:
    if not layers.plain:
        return
    for layer, shapes in sides.items():
        base = layers.weights.get(layer)
        if base is None:
            yield f"it adapts `{layer}`, which the model has not"
        elif set(shapes) == {"A", "B"}:
            made_for = (shapes["B"][0], shapes["A"][-1])
            if made_for != (base[::-1] if adapter.config.get("fan_in_fan_out") else base):
                yield f"it adapts a `{layer}` of {made_for[0]}×{made_for[1]}, the model's is {'×'.join(map(str, base))}"
