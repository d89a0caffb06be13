"""The `peft:` section."""

from typing import Literal

from pydantic import Field

from launcher.recipe.section import Section


class Peft(Section):
    """Train low-rank adapters and leave the base model frozen (LoRA: Hu et al., 2021). Names are peft.LoraConfig's."""

    r: int = Field(16, ge=1, le=4096)
    """Rank of each update B·A. Trainable parameters and optimizer memory grow linearly in it."""

    lora_alpha: float = Field(32.0, gt=0, le=65536)
    """Scale: the update is multiplied by `lora_alpha / r` (`lora_alpha / sqrt(r)` with `use_rslora`)."""

    lora_dropout: float = Field(0.0, ge=0, lt=1)
    """Probability of zeroing an input of the adapter while training."""

    target_modules: tuple[str, ...] | str = "all-linear"
    """Layer names (a list, or a regular expression), or `all-linear`. Embeddings and the output head stay frozen either way."""

    exclude_modules: tuple[str, ...] = ()
    """Layer names that get no adapter although `target_modules` matches them."""

    modules_to_save: tuple[str, ...] = ()
    """Layers trained in full beside the adapter and saved with it."""

    bias: Literal["none", "all", "lora_only"] = "none"
    """Which bias vectors are trained."""

    use_rslora: bool = False
    """Divide by the square root of the rank instead of the rank, so that high ranks keep learning (Kalajdzievski, 2023)."""

    use_dora: bool = False
    """Train magnitude and direction apart (DoRA: Liu et al., 2024); slower and larger per step."""

    init_lora_weights: bool | str = True
    """How A and B start: `true` is peft's default (B = 0), else one of peft's names (`gaussian`, `pissa`, `olora`, …)."""
