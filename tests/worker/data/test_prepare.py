"""The stage `prepare`: formats of files, bad rows, splits, packing, fillers, and when it is skipped."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher.plan.types import GeneratePlan, Plan, SourcePlan
from launcher.runs.paths import RunDir
from tests.support import tiny, trained, warm

ROWS = tiny.words(10)


def run_of(tmp_path: Path, plan: Plan, **files: Path) -> RunDir:
    """A run directory over these source files, not prepared yet."""
    placement = {f"data.{label}": str(path) for label, path in files.items()}
    return tiny.run_dir(tmp_path / "run", plan, {"model": str(tiny.model(tmp_path / "model")), **placement})


def facts(run: RunDir) -> dict[str, Any]:
    return dict(json.loads(run.data_facts.read_text()))


def rows(run: RunDir, label: str = "train") -> dict[str, list[list[int]]]:
    return dict(warm.run("tests.support.cases:prepared", {"run_dir": str(run.root), "label": label}).value)


QUESTIONS = SourcePlan("train", "train", columns={"prompt": "question", "completion": "answer"})


def written(path: Path, values: list[dict[str, str]]) -> Path:
    """The same rows in the kind of file that the name asks for."""
    if path.suffix == ".jsonl":
        return tiny.jsonl(path, values)
    if path.suffix == ".json":
        path.write_text(json.dumps(values))
    elif path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["question", "answer"])
            writer.writeheader()
            writer.writerows(values)
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(values), path)
    return path


@pytest.mark.parametrize("name", ["train.jsonl", "train.json", "train.csv", "train.parquet"])
def test_the_same_rows_from_every_kind_of_file(tmp_path: Path, name: str):
    """A fingerprint of token ids and labels, so that no kind of file changes a row."""
    reference = run_of(tmp_path / "a", tiny.plan(source=QUESTIONS), train=written(tmp_path / "ref.jsonl", ROWS))
    run = run_of(tmp_path / "b", tiny.plan(source=QUESTIONS), train=written(tmp_path / name, ROWS))
    trained.prepare(reference)
    trained.prepare(run)

    assert facts(run)["sets"]["train"]["rows"] == 10
    assert facts(run)["sets"]["train"]["sha256"] == facts(reference)["sets"]["train"]["sha256"]


GOOD = json.dumps({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}]})
BAD = {
    "not json": ('{"messages": [', "is not JSON: Expecting value at character 15"),
    "array": ("[1, 2]", "is a JSON array, a row is an object such as {…}"),
    "no column": ('{"text": "x"}', "has no column `messages`"),
    "null": ('{"messages": null}', "column `messages` is null"),
    "a string": ('{"messages": "Hi"}', "`messages` is of type str, wanted a list of messages"),
    "empty": ('{"messages": []}', "`messages` is an empty list"),
    "no role": (
        '{"messages": [{"from": "human", "value": "Hi"}]}',
        "`messages[0]` has no `role` (it has: from, value)",
    ),
    "content": (
        '{"messages": [{"role": "user", "content": 5}]}',
        "`messages[0].content` is of type int, wanted a string",
    ),
    "no answer": ('{"messages": [{"role": "user", "content": "Hi"}]}', "has no assistant message"),
    "half a character": (
        '{"messages": [{"role": "user", "content": "\\ud83d"}, {"role": "assistant", "content": "Yes"}]}',
        "holds half of a surrogate pair",
    ),
    "a number without end": ('{"messages": ' + "9" * 5000 + "}", "holds a number of more than 4,300 digits"),
    "too deep": ('{"messages": ' + "[" * 5000 + "]" * 5000 + "}", "is nested deeper than 500 levels"),
    "tools": (GOOD[:-1] + ', "tools": 5}', "`tools` is of type int, wanted a list"),
    "too long": (
        json.dumps({"messages": [{"role": "user", "content": "a b " * 60}, {"role": "assistant", "content": "c"}]}),
        "has no trained token within max_length 64: the answer begins at token ",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_row_is_named_with_file_line_and_reason(tmp_path: Path, kind: str):
    """Nobody should have to search a file of a million rows."""
    line, reason = BAD[kind]
    (tmp_path / "train.jsonl").write_text(f"{GOOD}\n{line}\n{GOOD}\n")
    run = run_of(tmp_path, tiny.plan(), train=tmp_path / "train.jsonl")
    note = trained.prepare(run, code=2)

    assert note["cause"] == "data"
    assert note["error"].startswith(f"{tmp_path}/train.jsonl:2: {reason}")
    assert "on_bad_row: drop" in note["hint"]
    assert not run.data_facts.exists()


def test_bad_rows_are_dropped_counted_and_listed(tmp_path: Path):
    """Dropping is a choice, and never a silent one."""
    (tmp_path / "train.jsonl").write_text(f"{GOOD}\n{{}}\n{GOOD}\n[]\n")
    data = {"on_bad_row": "drop", "max_bad_fraction": 0.5}
    run = run_of(tmp_path, tiny.plan(data=data), train=tmp_path / "train.jsonl")
    trained.prepare(run)

    counted = facts(run)["sources"]["train"]
    assert (counted["read"], counted["bad"], counted["rows"], counted["duplicates"]) == (4, 2, 2, 1)
    listed = [json.loads(line) for line in run.bad_rows.read_text().splitlines()]
    assert [bad["place"] for bad in listed] == [f"{tmp_path}/train.jsonl:2", f"{tmp_path}/train.jsonl:4"]


def test_a_row_with_nothing_to_learn_is_not_trained(tmp_path: Path):
    """Its answer begins behind `max_length`; the other row is all that is left."""
    (tmp_path / "train.jsonl").write_text(f"{GOOD}\n{BAD['too long'][0]}\n")
    data = {"on_bad_row": "drop", "max_bad_fraction": 0.5}
    run = run_of(tmp_path, tiny.plan(data=data), train=tmp_path / "train.jsonl")
    trained.prepare(run)

    assert [facts(run)["sources"]["train"][name] for name in ("read", "rows", "bad")] == [2, 1, 1]
    assert facts(run)["sets"]["train"]["rows"] == 1


def test_rows_are_left_out_by_their_length(tmp_path: Path):
    """`min_tokens` and `max_tokens` count, and are no fault."""
    texts = [{"text": "Q" * length} for length in (1, 10, 20, 50)]
    source = SourcePlan("train", "train", min_tokens=5, max_tokens=30)
    run = run_of(tmp_path, tiny.plan(source=source), train=tiny.jsonl(tmp_path / "train.jsonl", texts))
    trained.prepare(run)
    counted = facts(run)["sources"]["train"]

    assert [counted[name] for name in ("rows", "too_short", "too_long", "bad")] == [2, 1, 1, 0]


def test_answers_that_lose_their_end_stop_the_run(tmp_path: Path):
    """One of ten is more than a twentieth; the length that would do is named."""
    rows_ = [{"prompt": "Q?", "completion": "Q" * (70 if i == 0 else 5)} for i in range(10)]
    run = run_of(tmp_path, tiny.plan(), train=tiny.jsonl(tmp_path / "train.jsonl", rows_))
    note = trained.prepare(run, code=2)

    assert note["error"].startswith(
        f"{tmp_path}/train.jsonl:1: max_length 64 cuts off the end of the answer in 1 of 10"
    )
    assert "`data.max_length: 73` or more" in note["hint"]


def test_too_many_bad_rows_stop_even_when_they_may_be_dropped(tmp_path: Path):
    (tmp_path / "train.jsonl").write_text(f"{GOOD}\n{{}}\n")
    data = {"on_bad_row": "drop", "max_bad_fraction": 0.4}
    note = trained.prepare(run_of(tmp_path, tiny.plan(data=data), train=tmp_path / "train.jsonl"), code=2)

    assert note["error"].endswith("50.0% of source `train` are bad, `max_bad_fraction` is 40.0%")


def test_rows_behind_many_bad_ones_are_read(tmp_path: Path):
    """Reading once ended at the thousandth bad row, and the rest of the source was lost without a word."""
    (tmp_path / "train.jsonl").write_text(f"{GOOD}\n" + "{}\n" * 1001 + f"{GOOD}\n")
    data = {"on_bad_row": "drop", "max_bad_fraction": 1.0}
    run = run_of(tmp_path, tiny.plan(data=data), train=tmp_path / "train.jsonl")
    trained.prepare(run)
    counted = facts(run)["sources"]["train"]

    assert (counted["rows"], counted["bad"]) == (2, 1001)


def test_a_source_of_bad_rows_only_is_refused_with_the_first_one(tmp_path: Path):
    (tmp_path / "train.jsonl").write_text("{}\n{}\n")
    data = {"on_bad_row": "drop", "max_bad_fraction": 1.0}
    note = trained.prepare(run_of(tmp_path, tiny.plan(data=data), train=tmp_path / "train.jsonl"), code=2)

    assert note["error"].startswith(f"{tmp_path}/train.jsonl:1 (source `train`): its first row has no columns")


BAD_TABLES = {
    "a name twice": ("text,text\na,b\n", "train.csv:1: the header names `text` twice"),
    "a cell too many": ("text\na\na,b\n", "train.csv:3: has 1 cell more than the header"),
    "not UTF-8": ("text\na\n" + "b" * 9000 + "\n\udce9\n", "train.csv:4: is not UTF-8 (byte 1)"),
}


@pytest.mark.parametrize("kind", BAD_TABLES)
def test_a_table_that_cannot_be_read_is_named_with_its_line(tmp_path: Path, kind: str):
    content, reason = BAD_TABLES[kind]
    (tmp_path / "train.csv").write_text(content, encoding="utf-8", errors="surrogateescape")
    note = trained.prepare(run_of(tmp_path, tiny.plan(), train=tmp_path / "train.csv"), code=2)

    assert note["error"].startswith(f"{tmp_path}/{reason}")


def test_a_table_with_an_index_column_and_a_long_cell_is_read(tmp_path: Path):
    """pandas writes a first column without a name; Python's csv stops at cells of 128 KiB unless told otherwise."""
    (tmp_path / "train.csv").write_text(f",text\n0,{'a ' * 100_000}\n1,b\n")
    run = run_of(tmp_path, tiny.plan(), train=tmp_path / "train.csv")
    trained.prepare(run)

    assert facts(run)["sets"]["train"]["rows"] == 2


