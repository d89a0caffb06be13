"""Sharding presets: `accelerate_configs/*.yaml`, read as `accelerate launch` reads them, and files of one's own."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from launcher.errors import Place, RecipeError
from launcher.recipe.shipped import shipped
from launcher.text import did_you_mean, quote

Offload = Literal["none", "optimizer", "params"]
"""What of the training state lies in host memory."""

STRATEGIES = ("ddp", "fsdp2", "zero1", "zero2", "zero3")
"""Strategies with a shipped preset."""

_ENVIRONMENT = {"enable_cpu_affinity": "ACCELERATE_CPU_AFFINITY", "debug": "ACCELERATE_DEBUG_MODE"}
# Decided by torchrun and the plan in our runs; they serve `accelerate launch` with the same file.
_FOR_ACCELERATE = frozenset(
    {
        "compute_environment",
        "downcast_bf16",
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
        "tpu_env",
        "tpu_use_cluster",
        "tpu_use_sudo",
        "use_cpu",
    }
)
_SECTIONS = {"FSDP": "fsdp_config", "DEEPSPEED": "deepspeed_config"}
_TOP = frozenset({"distributed_type", *_ENVIRONMENT, *_FOR_ACCELERATE, *_SECTIONS.values()})
_SWITCHES = (
    *_ENVIRONMENT,
    "fsdp_activation_checkpointing",
    "fsdp_cpu_ram_efficient_loading",
    "fsdp_offload_params",
    "fsdp_reshard_after_forward",
    "zero3_init_flag",
    "zero3_save_16bit_model",
)
_WORDS: dict[str, tuple[Any, ...]] = {
    "fsdp_auto_wrap_policy": ("TRANSFORMER_BASED_WRAP", "SIZE_BASED_WRAP", "NO_WRAP"),
    # Checkpoints of the other kind are gathered on one rank, and read by as many ranks only.
    "fsdp_state_dict_type": ("SHARDED_STATE_DICT",),
    "fsdp_version": (2,),
    "offload_optimizer_device": ("none", "cpu"),
    "offload_param_device": ("none", "cpu"),
    "zero_stage": (1, 2, 3),
}
"""Values that are run."""
_FSDP = frozenset(
    {
        "fsdp_activation_checkpointing",
        "fsdp_auto_wrap_policy",
        "fsdp_cpu_ram_efficient_loading",
        "fsdp_min_num_params",
        "fsdp_offload_params",
        "fsdp_reshard_after_forward",
        "fsdp_state_dict_type",
        "fsdp_transformer_layer_cls_to_wrap",
        "fsdp_version",
    }
)
_ZERO = frozenset(
    {
        "deepspeed_config_file",
        "deepspeed_multinode_launcher",
        "gradient_accumulation_steps",
        "gradient_clipping",
        "offload_optimizer_device",
        "offload_param_device",
        "zero3_init_flag",
        "zero3_save_16bit_model",
        "zero_stage",
    }
)
_PLANS = (
    "activation_checkpointing",
    "bf16",
    "checkpoint",
    "fp16",
    "gradient_accumulation_steps",
    "gradient_clipping",
    "optimizer",
    "scheduler",
    "train_batch_size",
    "train_micro_batch_size_per_gpu",
)
"""Keys of DeepSpeed that the plan decides; `auto` says the same as leaving them out."""


@dataclass(frozen=True)
class Preset:
    """What a preset decides: the strategy, variables for every rank, and the strategy's own settings.

    `settings` holds keys of accelerate's `fsdp_config` (with their prefix), or a DeepSpeed configuration.
    """

    strategy: str
    environment: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def offload(self) -> Offload:
        """What the file itself moves to host memory: `none`, `optimizer` or `params`."""
        if self.settings.get("fsdp_offload_params"):
            return "params"
        zero = self.settings.get("zero_optimization", {})
        if zero.get("offload_param", {}).get("device", "none") != "none":
            return "params"
        return "none" if zero.get("offload_optimizer", {}).get("device", "none") == "none" else "optimizer"


def load_preset(strategy: str) -> Preset:
    """The shipped preset of a strategy.

    Raises:
        RecipeError: the file has been edited to something that is not read.
    """
    return read_preset(shipped("accelerate_configs") / f"{strategy}.yaml", strategy)


def read_preset(file: Path, strategy: str | None = None) -> Preset:
    """The preset in `file`: an accelerate configuration, or a DeepSpeed one.

    Args:
        file: the file.
        strategy: which it must be; None: the one it names.

    Raises:
        RecipeError: not a mapping, a key or a value that is not read, or another strategy.
    """
    opened = _open(file)
    preset = _of_deepspeed(opened) if "zero_optimization" in opened.values else _of_accelerate(opened)
    if strategy is not None and preset.strategy != strategy:
        hint = f"name `sharding.strategy: {preset.strategy}`, or leave one of the two out"
        raise opened.error(f"is a preset of `{preset.strategy}`, not of `{strategy}`", "distributed_type", hint)
    return preset


@dataclass(frozen=True)
class _Opened:
    """A file, its text and what it says."""

    path: Path
    text: str
    values: dict[str, Any]

    def error(self, message: str, key: str, hint: str | None = None) -> RecipeError:
        """An error at the line of a key, where the text has it."""
        found = re.search(rf"^.*?\b{re.escape(key)}\b", self.text, re.MULTILINE)
        line = None if found is None else self.text.count("\n", 0, found.end()) + 1
        return RecipeError(message, key=key, place=Place(str(self.path), line), hint=hint)

    def check(self, values: Mapping[str, Any], known: frozenset[str]) -> None:
        """Keys are known, and their values are run."""
        for key, value in values.items():
            if key not in known:
                near = did_you_mean(str(key), known)
                hint = f"did you mean `{near}`?" if near else f"read are: {', '.join(sorted(known - _FOR_ACCELERATE))}"
                raise self.error("this key of a preset is not read", str(key), hint)
            if key in _SWITCHES and not isinstance(value, bool):
                raise self.error(f"{quote(str(value))} is no switch", key, "write `true` or `false`, without quotes")
            if key in _WORDS and not any(
                value is each or (type(value), value) == (type(each), each) for each in _WORDS[key]
            ):
                written = "text " if isinstance(value, str) and not isinstance(_WORDS[key][0], str) else ""
                hint = f"write {' or '.join(f'`{each}`' for each in _WORDS[key])}"
                raise self.error(
                    f"{written}{quote(str(value))} is not run", key, hint + (", without quotes" if written else "")
                )


def _of_accelerate(file: _Opened) -> Preset:
    file.check(file.values, _TOP)
    environment = {name: "1" for key, name in _ENVIRONMENT.items() if file.values.get(key)}
    kind = file.values.get("distributed_type")
    for name, section in _SECTIONS.items():
        if section in file.values and kind != name:
            raise file.error(f"is read with `distributed_type: {name}` only", section)
    if kind == "MULTI_GPU":
        return Preset("ddp", environment)
    if kind not in _SECTIONS:
        hint = "write MULTI_GPU, FSDP (with fsdp_config) or DEEPSPEED (with deepspeed_config)"
        raise file.error(f"{quote(str(kind))} is no sharding", "distributed_type", hint)
    settings = file.values.get(_SECTIONS[kind])
    if not isinstance(settings, dict):
        raise file.error(f"needs the section `{_SECTIONS[kind]}`", "distributed_type", "copy it from a shipped preset")
    if kind == "FSDP":
        file.check({"fsdp_version": 1} | settings, _FSDP)
        return Preset("fsdp2", environment, settings)
    file.check(settings, _ZERO)
    named, zero = _inline(file, settings)
    return Preset(named, environment, zero)


def _inline(file: _Opened, settings: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Strategy and DeepSpeed configuration of a `deepspeed_config` section."""
    if "deepspeed_config_file" in settings:
        beside = sorted(set(settings) - {"deepspeed_config_file", "deepspeed_multinode_launcher", "zero3_init_flag"})
        if beside:
            raise file.error(
                "that file says it, as accelerate insists", beside[0], f"remove `{beside[0]}`, or the file"
            )
        name = settings["deepspeed_config_file"]
        inner = _open(file.path.parent / str(name))
        if "zero_optimization" not in inner.values:
            raise file.error(f"{inner.path} is no DeepSpeed configuration", "deepspeed_config_file", "name one")
        preset = _of_deepspeed(inner)
        return preset.strategy, preset.settings
    _left_to_the_plan(file, settings)
    if "zero_stage" not in settings:
        raise file.error("needs `zero_stage`", "deepspeed_config", "write 1, 2 or 3")
    zero: dict[str, Any] = {"stage": settings["zero_stage"]}
    for name in ("optimizer", "param"):
        if settings.get(f"offload_{name}_device", "none") != "none":
            zero[f"offload_{name}"] = {"device": "cpu"}
    if "zero3_save_16bit_model" in settings:
        zero["stage3_gather_16bit_weights_on_model_save"] = settings["zero3_save_16bit_model"]
    return f"zero{zero['stage']}", {"zero_optimization": zero}


