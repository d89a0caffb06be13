"""The `evaluation:` section."""

from typing import Literal

from pydantic import Field

from launcher.recipe.section import Section

MetricName = Literal["exact_match", "numeric_match", "chrf", "rouge_l"]


class Generate(Section):
    """Greedy generation on one eval set, scored by metrics, for the untuned and the tuned model."""

    dataset: str
    """Label of an eval set in `data.eval_datasets`."""

    metrics: tuple[MetricName, ...] = Field(("exact_match",), min_length=1)
    """Metrics by name; see `docs/metrics.md`."""

    max_new_tokens: int = Field(256, ge=1, le=100_000)
    """Longest answer in tokens."""

    max_rows: int | None = Field(None, ge=1, le=100_000_000)
    """Score only the first rows of the set."""

    batch_size: int = Field(16, ge=1, le=4096)
    """Prompts generated at once on each rank."""


class Harness(Section):
    """Tasks of lm-evaluation-harness."""

    tasks: tuple[str, ...] = Field(min_length=1)
    """Task names."""

    limit: int | None = Field(None, ge=1, le=100_000_000)
    """Examples per task."""

    when: Literal["end"] = "end"
    """When the tasks run."""


class EarlyStopping(Section):
    """Stop when a metric no longer improves."""

    metric: str
    """Metric to watch (`eval_LABEL_loss`)."""

    patience: int = Field(3, ge=1, le=1_000_000)
    """Evaluations without improvement before stopping."""


class Gate(Section):
    """A condition the tuned model must meet; else exit code 7 and nothing is promoted."""

    metric: str
    """Metric to judge (`eval_LABEL_METRIC`)."""

    min: float | None = None
    """Lowest accepted value."""

    max: float | None = None
    """Highest accepted value."""

    min_delta_vs_base: float | None = None
    """Lowest accepted difference to the untuned model."""


class Evaluation(Section):
    """How the model is measured. Evaluation never changes the training: the random state is saved and restored around it."""

    eval_steps: int | None = Field(None, ge=1, le=100_000_000)
    """Optimizer steps between two evaluations of the loss; left out, only before and after training."""

    per_device_eval_batch_size: int = Field(8, ge=1, le=4096)
    """Rows per forward pass when the loss is measured."""

    generate: tuple[Generate, ...] = ()
    """Sets on which answers are generated and scored, before and after training."""

    generate_steps: int | None = Field(None, ge=1, le=100_000_000)
    """Also generate and score every so many optimizer steps."""

    harness: Harness | None = None
    """lm-evaluation-harness tasks."""

    early_stopping: EarlyStopping | None = None
    """Stop when a metric no longer improves."""

    gates: tuple[Gate, ...] = ()
    """Conditions for the result."""
