"""Attention implementations against hardware, model and data: what transformers or a kernel would refuse once it runs."""

from __future__ import annotations

from collections.abc import Iterator

from launcher.catalog.lacking import Ability, lacks
from launcher.cluster.schema import Cluster
from launcher.errors import RecipeError
from launcher.plan.facts import Facts
from launcher.plan.model_facts import ModelFacts
from launcher.recipe.load import LoadedRecipe
from launcher.recipe.model import HUB_KERNELS
from launcher.text import quote

_KEY = "model.attn_implementation"
_AUTO = "write `attn_implementation: auto`"
_FLASH = ("flash_attention_2", "flash_attention_3", "flash_attention_4", *HUB_KERNELS)
_HOPPER = ("flash_attention_4", "kernels-community/flash-attn4")
_IN_16_BITS = (*_FLASH, "sdpa_varlen")
_ON_GPUS = (*_IN_16_BITS, "flex_attention")
_WITHOUT_DROPOUT = tuple(
    name for name in _ON_GPUS if name not in ("flash_attention_2", "kernels-community/flash-attn2")
)
_DROPOUTS = ("attention_dropout", "attn_pdrop", "attn_dropout")
"""Names under which configurations keep it."""


def ability(implementation: str) -> Ability | None:
    """What a model must support for it; eager needs nothing."""
    if implementation in _FLASH:
        return "flash"
    if implementation == "flex_attention":
        return "flex"
    return "sdpa" if implementation.startswith("sdpa") else None


def faults(loaded: LoadedRecipe, cluster: Cluster, facts: Facts) -> Iterator[RecipeError]:
    """Why the implementation that is written cannot train this model here."""
    name, kind = loaded.recipe.model.attn_implementation, facts.model.architecture
    gpu, needed = cluster.gpu, ability(name)
    if gpu is None and name in _ON_GPUS:
        yield loaded.error(f"`{name}` has no backward pass on a CPU", key=_KEY, hint=f"{_AUTO} (sdpa)")
        return
    if gpu is not None and not gpu.bf16 and name in _IN_16_BITS:
        message = f"`{name}` needs a GPU of compute capability 8.0 or more; {gpu.name} is older"
        yield loaded.error(message, key=_KEY, hint=f"{_AUTO} (sdpa)")
    elif gpu is not None and name in _HOPPER and gpu.capability is not None and gpu.capability < 9:
        message = f"`{name}` needs a GPU of compute capability 9.0 or more; {gpu.name} has {gpu.capability:.1f}"
        yield loaded.error(message, key=_KEY, hint="write `attn_implementation: flash_attention_2`, or auto (sdpa)")
    if name in _IN_16_BITS and loaded.recipe.model.dtype == "float32":
        message = f"`{name}` computes in 16 bits, and `dtype: float32` asks for 32"
        yield loaded.error(message, key=_KEY, hint="write `dtype: auto`, or `attn_implementation: sdpa`")
    if needed is not None and lacks(kind, needed):
        message = f"transformers has no `{name}` for models of type {quote(str(kind))}"
        yield loaded.error(message, key=_KEY, hint=_AUTO)
    if name in _WITHOUT_DROPOUT and _dropout(facts.model) > 0:
        rate = _dropout(facts.model)
        message = f"`{name}` has no dropout, and the model's configuration asks for {rate:g}"
        yield loaded.error(message, key=_KEY, hint="write `attn_implementation: sdpa`")


def warnings(loaded: LoadedRecipe) -> Iterator[str]:
    """What runs with it, but needs something where it runs, or costs more than one may expect."""
    name, packed = loaded.recipe.model.attn_implementation, loaded.recipe.data.packing
    if name in HUB_KERNELS:
        yield f"{_KEY} {name} needs the package `kernels` where the run takes place, and the kernel in its hub cache"
    elif name in _FLASH:
        yield f"{_KEY} {name} needs its own package, or `kernels`, where the run takes place"
    if name == "flex_attention":
        yield f"{_KEY} {name} is compiled in the first step, and has not been tried here"
    if name == "sdpa_varlen":
        yield f"{_KEY} {name} has not been measured on a GPU yet: `pytest tests/gpu` compares it there"
    if name == "eager" and packed:
        yield f"{_KEY} eager keeps a score for each pair of tokens of a packed row; sdpa gives the same with less memory"
    if name == "sdpa_documents" and (loaded.recipe.training.model_extra or {}).get("torch_compile"):
        yield f"{_KEY} {name} takes rows apart by their lengths, at which torch.compile stops and starts anew"


def _dropout(model: ModelFacts) -> float:
    rates = (model.config.get(name) for name in _DROPOUTS)
    return max((float(rate) for rate in rates if isinstance(rate, int | float)), default=0.0)
