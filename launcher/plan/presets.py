"""Sharding presets: `accelerate_configs/*.yaml`, read as `accelerate launch` reads them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import yaml

from launcher.errors import Place, RecipeError
from launcher.recipe.shipped import shipped
from launcher.text import did_you_mean

_TYPES = {"ddp": "MULTI_GPU"}
_ENVIRONMENT = {"enable_cpu_affinity": "ACCELERATE_CPU_AFFINITY", "debug": "ACCELERATE_DEBUG_MODE"}
# Decided by torchrun and the plan in our runs; they serve `accelerate launch` with the same file.
_FOR_ACCELERATE = frozenset(
    {
        "compute_environment",
        "gpu_ids",
        "machine_rank",
        "main_process_ip",
        "main_process_port",
        "main_training_function",
        "mixed_precision",
        "num_machines",
        "num_processes",
        "rdzv_backend",
        "same_network",
        "use_cpu",
    }
)
_KNOWN = frozenset({"distributed_type", *_ENVIRONMENT, *_FOR_ACCELERATE})


@dataclass(frozen=True)
class Preset:
    """What a preset decides: the strategy, and variables for every rank."""

    strategy: str
    environment: dict[str, str] = field(default_factory=dict)


def load_preset(strategy: str) -> Preset:
    """The shipped preset of a strategy.

    Raises:
        RecipeError: the file has been edited to something that is not read.
    """
    return read_preset(shipped("accelerate_configs") / f"{strategy}.yaml", strategy)


def read_preset(file: Path, strategy: str) -> Preset:
    """The preset in `file`, which must be one of `strategy`.

    Raises:
        RecipeError: not a mapping, an unknown key, or another strategy.
    """
    place = Place(str(file))
    try:
        values = yaml.load(file.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    except (OSError, yaml.YAMLError) as fault:
        raise RecipeError(f"the preset cannot be read: {fault}", place=place) from None
    if not isinstance(values, dict):
        raise RecipeError("the preset is no mapping", place=place)
    for key in values:
        if key not in _KNOWN:
            near = did_you_mean(str(key), _KNOWN)
            hint = f"did you mean `{near}`?" if near else f"read are: distributed_type, {', '.join(_ENVIRONMENT)}"
            raise RecipeError("this key of a preset is not read", key=str(key), place=place, hint=hint)
    kind = values.get("distributed_type")
    if kind != _TYPES[strategy]:
        raise RecipeError(
            f"`{kind}` is not the type of `{strategy}`",
            key="distributed_type",
            place=place,
            hint=f"write `distributed_type: {_TYPES[strategy]}`",
        )
    return Preset(strategy, {name: "1" for key, name in _ENVIRONMENT.items() if values.get(key) is True})