def test_a_damaged_page_of_a_parquet_file_is_a_fault_of_the_data(tmp_path: Path):
    file = written(tmp_path / "train.parquet", ROWS)
    content = file.read_bytes()
    file.write_bytes(content[:8] + b"\xff" * 20 + content[28:])
    note = trained.prepare(run_of(tmp_path, tiny.plan(source=QUESTIONS), train=file), code=2)

    assert note["error"].startswith(f"{file}: cannot be read as parquet: ")


TEMPLATES = {
    "not Jinja": ("{% for m in messages %}", "model.chat_template_path:1: Unexpected end of template"),
    "a fault in it": ("{{ 1 / 0 }}", "the chat template refuses it: division by zero"),
}


@pytest.mark.parametrize("kind", TEMPLATES)
def test_a_chat_template_that_fails_is_a_fault_of_the_data(tmp_path: Path, kind: str):
    template, reason = TEMPLATES[kind]
    plan = tiny.plan(model_plan={"chat_template": template})
    note = trained.prepare(run_of(tmp_path, plan, train=tiny.jsonl(tmp_path / "train.jsonl", tiny.messages(4))), code=2)

    assert reason in note["error"]


def test_a_damaged_tokenizer_is_a_fault_of_the_environment(tmp_path: Path):
    run = run_of(tmp_path, tiny.plan(), train=tiny.jsonl(tmp_path / "train.jsonl", tiny.messages(4)))
    (tmp_path / "model" / "tokenizer.json").write_text('{"a": 1}')
    note = trained.prepare(run, code=4)

    assert note["error"].startswith(f"tokenizer `{tmp_path}/model` cannot be loaded: ")


