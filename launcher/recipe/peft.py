"""The `peft:` section."""

from typing import Annotated, Literal

from pydantic import Field

from launcher.recipe.section import Section

Start = Literal["gaussian", "orthogonal", "mica", "olora", "pissa", "eva", "corda", "loftq", "lora_ga"]
"""peft's names for how A and B start, but `pissa_niter_N`, which holds a number."""


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

    layers_to_transform: tuple[Annotated[int, Field(ge=0)], ...] = ()
    """Numbers of the blocks that get an adapter, from 0; left out, all do. Needs `target_modules` as a list."""

    rank_pattern: dict[str, Annotated[int, Field(ge=1, le=4096)]] = Field(default_factory=dict)
    """Layer name (or a regular expression for the end of one) → its own rank instead of `r`."""

    alpha_pattern: dict[str, Annotated[float, Field(gt=0, le=65536)]] = Field(default_factory=dict)
    """Layer name (or a regular expression for the end of one) → its own `lora_alpha`."""

    modules_to_save: tuple[str, ...] = ()
    """Layers trained in full beside the adapter and saved with it."""

    bias: Literal["none", "all", "lora_only"] = "none"
    """Which bias vectors are trained."""

    use_rslora: bool = False
    """Divide by the square root of the rank instead of the rank, so that high ranks keep learning (Kalajdzievski, 2023)."""

    use_dora: bool = False
    """Train magnitude and direction apart (DoRA: Liu et al., 2024); slower and larger per step."""

    init_lora_weights: bool | Start | str = True
    """How A and B start: `true` is peft's default (B = 0), else one of peft's names; `pissa_niter_N` is `pissa` by N iterations. docs/adapters.md has the table."""