def _of_deepspeed(file: _Opened) -> Preset:
    """A DeepSpeed file without what the plan decides. Its other keys go to DeepSpeed as they are."""
    zero = file.values["zero_optimization"]
    stage = zero.get("stage") if isinstance(zero, dict) else None
    if type(stage) is not int or stage not in (1, 2, 3):
        raise file.error(f"{quote(str(stage))} is no stage of ZeRO", "stage", "write 1, 2 or 3, without quotes")
    for name in ("offload_optimizer", "offload_param"):
        section = zero.get(name, {})
        if not isinstance(section, dict) or section.get("device", "none") not in ("none", "cpu"):
            raise file.error(f"{quote(str(section))} is not run", name, 'write `{"device": "cpu"}`')
    _left_to_the_plan(file, file.values)
    return Preset(f"zero{stage}", {}, {key: value for key, value in file.values.items() if key not in _PLANS})


def _left_to_the_plan(file: _Opened, values: Mapping[str, Any]) -> None:
    for key in _PLANS:
        value = values.get(key, "auto")
        inner = value.values() if isinstance(value, dict) else [value]
        if any(each != "auto" for each in inner):
            hint = "remove it, or write `auto`: the recipe's `training:` section decides it"
            raise file.error(f"{quote(str(value))} is not read", key, hint)


def _open(path: Path) -> _Opened:
    place = Place(str(path))
    try:
        text = path.read_text(encoding="utf-8")
        values = json.loads(text) if path.suffix == ".json" else yaml.load(text, Loader=yaml.CSafeLoader)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as fault:
        raise RecipeError(f"the preset cannot be read: {fault}", place=place) from None
    if not isinstance(values, dict):
        raise RecipeError("the preset is no mapping", place=place)
    return _Opened(path, text, values)
