"""The `training:` section: TRL's SFTConfig by its own names."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from launcher.recipe.section import Section

Auto = Literal["auto"]


class Training(Section):
    """The trainer's settings: TRL's SFTConfig, name for name. Keys not listed here are checked against the installed TRL's own (`trainer_schema.json`)."""

    model_config = ConfigDict(extra="allow")

    global_batch_size: int = Field(16, ge=1, le=1_000_000)
    """Rows (packed rows, when packing) per optimizer step over all ranks. The plan derives the next two from it."""

    on_oom: Literal["stop", "halve"] = "stop"
    """When training runs out of memory: `stop` says what to change; `halve` does it once by itself: half the rows per device, twice the accumulation, the same result."""

    per_device_train_batch_size: Annotated[int, Field(ge=1, le=100_000)] | Auto = "auto"
    """Rows per forward pass on one device. `auto`: on a GPU the fastest number that fits, on a CPU one."""

    gradient_accumulation_steps: Annotated[int, Field(ge=1, le=1_000_000)] | Auto = "auto"
    """Forward passes per optimizer step."""

    num_train_epochs: float = Field(3.0, gt=0, le=10_000)
    """Passes over the training data. Ignored when `max_steps` is set."""

    max_steps: int = Field(-1, ge=-1, le=100_000_000)
    """Stop after this many optimizer steps; -1: as many as `num_train_epochs` gives."""

    learning_rate: Annotated[float, Field(gt=0, le=1.0)] | Auto = "auto"
    """Peak learning rate. `auto`: 2e-4 with an adapter, 2e-5 for full fine-tuning."""

    lr_scheduler_type: str = "linear"
    """Shape of the learning-rate schedule, by transformers' names (`linear`, `cosine`, `constant_with_warmup`, …)."""

    warmup_steps: float = Field(0, ge=0, le=100_000_000)
    """Steps of rising learning rate; below 1, a share of all steps."""

    optim: str = "auto"
    """Optimizer, by transformers' names. `auto`: AdamW in one kernel; with all weights trained where nothing else fits, `paged_adamw_8bit`."""

    activation_checkpointing: bool | Auto = "auto"
    """Recompute activations in the backward pass instead of keeping them: less memory, about a third more compute. `auto`: only where it does not fit, or is not faster, without. `activation_checkpointing_kwargs` says how: `{every_n_layers: 2}`, `{selective: true}`, `{offload: true}`."""

    logging_steps: float = Field(1, gt=0, le=100_000_000)
    """Optimizer steps between two entries of loss and learning rate."""

    seed: int = Field(42, ge=0, lt=2**32)
    """Seed of initialisation, dropout and row order. Mixture and splits come from `data.mixture.seed`."""
