"""The plan: everything decided before anything runs. Plain data, JSON round trip in `launcher.plan.codec`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from launcher.predict.prediction import Prediction

SCHEMA = 5
"""Version of plan.json; it rises when an older launcher would misread a newer plan."""

Method = Literal["full", "lora", "qlora", "int8"]
"""All weights, or an adapter: on a whole base, on one in 4 bits (QLoRA), on one in 8 bits (LLM.int8)."""
MergeBase = Literal["quantized", "original"]
LossOn = Literal["assistant", "completion", "all"]
Final = Literal["train", "job", "auto"]
"""Who measures the result: the ranks that trained, a job of its own, or the ranks if the time that is left allows, else the job."""


@dataclass(frozen=True)
class Decision:
    """One choice: the recipe key it belongs to, the chosen value, and the reason in one sentence."""

    key: str
    value: Any
    reason: str


@dataclass(frozen=True)
class ModelPlan:
    """How the model and tokenizer are loaded. `name` is what the recipe wrote; a local path stands in the placement under `model`."""

    name: str | None
    revision: str
    tokenizer: str | None
    adapter: str | None
    dtype: str
    attn_implementation: str
    trust_remote_code: bool
    chat_template: str | None
    """Text of the chat template file, when the recipe names one."""
    add_tokens: tuple[str, ...] = ()
    from_config: dict[str, Any] | None = None
    init_kwargs: dict[str, Any] = field(default_factory=dict)
    architecture: str | None = None
    parameters: int | None = None
    context_length: int | None = None
    vocabulary: int | None = None
    """Rows of the embedding: the number of token ids the model can take."""
    tokenizer_revision: str | None = None
    """Commit of a tokenizer that is not the model's, where a lock file says one."""
    adapter_revision: str | None = None
    """The same of the adapter."""


@dataclass(frozen=True)
class SourcePlan:
    """One data source. A local path stands in the placement under `data.LABEL`; `held_out_from` marks a split."""

    label: str
    path: str | None
    name: str | None = None
    split: str = "train"
    data_files: tuple[str, ...] | None = None
    revision: str | None = None
    format: str | None = None
    columns: dict[str, str] = field(default_factory=dict)
    max_rows: int | None = None
    min_tokens: int | None = None
    max_tokens: int | None = None
    weight: float | None = None
    max_epochs: float = 4.0
    """How often a training source may repeat within one pass over the mixture."""
    held_out_from: str | None = None
    fraction: float | None = None
    group_by: str | None = None
    hub_files: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Split → files of the hub's data set at `revision`, where a lock file says them."""


@dataclass(frozen=True)
class MixturePlan:
    """How sources are mixed; see `launcher.recipe.data.Mixture`."""

    unit: Literal["tokens", "rows"] = "tokens"
    temperature: float | None = None
    stopping_strategy: str = "first_exhausted"
    seed: int = 42


@dataclass(frozen=True)
class DataPlan:
    """What `prepare` does."""

    sources: tuple[SourcePlan, ...]
    eval_sources: tuple[SourcePlan, ...]
    max_length: int
    packing: bool
    packing_strategy: str
    loss_on: Literal["auto", "assistant", "completion", "all"]
    on_bad_row: str
    max_bad_fraction: float
    mixture: MixturePlan = MixturePlan()
    max_cut_fraction: float = 0.05
    deduplicate: Literal["exact", "near", "none"] = "exact"
    decontaminate: bool = True
    template_kwargs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Batch:
    """global_size = per_device × accumulation × world_size, in rows (packed rows, when packing) per optimizer step."""

    global_size: int
    per_device: int
    accumulation: int
    world_size: int


@dataclass(frozen=True)
class SourceEstimate:
    """One source in one pass over the mixture; `exact` when its rows were counted and not extrapolated. None: not known yet."""

    label: str
    rows: int | None
    """Rows in the source, held-out ones included."""
    exact: bool
    left: int | None = None
    """Rows that can be trained."""
    asked: float | None = None
    """Its share by weight or temperature; None also where every row is taken once."""
    epochs: float | None = None
    tokens: int | None = None
    """Tokens that it gives to the pass."""