WRONG_CONFIGS = {
    "hiden_size": (32, "model.from_config: `qwen3` has no `hiden_size`"),
    "hidden_act": ("none", "model.from_config: KeyError: 'none'"),
    "num_hidden_layers": (-1, "model.from_config: Class validation error"),
}


@pytest.mark.parametrize("key", WRONG_CONFIGS)
def test_a_wrong_model_configuration_is_a_fault_of_the_data(tmp_path: Path, key: str):
    """A misspelt key would give a model of another size than the one that was asked for."""
    value, reason = WRONG_CONFIGS[key]
    plan = tiny.plan(model_plan={"name": None, "from_config": tiny.CONFIG | {key: value}})
    note = trained.prepare(run_of(tmp_path, plan, train=tiny.jsonl(tmp_path / "train.jsonl", tiny.messages(4))), code=2)

    assert note["error"].startswith(reason)


def test_a_split_that_leaves_nothing_to_train_on_says_so(tmp_path: Path):
    held = SourcePlan("held", None, held_out_from="all", fraction=0.9)
    plan = tiny.plan(source=QUESTIONS, eval_sources=(held,))
    note = trained.prepare(run_of(tmp_path, plan, train=tiny.jsonl(tmp_path / "train.jsonl", ROWS[:2])), code=2)

    assert note["error"] == "eval set `held` would take 2 of 2 rows of source `train` and leave none to train on"


