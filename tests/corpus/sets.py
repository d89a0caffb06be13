"""Sets of rows: too long, too few, twice, in both sets, in the wrong shares, changed between two starts."""

from __future__ import annotations

import json
from pathlib import Path

from launcher.cluster.load import load_cluster
from launcher.executors import pick
from launcher.runs.paths import RunDir
from tests.corpus.case import ROWS, Case, Plain, Prepared, Refused, Row, Writer, both, prepared_rows, recipe, rows
from tests.corpus.rows import DROP
from tests.support import tiny, trained

LENGTH = 48


def _long_question(row: Row) -> Row:
    asked = {"role": "user", "content": "Tell me more. " * 40 + row["messages"][0]["content"]}
    return {"messages": [asked, row["messages"][1]]}


def _long_answer(row: Row) -> Row:
    said = {"role": "assistant", "content": row["messages"][1]["content"] + " Because it is so." * 40}
    return {"messages": [row["messages"][0], said]}


def _three_megabytes(row: Row) -> Row:
    return {
        "messages": [
            row["messages"][0],
            {"role": "assistant", "content": "How many apples are left when she gives away half of them? " * 50_000},
        ]
    }


def _overlap(folder: Path) -> None:
    """Three of five held-out rows stand among the 40 that are trained on."""
    rows(number=40)(folder)
    tiny.jsonl(folder / "eval.jsonl", [*tiny.messages(40)[:3], *tiny.messages(45)[43:]])


def two_sources(first: str, second: str, *, other: int = ROWS, mixture: str = "") -> tuple[Writer, str]:
    """Two files with weights, the second of `other` rows."""
    text = recipe(
        source=f"path: train.jsonl{first}}}\n    - {{label: more, path: more.jsonl{second}",
        data=f"mixture: {{{mixture}}}\n" if mixture else "",
    )
    return both(rows(), lambda folder: tiny.jsonl(folder / "more.jsonl", tiny.messages(other, seed=3))), text


def mixture_by_hand(first: float, second: float) -> Plain:
    """The same two files, interleaved."""
    return Plain(mixture={"train.jsonl": first, "more.jsonl": second})


def _three_to_one(run: RunDir) -> None:
    """12 rows are three quarters of 16."""
    sources = json.loads(run.data_facts.read_text())["mixture"]["sources"]
    assert {label: (part["asked"], part["rows"]) for label, part in sources.items()} == {
        "train": (0.75, 12),
        "more": (0.25, 4),
    }


def _ended_by_the_small_one(run: RunDir) -> None:
    """2 rows may repeat 4 times (max_epochs), so that a pass is 8 rows of each source."""
    mixture = json.loads(run.data_facts.read_text())["mixture"]
    assert mixture["limited_by"] == "more"
    assert {label: (part["rows"], part["epochs"]) for label, part in mixture["sources"].items()} == {
        "train": (8, 0.666667),
        "more": (8, 4.0),
    }


def _each_row_once(run: RunDir) -> None:
    """13 rows and 3 fillers make 4 batches of 4: with two ranks, each rank has 8 rows, and no row is in both."""
    made = prepared_rows(run)
    filled = [tuple(ids) for ids, labels in made if any(label != -100 for label in labels)]
    assert len(made) == 16
    assert len(filled) == len(set(filled)) == 13


def _trains_without_its_file(run: RunDir) -> None:
    (run.root.parent.parent / "train.jsonl").unlink()
    assert pick.by_run(run, load_cluster("local", gpus="none"), ()).action == "continue"
    trained.train(run)


