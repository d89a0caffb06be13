"""The smaller sections around training: sharding, checkpoints, tracking, launch, export, sweep."""

from typing import Any, Literal

from pydantic import Field

from launcher.recipe.patterns import ACCOUNT, PROJECT, REPOSITORY, TIME_LIMIT
from launcher.recipe.section import Section


class Sharding(Section):
    """How model, gradients and optimizer are spread over the ranks."""

    strategy: Literal["auto", "ddp", "fsdp2", "zero1", "zero2", "zero3"] = "auto"
    """`ddp` keeps a copy on each rank; the others share it out (`accelerate_configs/`). `auto`: the fastest that fits."""

    offload: Literal["auto", "none", "optimizer", "params"] = "auto"
    """Keep this part in host memory. `optimizer`: its state (zero1, zero2, zero3). `params`: weights too (zero3, fsdp2).
    `auto`: nothing, unless nothing else fits."""

    dp_shard_size: int | None = Field(None, ge=2, le=100_000)
    """Ranks that share one copy of the model under `fsdp2` (hybrid sharding: groups of that many, each with a whole copy).
    Default: all ranks share one. The GPUs of a node is the size that keeps the traffic inside it."""

    preset: str | None = None
    """An accelerate or DeepSpeed file of your own, read like a shipped preset."""


class Checkpoint(Section):
    """When the run is saved and what is kept."""

    save_steps: int = Field(200, ge=1, le=100_000_000)
    """Optimizer steps between two checkpoints. The last step is always saved."""

    save_total_limit: int = Field(3, ge=1, le=100_000)
    """Newest complete checkpoints to keep."""

    keep_best: str | None = None
    """Also keep the checkpoint with the lowest value of this metric (`eval_LABEL_loss`)."""

    keep_every: int | None = Field(None, ge=1, le=100_000_000)
    """Also keep, for good, each checkpoint whose step this divides; a multiple of `save_steps` to have an effect."""


class Tracking(Section):
    """Experiment trackers, through transformers' own integrations. A tracker that is down never stops a run."""

    report_to: tuple[Literal["tensorboard", "wandb", "mlflow", "trackio"], ...] = ()
    """Trackers to report to; each needs its package."""

    project: str | None = Field(None, pattern=PROJECT)
    """Project (experiment, for MLflow) the run appears under; default: `launcher`."""

    entity: str | None = Field(None, pattern=ACCOUNT)
    """W&B user or team."""

    tags: tuple[str, ...] = ()
    """Tags shown beside the run."""


class Sweep(Section):
    """A search over recipe keys."""

    trials: int = Field(16, ge=1, le=10_000)
    """Runs to start in all."""

    sampler: Literal["tpe", "random", "grid"] = "tpe"
    """How the next trial is chosen."""

    pruner: Literal["none", "median"] = "none"
    """When an unpromising trial is stopped early."""

    metric: str
    """Metric to lower."""

    space: dict[str, Any] = Field(min_length=1)
    """Recipe key → list of values, or `{log: [low, high]}`, `{uniform: [low, high]}`."""


class Launch(Section):
    """How much hardware, for how long."""

    gpus: int | None = Field(None, ge=1, le=100_000)
    """GPUs in all. Default: all that are visible, on one node."""

    nodes: int | None = Field(None, ge=1, le=10_000)
    """Nodes; with `gpus_per_node` instead of `gpus`."""

    gpus_per_node: int | None = Field(None, ge=1, le=64)
    """GPUs on each node; with `nodes` instead of `gpus`."""

    processes: int | None = Field(None, ge=1, le=64)
    """Ranks on a machine without GPUs; default 1."""

    time_limit: str | None = Field(None, pattern=TIME_LIMIT)
    """Longest time of one job, `HH:MM:SS` or `D-HH:MM:SS`; on this machine, of one `launcher run`. It saves and leaves in
    time, and the same command goes on. Default: none, or what the partition allows."""

    max_requeues: int = Field(10, ge=0, le=1000)
    """How often a run may start again by itself: after a fault of the machine anywhere, after preemption on a cluster."""

    probe: bool = False
    """Before training, try three steps of the longest rows on the device, in some minutes; what does not fit is halved (rows
    per device, with as much more accumulation: the same result) until it does. On this machine only, not on SLURM."""

    hang_limit_s: int | None = Field(None, ge=5, le=604_800)
    """Seconds a rank may stand still within a step before the run counts as hung; ten times that for saving and evaluating,
    thirty times until the second step. Default: a minute, or five times what 99 of 100 steps took, whichever is more."""


class PushToHub(Section):
    """Upload of the result to the hub."""

    repo: str = Field(pattern=REPOSITORY)
    """`organisation/name`."""

    private: bool = True
    """Keep the repository private."""


class Export(Section):
    """What is made of the result."""

    merge: bool = False
    """After training, also write RUN/merged: the adapter merged into the base, a plain model that needs no peft."""

    merge_base: Literal["auto", "quantized", "original"] = "auto"
    """What the adapter is merged into: the `original` base, or the `quantized` weights it was trained on, expanded. `auto`: what it was trained on."""

    push_to_hub: PushToHub | None = None
    """Upload to the hub; left out, nothing leaves this machine."""