def test_columns_that_fit_no_format_are_answered_with_the_line_to_write(tmp_path: Path):
    run = run_of(tmp_path, tiny.plan(), train=tiny.jsonl(tmp_path / "train.jsonl", ROWS))
    note = trained.prepare(run, code=2)

    assert note["error"].startswith(
        f"{tmp_path}/train.jsonl:1 (source `train`): its first row has `question`, `answer`, and needs"
    )
    assert note["hint"] == "write `columns: {prompt: question, completion: answer}`"


def test_a_missing_file_is_a_fault_of_the_environment(tmp_path: Path):
    run = run_of(tmp_path, tiny.plan(), train=tmp_path / "gone.jsonl")
    note = trained.prepare(run, code=4)

    assert note["error"] == f"{tmp_path}/gone.jsonl: no such data file"


def split_plan(**data: Any) -> Plan:
    held = SourcePlan("held", None, held_out_from="all", fraction=0.2)
    return tiny.plan(
        source=QUESTIONS,
        eval_sources=(held,),
        generate=(GeneratePlan("held", ("exact_match",), 8, None, 4),),
        data={"mixture": data},
    )


def test_held_out_rows_are_in_no_training_row(tmp_path: Path):
    """Also where copies are kept: those of a held-out row leave training, or the measured loss would be that of seen rows."""
    plan = split_plan()
    plan = replace(plan, data=replace(plan.data, deduplicate="none"))
    run = run_of(tmp_path, plan, train=tiny.jsonl(tmp_path / "train.jsonl", [*tiny.words(50), *tiny.words(50)]))
    trained.prepare(run)
    train, held = rows(run), rows(run, "eval-held")

    assert len(held["input_ids"]) == 20
    assert facts(run)["sources"]["train"]["contaminated"] > 0
    assert not {tuple(row) for row in train["input_ids"]} & {tuple(row) for row in held["input_ids"]}
    questions = [json.loads(line) for line in run.prepared("generate-held.jsonl").read_text().splitlines()]
    assert len(questions) == 20
    assert {"question": questions[0]["prompt"], "answer": questions[0]["reference"]} in tiny.words(50)


def test_the_split_follows_the_seed(tmp_path: Path):
    """The same seed, the same split; another seed, another one."""
    data = tiny.jsonl(tmp_path / "train.jsonl", tiny.words(50))
    runs = [run_of(tmp_path / name, split_plan(seed=seed), train=data) for name, seed in (("a", 1), ("b", 1), ("c", 2))]
    for run in runs:
        trained.prepare(run)
    first, again, other = (facts(run)["sets"]["eval-held"]["sha256"] for run in runs)

    assert first == again
    assert first != other


def test_rows_are_filled_up_to_whole_batches(tmp_path: Path):
    """10 rows, 4 to a step: 2 fillers of two pad tokens without labels, 3 steps per epoch, 6 in 2 epochs."""
    run = run_of(tmp_path, tiny.plan(source=QUESTIONS), train=tiny.jsonl(tmp_path / "train.jsonl", ROWS))
    trained.prepare(run)
    train = rows(run)

    assert [facts(run)[name] for name in ("steps_per_epoch", "max_steps")] == [3, 6]
    assert [facts(run)["sets"]["train"][name] for name in ("rows", "fillers")] == [10, 2]
    assert train["input_ids"][10:] == [[0, 0], [0, 0]]
    assert train["labels"][10:] == [[-100, -100], [-100, -100]]


