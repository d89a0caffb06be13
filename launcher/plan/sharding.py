"""How model, gradients and optimizer are spread over the ranks: arguments of the trainer and variables, from a preset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from launcher.plan.presets import Offload, Preset

ZERO = ("zero1", "zero2", "zero3")


@dataclass(frozen=True)
class Sharding:
    """The strategy with all that was chosen for it.

    `group` is the number of ranks that share one copy of the model under hybrid sharding; None: all of them.
    """

    preset: Preset
    offload: Offload
    group: int | None
    world_size: int
    device: str
    checkpointing: bool
    loads_once: bool
    """Rank 0's weights can be handed out to the others: nothing is made of them while they are loaded."""

    @property
    def strategy(self) -> str:
        """`ddp`, `fsdp2`, `zero1`, `zero2` or `zero3`."""
        return self.preset.strategy

    def trainer_args(self) -> dict[str, Any]:
        """Arguments of SFTConfig."""
        if self.strategy == "fsdp2":
            return {"fsdp": True, "fsdp_config": self._fsdp(), "activation_checkpointing": False}
        if self.strategy in ZERO:
            return {"deepspeed": self._deepspeed()}
        return {}

    def environment(self) -> dict[str, str]:
        """Variables of every rank, by the names that `accelerate launch` sets."""
        variables = dict(self.preset.environment) if self.world_size > 1 else {}
        if self.strategy == "fsdp2":
            variables["ACCELERATE_USE_FSDP"] = "true"
            if self.offload == "params":  # ranks then speak over gloo too, for what lies in host memory
                variables["FSDP_OFFLOAD_PARAMS"] = "true"
        if self.group is not None:
            variables["ACCELERATE_USE_PARALLELISM_CONFIG"] = "true"
            variables["PARALLELISM_CONFIG_DP_SHARD_SIZE"] = str(self.group)
            variables["PARALLELISM_CONFIG_DP_REPLICATE_SIZE"] = str(self.world_size // self.group)
        if self.strategy in ZERO and self.device == "cpu":
            variables["DS_ACCELERATOR"] = "cpu"
        return variables

    def _fsdp(self) -> dict[str, Any]:
        settings = self.preset.settings
        chosen = {key.removeprefix("fsdp_"): value for key, value in settings.items() if key not in _OTHER_NAMES}
        return chosen | {
            "cpu_offload": self.offload == "params",
            "activation_checkpointing": self.checkpointing or bool(settings.get("fsdp_activation_checkpointing")),
            "cpu_ram_efficient_loading": self.loads_once and bool(settings.get("fsdp_cpu_ram_efficient_loading")),
        }

    def _deepspeed(self) -> dict[str, Any]:
        own = dict(self.preset.settings)
        zero = dict(own.pop("zero_optimization"))
        for name in _MOVED[self.offload]:
            given = zero.get(f"offload_{name}", {})
            zero[f"offload_{name}"] = {"pin_memory": self.device == "cuda", **given, "device": "cpu"}
        return {
            "zero_optimization": zero,
            "train_batch_size": "auto",
            "train_micro_batch_size_per_gpu": "auto",
            "gradient_accumulation_steps": "auto",
            "gradient_clipping": "auto",
            "bf16": {"enabled": "auto"},
            "fp16": {"enabled": "auto"},
            # The recipe's optimizer is used as it is. DeepSpeed's own for host memory would be compiled when a run starts,
            # and a run that is killed meanwhile leaves a lock on which every later one waits.
            "zero_allow_untested_optimizer": True,
            "zero_force_ds_cpu_optimizer": False,
            "steps_per_print": 1_000_000_000,
            **own,
        }


_OTHER_NAMES = ("fsdp_offload_params", "fsdp_activation_checkpointing", "fsdp_cpu_ram_efficient_loading")
_MOVED: Mapping[str, tuple[str, ...]] = {
    "none": (),
    "optimizer": ("optimizer",),
    "params": ("optimizer", "param"),
}
