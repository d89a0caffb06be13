"""What accelerate makes of a configuration file, as `accelerate launch` would hand it to the ranks."""

from __future__ import annotations

import os
from typing import Any

FSDP = (
    "fsdp_version", "reshard_after_forward", "state_dict_type", "activation_checkpointing", "cpu_ram_efficient_loading",
    "cpu_offload", "auto_wrap_policy", "transformer_cls_names_to_wrap", "min_num_params", "mixed_precision_policy",
)  # fmt: skip


def environment(config: str) -> dict[str, str]:
    """The variables that `accelerate launch --config_file CONFIG` sets for each rank."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env

    args = launch_command_parser().parse_args(["--config_file", config, "-m", "launcher.worker", "RUN"])
    args, defaults, from_config = _validate_launch_command(args)
    if args.use_deepspeed:
        fields = [*defaults.deepspeed_config, *(["mixed_precision"] if from_config else [])]
        args.deepspeed_fields_from_accelerate_config = ",".join(fields)  # as its `launch_command` does
        return dict(prepare_deepspeed_cmd_env(args)[1])
    return dict(prepare_multi_gpu_env(args))


def theirs(config: str, folder: str) -> dict[str, Any]:
    """Settings of the plug-in that accelerate makes in such an environment."""
    os.chdir(folder)
    os.environ.update(environment(config))
    os.environ["ACCELERATE_MIXED_PRECISION"] = "no"
    if os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true":
        from accelerate.utils import DeepSpeedPlugin

        return _deepspeed(DeepSpeedPlugin())
    from accelerate.parallelism_config import ParallelismConfig
    from accelerate.utils import FullyShardedDataParallelPlugin

    sizes = ParallelismConfig() if os.environ.get("ACCELERATE_USE_PARALLELISM_CONFIG") == "true" else None
    return _fsdp(FullyShardedDataParallelPlugin()) | {"mesh": _mesh(sizes)}


def ours(trainer: dict[str, Any], variables: dict[str, str], output: str) -> dict[str, Any]:
    """Settings of the plug-in that transformers makes of a plan's arguments."""
    from accelerate.parallelism_config import ParallelismConfig
    from accelerate.utils import FullyShardedDataParallelPlugin
    from trl import SFTConfig

    os.environ.update(variables)
    names = ("fsdp", "fsdp_config", "deepspeed")
    chosen = {name: trainer[name] for name in names if name in trainer}
    args = SFTConfig(output_dir=output, use_cpu=True, bf16=False, **chosen)
    if "deepspeed" in chosen:
        return _deepspeed(args.deepspeed_plugin)
    sizes = ParallelismConfig() if variables.get("ACCELERATE_USE_PARALLELISM_CONFIG") == "true" else None
    return _fsdp(FullyShardedDataParallelPlugin(**args.fsdp_plugin_args)) | {"mesh": _mesh(sizes)}


def _fsdp(plugin: Any) -> dict[str, Any]:
    return {name: _plain(getattr(plugin, name)) for name in FSDP}


def _mesh(sizes: Any) -> list[int] | None:
    return None if sizes is None else [sizes.dp_replicate_size, sizes.dp_shard_size]


def _plain(value: Any) -> Any:
    if hasattr(value, "func"):
        return value.func.__name__
    return getattr(value, "__name__", None) or str(value)


def _deepspeed(plugin: Any) -> dict[str, Any]:
    zero = plugin.deepspeed_config["zero_optimization"]
    return {
        "zero_stage": plugin.zero_stage,
        "zero3_init_flag": plugin.zero3_init_flag,
        "offload_optimizer": (zero.get("offload_optimizer") or {}).get("device", "none"),
        "offload_param": (zero.get("offload_param") or {}).get("device", "none"),
        "gather_on_save": bool(zero.get("stage3_gather_16bit_weights_on_model_save")),
    }