def _append(folder: Path) -> None:
    with (folder / "train.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"messages": [{"role": "user", "content": "3 plus 1?"}, {"role": "assistant", "content": "4"}]}\n')


CASES = (
    Case(
        "D11",
        "every question is as long as a row",
        Refused(("train.jsonl:1", "max_length"), hint="max_length: 469"),
        rows(_long_question, at=range(1, 13)),
        recipe(data=f"max_length: {LENGTH}\n"),
        plain=Plain(config={"max_length": LENGTH}),
    ),
    Case(
        "D12",
        "half of the questions are as long as a row",
        Refused(("train.jsonl:1", "max_length"), hint="max_length: 469"),
        rows(_long_question, at=range(1, 7)),
        recipe(data=f"max_length: {LENGTH}\n"),
        plain=Plain(config={"max_length": LENGTH}),
    ),
    Case(
        "D13",
        "7 of 8 questions are as long as a row, and bad rows are dropped",
        Refused(("train.jsonl:1", "max_bad_fraction")),
        rows(_long_question, at=range(1, 8), number=8),
        recipe(data=f"max_length: {LENGTH}\n{DROP}"),
        plain=Plain(config={"max_length": LENGTH}),
    ),
    Case(
        "D36",
        "one answer of 40 has 3 MB",
        Prepared(40, counts={"lost_end": 1, "cut": 1}),
        rows(_three_megabytes, number=40),
    ),
    Case(
        "D38",
        "every row is the same",
        Prepared(1, removed=11, counts={"duplicates": 11}, warned=("11 rows of `train`",)),
        rows(lambda _: tiny.messages(1)[0], at=range(1, 13)),
    ),
    Case("D41", "a single row", Prepared(1, warned=("1 row",)), rows(number=1)),
    Case(
        "D42",
        "fewer rows than a batch, and the last batch is dropped",
        Prepared(3, warned=("3 rows for a global batch of 16",)),
        rows(number=3),
        recipe().replace("global_batch_size: 4, max_steps: 2", "global_batch_size: 16, num_train_epochs: 1"),
        plain=Plain(
            config={
                "dataloader_drop_last": True,
                "per_device_train_batch_size": 16,
                "max_steps": -1,
                "num_train_epochs": 1,
            }
        ),
    ),
    Case(
        "D47",
        "the training file is the eval set",
        Refused(("recipe.yaml", "train.jsonl", "eval_datasets")),
        rows(),
        recipe(data="eval_datasets: [{label: held_out, path: train.jsonl}]\n"),
        variant="same",
        plain=Plain(eval_files="train.jsonl"),
    ),
    Case(
        "D47",
        "a copy of the training file is the eval set",
        Refused(("`train`", "`held_out`")),
        both(rows(), lambda folder: tiny.jsonl(folder / "eval.jsonl", tiny.messages(ROWS))),
        recipe(data="eval_datasets: [{label: held_out, path: eval.jsonl}]\n"),
        variant="copy",
        plain=Plain(eval_files="eval.jsonl"),
    ),
    Case(
        "D47",
        "3 of 5 held-out rows are trained on",
        Prepared(37, removed=3, counts={"contaminated": 3}, warned=("3 rows of `train`",)),
        _overlap,
        recipe(data="eval_datasets: [{label: held_out, path: eval.jsonl}]\n"),
        variant="overlap",
        plain=Plain(eval_files="eval.jsonl"),
    ),
    Case(
        "D48",
        "weights of 3 and 1",
        Prepared(16, check=_three_to_one),
        *two_sources(", weight: 3", ", weight: 1", mixture="unit: rows"),
        variant="sum",
        plain=Plain(mixture={"train.jsonl": 3.0, "more.jsonl": 1.0}),
    ),
    Case(
        "D48",
        "a negative weight",
        Refused(("recipe.yaml:5", "weight", "-1")),
        *two_sources(", weight: 2", ", weight: -1"),
        variant="negative",
        plain=mixture_by_hand(2.0, -1.0),
    ),
    Case(
        "D48",
        "a weight of 0",
        Refused(("recipe.yaml:5", "weight")),
        *two_sources(", weight: 2", ", weight: 0"),
        variant="zero",
        plain=mixture_by_hand(1.0, 0.0),
    ),
    Case(
        "D48",
        "a weight that is no number",
        Refused(("recipe.yaml:5", "weight")),
        *two_sources(", weight: 2", ", weight: .nan"),
        variant="nan",
        plain=mixture_by_hand(1.0, float("nan")),
    ),
    Case(
        "D48",
        "a source much smaller than its share",
        Prepared(16, check=_ended_by_the_small_one),
        *two_sources(", weight: 1", ", weight: 1", other=2, mixture="unit: rows, stopping_strategy: all_exhausted"),
        variant="small",
        plain=mixture_by_hand(0.5, 0.5),
    ),
    Case(
        "D49",
        "two ranks and one file of 13 rows",
        Prepared(13, check=_each_row_once),
        rows(number=13),
        recipe(rest="launch: {processes: 2}\n"),
        plain=Plain(streaming=True, ranks=2),
    ),
    Case(
        "D50",
        "the file has grown since it was prepared",
        Refused(("train.jsonl",)),
        rows(),
        then=_append,
        plain=Plain(then=_append),
    ),
    Case(
        "D51",
        "the file is gone once it was prepared",
        Prepared(ROWS, check=_trains_without_its_file),
        rows(),
        plain=Plain(then=lambda folder: (folder / "train.jsonl").unlink()),
    ),
    Case(
        "D60",
        "2 of 12 answers lose their end",
        Refused(("train.jsonl", "2 of 12"), hint="max_length"),
        rows(_long_answer, at=(3, 9)),
        plain=Plain(config={"max_length": 128}),
    ),
)
