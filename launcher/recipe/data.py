"""The `data:` section."""

from typing import Any, Literal

from pydantic import Field

from launcher.recipe.formats import FormatName
from launcher.recipe.patterns import LABEL
from launcher.recipe.section import Section


class Source(Section):
    """Where rows come from. `path`, `name`, `split`, `data_files` and `revision` mean what they mean to `datasets.load_dataset`."""

    label: str = Field(pattern=LABEL)
    """Name of this source in tables, metrics and `--set data.datasets.LABEL.…`."""

    path: str | None = None
    """A file, a glob or a folder beside the recipe (jsonl, json, csv, tsv, txt, parquet, arrow; also .gz and .zst), a URL that fsspec opens (`s3://…`), or a hub id."""

    name: str | None = None
    """Subset (configuration) of a hub dataset."""

    split: str = "train"
    """Split of a hub dataset. Local files have one split."""

    data_files: str | tuple[str, ...] | None = None
    """Files within a hub dataset or folder to read instead of all."""

    revision: str | None = None
    """Branch, tag or commit of a hub dataset."""

    format: FormatName | None = None
    """How a row is laid out; sniffed from the columns when left out."""

    columns: dict[str, str] = Field(default_factory=dict)
    """The format's column name → the file's column name, where they differ (`{prompt: question, completion: answer}`)."""

    min_tokens: int | None = Field(None, ge=1, le=1_000_000_000)
    """Leave out rows shorter than this, in tokens; counted, not an error."""

    max_tokens: int | None = Field(None, ge=1, le=1_000_000_000)
    """Leave out rows longer than this, in tokens; counted, not an error. Without it long rows are cut at `data.max_length`."""


class TrainSource(Source):
    """A training source and its place in the mixture."""

    path: str
    """A file, a glob or a folder beside the recipe (jsonl, json, csv, tsv, txt, parquet, arrow; also .gz and .zst), a URL that fsspec opens (`s3://…`), or a hub id."""

    weight: float | None = Field(None, gt=0, le=1_000_000_000)
    """Share of this source in the mixture, relative to the other weights."""

    max_epochs: float = Field(4.0, gt=0, le=10_000)
    """How often this source may repeat within one pass over the mixture; the pass ends there, whatever the stopping strategy. 4: repeating more teaches little (Muennighoff et al., 2023)."""

    max_rows: int | None = Field(None, ge=1, le=1_000_000_000_000)
    """Read at most this many rows."""


class EvalSource(Source):
    """An evaluation set: its own file, or a part held out from training."""

    from_: str | None = Field(None, alias="from")
    """Hold out rows of this training source (`all`: of every source) instead of reading a file."""

    fraction: float | None = Field(None, gt=0, lt=1)
    """Share of rows held out, chosen by `mixture.seed`."""

    group_by: str | None = None
    """Column of the file whose value keeps rows together: all rows of one value are held out, or none (a user, a document)."""

    max_rows: int | None = Field(None, ge=1, le=1_000_000_000_000)
    """Use at most this many rows."""


class Mixture(Section):
    """How training sources are mixed."""

    unit: Literal["tokens", "rows"] = "tokens"
    """What `weight` counts."""

    temperature: float | None = Field(None, gt=0, le=1000)
    """Weights from sizes instead: size to the power 1/temperature."""

    stopping_strategy: Literal["first_exhausted", "all_exhausted", "all_exhausted_without_replacement"] = (
        "first_exhausted"
    )
    """When one pass over the mixture ends; the names are those of `datasets.interleave_datasets`."""

    seed: int = Field(42, ge=0, lt=2**32)
    """Seed of mixture and splits. Initialisation, dropout and row order come from `training.seed`."""


class Data(Section):
    """What the model is trained and measured on."""

    datasets: tuple[TrainSource, ...] = Field(min_length=1)
    """Training sources."""

    eval_datasets: tuple[EvalSource, ...] = ()
    """Evaluation sets; each gives `eval_LABEL_loss`."""

    mixture: Mixture = Mixture()
    """How the sources are mixed."""

    max_length: int = Field(4096, ge=2, le=10_000_000)
    """Longest row in tokens, and the length of a packed row. Longer rows are cut at the end."""

    packing: bool = False
    """Fill rows of `max_length` tokens with several examples; attention stays within each example."""

    packing_strategy: Literal["bfd", "bfd_split", "wrapped"] = "bfd"
    """How examples are placed: `bfd` cuts off what is longer than a row, `bfd_split` splits it, `wrapped` fills each row to the last token and cuts anywhere."""

    loss_on: Literal["auto", "assistant", "completion", "all"] = "auto"
    """Tokens that are trained. `auto`: assistant turns for `messages`, the completion for `prompt_completion`, all for `text`."""

    on_bad_row: Literal["stop", "drop"] = "stop"
    """What happens to a row that cannot be used: stop, or drop it, counted and listed in `bad_rows.jsonl`."""

    max_bad_fraction: float = Field(0.01, ge=0, le=1)
    """With `on_bad_row: drop`, stop when more than this share of a source is bad."""

    max_cut_fraction: float = Field(0.05, ge=0, le=1)
    """Stop when more than this share of a source's rows would lose the end of their answer to `max_length`: the model would not learn to stop. Running text may be cut."""

    deduplicate: Literal["exact", "near", "none"] = "exact"
    """Remove training rows whose tokens equal those of an earlier row; `near` also removes almost equal ones (MinHash; up to 500,000 rows, 3.5 KiB of memory and a millisecond each)."""

    decontaminate: bool = True
    """Remove training rows that share half of an eval row, or of its prompt, in runs of 10 tokens. Removed rows are listed in `removed_rows.jsonl`."""

    num_proc: int | None = Field(None, ge=1, le=1024)
    """Processes that prepare the data. Left out: one for each core."""

    template_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Variables passed to the chat template (for example `enable_thinking`)."""