@dataclass(frozen=True)
class Estimate:
    """Figures known only after `prepare`; `exact` tells which they are. Rows and tokens are those of one epoch."""

    rows: int | None
    tokens: int | None
    steps: int | None
    exact: bool
    sources: tuple[SourceEstimate, ...] = ()
    longest: int | None = None
    """Tokens of the longest row that is trained or measured, as it was cut. None: not counted."""
    lengths: tuple[tuple[int, float], ...] = ()
    """Tokens, ascending, and how often rows about so long are trained in an epoch; from a histogram. Empty: not counted."""


@dataclass(frozen=True)
class GeneratePlan:
    """One generated evaluation."""

    dataset: str
    metrics: tuple[str, ...]
    max_new_tokens: int
    max_rows: int | None
    batch_size: int


@dataclass(frozen=True)
class EvaluationPlan:
    """When and how the model is measured."""

    eval_steps: int | None
    per_device_batch_size: int
    generate: tuple[GeneratePlan, ...]
    generate_steps: int | None
    final: Final = "train"


@dataclass(frozen=True)
class CheckpointPlan:
    """When the run is saved and how many complete checkpoints stay."""

    save_steps: int
    keep: int
    keep_best: str | None
    keep_every: int | None = None
    """Steps between checkpoints that are kept for good."""


@dataclass(frozen=True)
class RestartPlan:
    """When a run that failed starts again by itself, and whether it is tried first."""

    max_requeues: int = 10
    on_oom: Literal["stop", "halve"] = "stop"
    probe: Literal["none", "first", "this"] = "none"
    """`first`: three steps are tried before the training; `this`: the plan is that of the try."""


@dataclass(frozen=True)
class TrackingPlan:
    """Trackers to report to."""

    report_to: tuple[str, ...]
    project: str
    entity: str | None
    tags: tuple[str, ...]


@dataclass(frozen=True)
class ExportPlan:
    """What becomes of the result. `base`: what the adapter is merged into, now or later; None without an adapter."""

    merge: bool = False
    base: MergeBase | None = None


@dataclass(frozen=True)
class Job:
    """One process group to start. Knows no scheduler.

    `argv` may hold the words `{python}` and `{run_dir}` as whole arguments; an executor replaces them.
    """

    stage: Literal["prepare", "train", "evaluate", "export"]
    argv: tuple[str, ...]
    env: dict[str, str]
    nodes: int
    processes: int
    time_limit_s: int | None = None
    """Seconds after which it must be over; it saves and leaves in time. None: no limit but its scheduler's."""
    depends_on: tuple[str, ...] = ()
    requeue: bool = False


@dataclass(frozen=True)
class Plan:
    """Every number and choice of one run. Holds no `auto` and no absolute path."""

    schema: int
    launcher_version: str
    name: str
    task: str
    method: Method
    device: Literal["cpu", "cuda"]
    hardware: str
    model: ModelPlan
    quantization: dict[str, Any] | None
    """Arguments of transformers' BitsAndBytesConfig."""
    peft: dict[str, Any] | None
    """Arguments of peft's LoraConfig."""
    data: DataPlan
    batch: Batch
    estimate: Estimate
    trainer: dict[str, Any]
    """Arguments of TRL's SFTConfig, all but `output_dir`, which is known when training starts."""
    strategy: str
    """`ddp`, `fsdp2`, `zero1`, `zero2` or `zero3`."""
    checkpoint: CheckpointPlan
    evaluation: EvaluationPlan
    tracking: TrackingPlan
    jobs: tuple[Job, ...]
    decisions: tuple[Decision, ...]
    warnings: tuple[str, ...]
    recipe: dict[str, Any]
    """The resolved recipe, for people and trackers; the worker does not read it."""
    identity: dict[str, Any]
    """Dotted key → value of what changes the mathematics; equal identities continue one another."""
    restart: RestartPlan = RestartPlan()
    offload: Literal["none", "optimizer", "params"] = "none"
    """What of the training state lies in host memory."""
    shard_group: int | None = None
    """Ranks that share one copy of the model under hybrid sharding; None: all that share anything."""
    export: ExportPlan = ExportPlan()
    hang_limit_s: int | None = None
    """Seconds a rank may stand still within a step; None: it follows what the steps take."""
    prediction: Prediction | None = None
    """Memory, time and verdict for the hardware of the plan, by what was free when it was made."""
    unpredicted: str | None = None
    """Why there is no prediction, in one sentence."""
