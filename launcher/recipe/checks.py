"""Values that are each fine and together contradict one another, judged on the recipe alone.

What needs hardware, model or data facts is the plan's to judge.
"""

from __future__ import annotations

from collections.abc import Iterator

from launcher.recipe import checks_settings
from launcher.recipe.checks_adapter import adapter
from launcher.recipe.checks_training import evaluation, schedule
from launcher.recipe.contradiction import Contradiction
from launcher.recipe.data import Data, EvalSource, Source
from launcher.recipe.formats import FORMATS
from launcher.recipe.schema import Recipe
from launcher.text import nearest_of, quote

_RENDERING = frozenset(
    {"add_generation_prompt", "chat_template", "continue_final_message", "conversation", "max_length", "padding"}
    | {"return_assistant_tokens_mask", "return_dict", "return_tensors", "tokenize", "tools", "truncation"}
)
"""Arguments of `apply_chat_template` that say how to render, and not what a template's variables hold."""


def contradictions(recipe: Recipe) -> list[Contradiction]:
    """Every contradiction within a recipe."""
    return [
        *_model(recipe),
        *_quantization(recipe),
        *adapter(recipe),
        *_labels(recipe.data),
        *_template(recipe.data),
        *(
            fault
            for number, source in enumerate(recipe.data.datasets)
            for fault in _source(recipe.data, source, f"data.datasets.{number}")
        ),
        *(
            fault
            for number, source in enumerate(recipe.data.eval_datasets)
            for fault in _eval_source(recipe.data, source, number)
        ),
        *_weights(recipe.data),
        *schedule(recipe),
        *evaluation(recipe),
        *checks_settings.faults(recipe),
        *_launch(recipe),
    ]


def _model(recipe: Recipe) -> Iterator[Contradiction]:
    model = recipe.model
    if model.model_name_or_path is None and model.from_config is None:
        yield Contradiction("model", "names no model", "add `model_name_or_path`, a hub id or a folder")
    if model.model_name_or_path is not None and model.from_config is not None:
        yield Contradiction(
            "model.from_config",
            "a model to load and one to build",
            "keep one of `model_name_or_path` and `from_config`",
            ("model.model_name_or_path",),
        )
    if model.from_config is None:
        return
    if "model_type" not in model.from_config:
        yield Contradiction("model.from_config", "has no `model_type`", "add it, for example `model_type: qwen3`")
    if model.tokenizer_name_or_path is None:
        yield Contradiction(
            "model.from_config",
            "a model built from a configuration has no tokenizer",
            "add `tokenizer_name_or_path`, a hub id or a folder",
            ("model.tokenizer_name_or_path",),
        )


def _quantization(recipe: Recipe) -> Iterator[Contradiction]:
    chosen = recipe.quantization
    if chosen is None:
        return
    if recipe.peft is None and recipe.model.adapter_name_or_path is None:
        yield Contradiction(
            "quantization",
            "quantized weights cannot be trained, and there is no adapter",
            "add `peft: {r: 16}` (QLoRA), or remove `quantization`",
            ("peft", "model.adapter_name_or_path"),
        )
    if chosen.load_in_4bit and chosen.load_in_8bit:
        yield Contradiction(
            "quantization.load_in_8bit",
            "4 and 8 bits at once",
            "keep one of `load_in_4bit` and `load_in_8bit`",
            ("quantization.load_in_4bit",),
        )
    if not (chosen.load_in_4bit or chosen.load_in_8bit):
        yield Contradiction(
            "quantization", "chooses neither 4 nor 8 bits", "add `load_in_4bit: true`, or remove `quantization`"
        )
    if chosen.load_in_8bit and not chosen.load_in_4bit:
        for name in sorted(each for each in chosen.model_fields_set if each.startswith("bnb_4bit_")):
            yield Contradiction(
                f"quantization.{name}",
                "has no meaning with `load_in_8bit`",
                "remove it",
                ("quantization.load_in_8bit",),
            )


def _template(data: Data) -> Iterator[Contradiction]:
    for name in data.template_kwargs:
        if name in _RENDERING:
            yield Contradiction(
                f"data.template_kwargs.{name}",
                "is no variable of a template, and set for each use",
                f"remove it{'; write `model.chat_template_path`' if name == 'chat_template' else ''}",
            )


def _labels(data: Data) -> Iterator[Contradiction]:
    """Labels name folders, metrics and `--set` keys, so each stands once."""
    first: dict[str, str] = {}
    lists = (("data.datasets", data.datasets), ("data.eval_datasets", data.eval_datasets))
    for where, sources in lists:
        for number, source in enumerate(sources):
            key = f"{where}.{number}.label"
            if source.label in first:
                yield Contradiction(
                    key,
                    f"{quote(source.label)} is the label of two sources",
                    "give each its own",
                    (first[source.label],),
                )
            first.setdefault(source.label, key)
    for number, source in enumerate(data.datasets):
        if source.label == "all":
            yield Contradiction(
                f"data.datasets.{number}.label", "`all` means every source in `from`", "use another label"
            )