def test_packed_rows_keep_their_examples_apart(tmp_path: Path):
    """Lengths of the examples in a packed row add up to the row; no token is lost."""
    run = run_of(
        tmp_path, tiny.plan(source=QUESTIONS, data={"packing": True}), train=tiny.jsonl(tmp_path / "t.jsonl", ROWS)
    )
    trained.prepare(run)
    train, known = rows(run), facts(run)["sets"]["train"]
    packed = train["input_ids"][: known["rows"]]

    assert [sum(lengths) for lengths in train["seq_lengths"]] == [len(row) for row in train["input_ids"]]
    assert sum(len(lengths) for lengths in train["seq_lengths"][: known["rows"]]) == 10
    assert sum(map(len, packed)) == known["tokens"]
    assert max(map(len, packed)) <= 64


def test_long_rows_are_cut_and_counted(tmp_path: Path):
    """A text of 5 tokens more than `max_length` is cut by 5."""
    texts = [{"text": "a" * 3}, {"text": "Q" * 70}]
    run = run_of(tmp_path, tiny.plan(global_size=1), train=tiny.jsonl(tmp_path / "train.jsonl", texts))
    trained.prepare(run)

    assert [len(row) for row in rows(run)["input_ids"]] == [4, 64]
    assert (facts(run)["sources"]["train"]["cut"], facts(run)["sources"]["train"]["cut_tokens"]) == (1, 7)


def test_prepare_is_skipped_until_something_it_depends_on_changes(tmp_path: Path):
    """Tokenising a large set again for nothing would cost every restart hours."""
    data = tiny.jsonl(tmp_path / "train.jsonl", ROWS)
    run = run_of(tmp_path, tiny.plan(source=QUESTIONS), train=data)
    trained.prepare(run)
    before = run.prepared("train").stat().st_mtime_ns
    trained.prepare(run)
    assert run.prepared("train").stat().st_mtime_ns == before

    longer = replace(tiny.plan(source=QUESTIONS, epochs=4.0))
    tiny.run_dir(run.root, longer, json.loads(run.placement.read_text()))
    trained.prepare(run)
    assert run.prepared("train").stat().st_mtime_ns == before
    assert facts(run)["max_steps"] == 12

    tiny.jsonl(data, tiny.words(11))
    trained.prepare(run)
    assert facts(run)["sets"]["train"]["rows"] == 11


def test_a_moved_run_does_not_need_its_data_files(tmp_path: Path):
    """What was prepared travels with the run directory."""
    data = tiny.jsonl(tmp_path / "train.jsonl", ROWS)
    run = run_of(tmp_path, tiny.plan(source=QUESTIONS), train=data)
    trained.prepare(run)
    data.unlink()

    trained.prepare(run)


def test_an_interrupted_prepare_is_done_again(tmp_path: Path):
    """`data.json` is written last; without it nothing counts."""
    run = run_of(tmp_path, tiny.plan(source=QUESTIONS), train=tiny.jsonl(tmp_path / "train.jsonl", ROWS))
    trained.prepare(run)
    expected = facts(run)["sets"]["train"]["sha256"]
    run.data_facts.unlink()
    next(run.prepared("train").glob("*.arrow")).write_bytes(b"torn")
    trained.prepare(run)

    assert facts(run)["sets"]["train"]["sha256"] == expected
    assert len(rows(run)["input_ids"]) == 12


def test_a_model_from_a_config_is_the_same_for_the_same_seed(tmp_path: Path):
    """Written once by prepare, so that everything after it loads with from_pretrained."""
    config = {key: value for key, value in tiny.CONFIG.items() if key != "vocab_size"}
    seeds = {"a": 1, "b": 1, "c": 2}
    runs = {}
    for name, seed in seeds.items():
        plan = tiny.plan(source=QUESTIONS, model_plan={"name": None, "from_config": config}, trainer={"seed": seed})
        placement = {
            "tokenizer": str(tiny.tokenizer(tmp_path / "tokenizer")),
            "data.train": str(tiny.jsonl(tmp_path / "train.jsonl", ROWS)),
        }
        runs[name] = tiny.run_dir(tmp_path / name, plan, placement)
        trained.prepare(runs[name])
    hashes = {name: trained.weights(run.base) for name, run in runs.items()}

    assert hashes["a"] == hashes["b"] != hashes["c"]
    assert json.loads((runs["a"].base / "config.json").read_text())["vocab_size"] == tiny.VOCABULARY
    trained.train(runs["a"])
