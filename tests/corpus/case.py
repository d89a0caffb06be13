"""One entry of the corpus of bad input: the files it writes, the recipe, and what must come of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launcher.runs.paths import RunDir
from tests.support import tiny

Row = dict[str, Any]
Writer = Callable[[Path], object]

ROWS, BAD = 12, 5
"""Rows of most files, and the line of the one that is spoilt."""


@dataclass(frozen=True)
class Refused:
    """Nothing is trained. The message holds each of `names`: the file or dataset, with the line where a row is at fault."""

    names: tuple[str, ...]
    code: int = 2
    hint: str = ""
    """What the hint must hold; any hint will do where nothing is said."""


@dataclass(frozen=True)
class Prepared:
    """Rows are ready to be trained; what was left out or is worth a word stands in the run directory."""

    rows: int
    """Training rows, without fillers."""
    warned: tuple[str, ...] = ()
    """Parts of the warnings in `data.json` or of the plan."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """Of the source `train`, in `data.json`: `lost_end`, `duplicates`, …"""
    bad: tuple[int, ...] = ()
    """Lines in `bad_rows.jsonl`."""
    removed: int = 0
    """Rows in `removed_rows.jsonl`."""
    check: Callable[[RunDir], None] | None = None
    """What else must hold of the run directory."""


@dataclass(frozen=True)
class Plain:
    """The same input by hand: arguments of `datasets.load_dataset` and `trl.SFTTrainer`."""

    files: Any = "train.jsonl"
    builder: str = "json"
    config: Mapping[str, Any] = field(default_factory=dict)
    """Fields of SFTConfig."""
    model: str = "model"
    tokenizer: str | None = None
    template: str | None = None
    """A file with the chat template."""
    peft: Mapping[str, Any] | None = None
    adapter: str | None = None
    four_bit: bool = False
    add_tokens: tuple[str, ...] = ()
    mixture: Mapping[str, float] | None = None
    """File → probability, for `datasets.interleave_datasets`."""
    eval_files: str | None = None
    streaming: bool = False
    ranks: int = 1
    then: Writer | None = None
    """What happens after one step and before the training is resumed."""
    untried: str = ""
    """Why this entry has no counterpart by hand."""


def recipe(*, model: str = "", source: str = "path: train.jsonl", data: str = "", rest: str = "") -> str:
    """A recipe over the tiny model of the folder: one source, two steps of four rows, 128 tokens unless `data` says otherwise."""
    settings = [*([] if "max_length" in data else ["max_length: 128"]), "num_proc: 1", *data.splitlines()]
    lines = [
        f"model: {{{', '.join(filter(None, ['model_name_or_path: ./model', model]))}}}",
        "data:",
        "  datasets:",
        f"    - {{label: train, {source}}}",
        *(f"  {each}" for each in settings),
        "training: {global_batch_size: 4, max_steps: 2}",
    ]
    return "\n".join(lines) + "\n" + rest


@dataclass(frozen=True)
class Case:
    """An input that is wrong, or looks wrong and is not."""

    id: str
    """Its number in the corpus: D01 … D60 for data, T01 … T20 for tokenizer and model."""
    title: str
    expect: Refused | Prepared
    write: Writer
    recipe: str = recipe()
    variant: str = ""
    plain: Plain = Plain()
    then: Writer | None = None
    """What happens to the folder after two steps were trained and before the same command is given again."""

    @property
    def name(self) -> str:
        """The id, with the variant where there are several."""
        return f"{self.id}-{self.variant}" if self.variant else self.id

    def make(self, folder: Path) -> None:
        """Write the model, the data and the recipe."""
        tiny.model(folder / "model")
        self.write(folder)
        (folder / "recipe.yaml").write_text(self.recipe, encoding="utf-8")


TEXT = Plain(config={"assistant_only_loss": False})
"""By hand for rows that are no conversations."""


def sums(number: int) -> list[dict[str, str]]:
    """Rows `{question, answer}` that are all different; those of one seed repeat after 50."""
    return [row for seed in range(-(-number // 50)) for row in tiny.words(min(50, number - 50 * seed), seed=seed)]


def conversations(number: int) -> list[Row]:
    """The rows of `sums` as conversations."""
    return [row for seed in range(-(-number // 50)) for row in tiny.messages(min(50, number - 50 * seed), seed=seed)]


def rows(change: Callable[[Row], Any] | None = None, *, number: int = ROWS, at: Iterable[int] = (BAD,)) -> Writer:
    """Writes conversations as `train.jsonl`, some of them (from 1) replaced by what `change` makes of them."""
    return lambda folder: tiny.jsonl(folder / "train.jsonl", _changed(conversations(number), change, at))


def texts(change: Callable[[Row], Any] | None = None, *, number: int = ROWS, at: Iterable[int] = (BAD,)) -> Writer:
    """Writes running text as `train.jsonl`, some rows replaced."""
    plain = [{"text": f"{row['question']} {row['answer']}"} for row in sums(number)]
    return lambda folder: tiny.jsonl(folder / "train.jsonl", _changed(plain, change, at))


def pairs(change: Callable[[Row], Any] | None = None, *, number: int = ROWS, at: Iterable[int] = (BAD,)) -> Writer:
    """Writes prompts and completions as `train.jsonl`, some rows replaced."""
    plain = [{"prompt": f"{row['question']} ", "completion": row["answer"]} for row in sums(number)]
    return lambda folder: tiny.jsonl(folder / "train.jsonl", _changed(plain, change, at))


def _changed(plain: list[Row], change: Callable[[Row], Any] | None, at: Iterable[int]) -> list[Row]:
    spoilt = set(at) if change else set()
    return [change(row) if change and number in spoilt else row for number, row in enumerate(plain, 1)]


def lines(change: Callable[[list[bytes]], Any], *, number: int = ROWS, name: str = "train.jsonl") -> Writer:
    """Writes running text as lines of JSON, then whatever `change` makes of the lines (without their newlines)."""

    def write(folder: Path) -> None:
        texts(number=number)(folder)
        made = change((folder / "train.jsonl").read_bytes().splitlines())
        content = made if isinstance(made, bytes) else b"".join(line + b"\n" for line in made)
        (folder / "train.jsonl").unlink()
        (folder / name).write_bytes(content)

    return write


def line(change: Callable[[bytes], bytes], **more: Any) -> Writer:
    """Like `lines`, for the one spoilt line."""
    return lines(lambda each: [change(text) if at == BAD else text for at, text in enumerate(each, 1)], **more)


def both(*writers: Writer) -> Writer:
    """One after the other."""
    return lambda folder: [write(folder) for write in writers]


def chat(*messages: tuple[str, Any]) -> Callable[[Row], Row]:
    """Replaces a row by a conversation of (role, content)."""
    return lambda _: {"messages": [{"role": role, "content": content} for role, content in messages]}


def answer(content: Any) -> Callable[[Row], Row]:
    """Replaces what the assistant says."""
    return lambda row: {"messages": [row["messages"][0], {"role": "assistant", "content": content}]}


def edit_json(path: Path, **changes: Any) -> None:
    """Change keys of a JSON file; None removes one."""
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}, indent=1))


def prepared_rows(run: RunDir, label: str = "train") -> list[tuple[list[int], list[int]]]:
    """Ids and labels of each prepared row, fillers included."""
    import pyarrow as pa

    folder = run.prepared(label)
    files = [each["filename"] for each in json.loads((folder / "state.json").read_text())["_data_files"]]
    found: list[tuple[list[int], list[int]]] = []
    for name in files:
        with pa.ipc.open_stream(folder / name) as reader:
            table = reader.read_all()
        found += zip(table["input_ids"].to_pylist(), table["labels"].to_pylist(), strict=True)
    return found