def _source(data: Data, source: Source, key: str) -> Iterator[Contradiction]:
    """Columns and trained tokens against the format."""
    formats = [FORMATS[source.format]] if source.format else list(FORMATS.values())
    known = tuple({column for each in formats for column in (*each.columns, *each.optional)})
    for name in source.columns:
        if name not in known:
            flipped = next((theirs for theirs, ours in source.columns.items() if ours in known), None)
            hint = f"columns: {', '.join(sorted(known))}"
            if flipped == name:
                hint = f"write `columns: {{{source.columns[name]}: {name}}}`: the format's column first"
            what = (
                f"`{source.format}` has no column {quote(name)}"
                if source.format
                else f"no format has a column {quote(name)}"
            )
            yield Contradiction(f"{key}.columns.{name}", what, nearest_of(name, known, hint), (f"{key}.format",))
    if source.format and data.loss_on != "auto" and data.loss_on not in FORMATS[source.format].allowed_loss_on:
        allowed = ", ".join(FORMATS[source.format].allowed_loss_on)
        yield Contradiction(
            "data.loss_on",
            f"`{data.loss_on}` is not possible for {quote(source.label)}, whose format is `{source.format}`",
            f"write `loss_on: auto`; `{source.format}` allows {allowed}",
            (f"{key}.format",),
        )


def _eval_source(data: Data, source: EvalSource, number: int) -> Iterator[Contradiction]:
    key = f"data.eval_datasets.{number}"
    if source.from_ is None:
        yield from _source(data, source, key)
        if source.path is None:
            yield Contradiction(
                key, "has neither `path` nor `from`", "add `path: FILE`, or `from: all` and `fraction: 0.02`"
            )
        if source.fraction is not None:
            yield Contradiction(
                f"{key}.fraction", "without `from`", "add `from: all`, or a label of `data.datasets`", (f"{key}.from",)
            )
        return
    labels = ["all", *(each.label for each in data.datasets)]
    if source.from_ not in labels:
        listed = f"training sources: {', '.join(labels[1:])}; or all"
        yield Contradiction(
            f"{key}.from",
            f"no training source {quote(source.from_)}",
            nearest_of(source.from_, labels, listed),
            ("data.datasets",),
        )
    if source.fraction is None:
        yield Contradiction(
            f"{key}.from",
            "without `fraction`",
            "add `fraction: 0.02`, the share of rows to hold out",
            (f"{key}.fraction",),
        )
    for name in ("path", "name", "split", "data_files", "revision", "format", "columns"):
        if name in source.model_fields_set and getattr(source, name) is not None:
            yield Contradiction(
                f"{key}.{name}",
                "held-out rows are read with their training source",
                f"remove `{name}`, or remove `from` and `fraction`",
                (f"{key}.from",),
            )


def _weights(data: Data) -> Iterator[Contradiction]:
    given = [number for number, source in enumerate(data.datasets) if source.weight is not None]
    if given and data.mixture.temperature is not None:
        yield Contradiction(
            "data.mixture.temperature",
            "weights from sizes, and weights given",
            "keep one of `temperature` and `weight`",
            ("data.datasets",),
        )
    for number, source in enumerate(data.datasets):
        if given and source.weight is None:
            named = quote(data.datasets[given[0]].label)
            yield Contradiction(
                f"data.datasets.{number}.label",
                f"no `weight`, but {named} has one",
                "give every source a `weight`, or none",
                ("data.datasets",),
            )
    for label in ("all", *(source.label for source in data.datasets)):
        held = [(number, each) for number, each in enumerate(data.eval_datasets) if each.from_ in (label, "all")]
        total = sum(each.fraction or 0 for _, each in held)
        if total >= 1:
            yield Contradiction(
                f"data.eval_datasets.{held[-1][0]}.fraction",
                f"the held-out shares of {quote(label)} add up to {total:g}",
                "leave rows to train on: keep the sum below 1",
                ("data.eval_datasets",),
            )
            return


def _launch(recipe: Recipe) -> Iterator[Contradiction]:
    launch = recipe.launch
    if launch.gpus is not None:
        for name in ("nodes", "gpus_per_node", "processes"):
            if getattr(launch, name) is not None:
                yield Contradiction(
                    f"launch.{name}",
                    "beside `gpus`, which is the number of GPUs in all",
                    f"keep one of `gpus` and `{name}`",
                    ("launch.gpus",),
                )
    if launch.processes is not None and launch.gpus_per_node is not None:
        yield Contradiction(
            "launch.processes",
            "counts ranks on a machine without GPUs",
            "keep one of `processes` and `gpus_per_node`",
            ("launch.gpus_per_node",),
        )
