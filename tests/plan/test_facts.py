"""Data files and model configurations as found on this machine."""

import dataclasses
import gzip
import json
import os
import socket
from pathlib import Path

import pytest

from launcher.errors import EnvironmentFault, RecipeErrors
from launcher.plan import data_files, data_rows, facts
from launcher.plan.facts import gather
from launcher.plan.model_facts import from_hub
from tests.support import planning, tiny


def sources(folder, *sets, text=planning.RECIPE, cluster=planning.CPU):
    return gather(planning.recipe(folder, text, sets), cluster).sources


def test_rows_are_counted_line_by_line(tmp_path):
    """Blank lines hold no row, and a last line needs no newline."""
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a"}\n\n{"text": "b"}\n   \n{"text": "c"}')
    assert data_rows.count_rows(path) == data_rows.Count(3, exact=True)


def test_csv_rows_may_hold_newlines(tmp_path):
    """Counting lines would find 5."""
    path = tmp_path / "rows.csv"
    path.write_text('prompt,completion\n"a\nb",c\nd,"e\nf"\n')
    assert data_rows.count_rows(path) == data_rows.Count(2, exact=True)


@pytest.mark.parametrize("text", ['[{"text": "a"}, {"text": "b"}]', '{"text": "a"}\n{"text": "b"}\n'])
def test_json_may_be_a_list_or_lines(tmp_path, text):
    """Both are called .json in the wild."""
    path = tmp_path / "rows.json"
    path.write_text(text)
    assert data_rows.count_rows(path) == data_rows.Count(2, exact=True)


def test_large_files_are_extrapolated_and_say_so(tmp_path, monkeypatch):
    """1,000 equal rows, of which the head holds 100: the sizes' ratio gives 1,000."""
    path = tmp_path / "rows.jsonl"
    row = '{"text": "0123456789"}\n'
    path.write_text(row * 1000)
    monkeypatch.setattr(data_rows, "_COUNT_BYTES", len(row) * 500)
    monkeypatch.setattr(data_rows, "_HEAD_BYTES", len(row) * 100)
    assert data_rows.count_rows(path) == data_rows.Count(1000, exact=False)


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("rows.jsonl", b'{"text": "a"}\n\n{"text": "b"}'),
        ("rows.ndjson", b'{"text": "a"}\n{"text": "b"}\n'),
        ("array.jsonl", b'[{"text": "a"},\n{"text": "b"}]'),
        ("rows.csv", b'text\n"a\n"\nb\n'),
        ("rows.tsv", b"text\tn\na\t1\nb\t2\n"),
        ("rows.txt", b"a\n\n b\n"),
    ],
)
@pytest.mark.parametrize("packed", ["", ".gz", "by its contents"])
def test_rows_of_every_kind_of_text_are_counted_and_looked_at(tmp_path, name, rows, packed):
    """Two rows each; what is packed with gzip is unpacked, whatever its name."""
    path = tmp_path / (name + packed if packed == ".gz" else name)
    path.write_bytes(gzip.compress(rows) if packed else rows)
    assert data_rows.count_rows(path) == data_rows.Count(2, exact=True)
    assert [row["text"].strip() for row in data_rows.sample_rows(path)] == ["a", "b"]


def test_a_large_packed_file_is_extrapolated_and_says_so(tmp_path, monkeypatch):
    """100,000 numbered rows, of which the first half is counted. Rows compress alike, and gzip reads ahead: within a tenth."""
    path = tmp_path / "rows.jsonl.gz"
    text = "".join(f'{{"text": "row {number * 7919 % 99991}"}}\n' for number in range(100_000))
    path.write_bytes(gzip.compress(text.encode()))
    monkeypatch.setattr(data_rows, "_COUNT_BYTES", len(text) // 2)
    found = data_rows.count_rows(path)
    assert not found.exact
    assert abs((found.rows or 0) - 100_000) < 10_000


@pytest.mark.parametrize("name", ["rows.parquet", "rows.arrow", "rows.jsonl.zst"])
def test_what_needs_a_reader_is_planned_without_its_rows(tmp_path, name):
    """The base install has no pyarrow. `prepare` counts."""
    (tmp_path / name).write_bytes(b"PAR1" + b"\0" * 9 + b"PAR1" if name == "rows.parquet" else b"\x28\xb5\x2f\xfd\0")
    found = sources(tmp_path, f"data.datasets.sums.path={name}")["sums"]
    assert (found.rows, found.rows_exact, found.tokens_per_row) == (None, False, None)


def test_many_files_are_extrapolated_by_size(tmp_path, monkeypatch):
    """Two files of 3 rows are counted, the other two weigh as much."""
    monkeypatch.setattr(data_rows, "_MOST_COUNTED", 2)
    files = [tmp_path / f"{number}.jsonl" for number in range(4)]
    for file in files:
        file.write_text('{"text": "a"}\n' * 3)
    assert data_rows.count_all(files) == data_rows.Count(12, exact=False)


def test_very_many_files_are_worth_a_word(tmp_path, monkeypatch):
    """D59: each is opened, stored and hashed."""
    monkeypatch.setattr(facts, "_MANY_FILES", 3)
    for number in range(4):
        tiny.jsonl(tmp_path / f"part-{number}.jsonl", tiny.words(2))
    assert sources(tmp_path, "data.datasets.sums.path=part-*.jsonl")["sums"].notes == (
        "data `sums`: 4 files, each opened and hashed before training; joined into fewer they are read faster",
    )


def test_tokens_are_guessed_from_the_columns_that_are_used(tmp_path):
    """8 + 4 characters are 3 tokens; the id column is not read, and 40 characters are cut at 5 tokens."""
    rows = [{"id": "x" * 1000, "q": "12345678", "a": "1234"}, {"id": "", "q": "1" * 40, "a": ""}]
    assert data_rows.tokens_per_row(rows, ("q", "a"), max_length=5) == (3 + 5) / 2


def test_conversations_count_their_contents_only():
    """Role names are template text. 8 + 4 characters."""
    row = {"messages": [{"role": "user", "content": "12345678"}, {"role": "assistant", "content": "1234"}]}
    assert data_rows.tokens_per_row([row], ("messages",), max_length=100) == 3


def test_a_glob_is_expanded_in_order(tmp_path):
    """The order of the files is the order of the rows, on every file system."""
    for name in ("b", "a", "c"):
        tiny.jsonl(tmp_path / f"part-{name}.jsonl", tiny.words(4))
    found = sources(tmp_path, "data.datasets.sums.path=part-*.jsonl")["sums"]
    assert [Path(path).name for path in found.files] == ["part-a.jsonl", "part-b.jsonl", "part-c.jsonl"]
    assert found.rows == 12


def test_a_folder_stands_for_its_data_files(tmp_path):
    """A README beside the data is not data; `data_files` chooses."""
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "README.md").write_text("about")
    tiny.jsonl(tmp_path / "set" / "a.jsonl", tiny.words(4))
    tiny.jsonl(tmp_path / "set" / "b.jsonl", tiny.words(5))
    path = "data.datasets.sums.path=./set"
    assert sources(tmp_path, path)["sums"].rows == 9
    assert sources(tmp_path, path, "data.datasets.sums.data_files=b.jsonl")["sums"].rows == 5


def test_a_folder_that_datasets_wrote_is_its_arrow_files(tmp_path):
    """`save_to_disk` writes two JSON files about the rows beside them."""
    (tmp_path / "set").mkdir()
    for name in ("data-00000-of-00001.arrow", "dataset_info.json", "state.json"):
        (tmp_path / "set" / name).write_text("{}")
    assert data_files.expand(str(tmp_path / "set")) == (tmp_path / "set" / "data-00000-of-00001.arrow",)


@pytest.mark.parametrize("url", ["s3://bucket/train.jsonl", "https://host/a/train.parquet", "file:///data/*.csv"])
def test_a_url_is_left_to_the_run(tmp_path, url):
    """The plan asks no network, so it knows neither rows nor files."""
    made = planning.planned(tmp_path, sets=[f"data.datasets.sums.path={url}"])
    assert made.plan.estimate.rows is None
    assert made.plan.data.sources[0].path == url
    assert "data.sums" not in made.placement


def test_a_url_has_no_hub_keys(tmp_path):
    (said,) = fault(tmp_path, "data.datasets.sums.path=s3://bucket/train.jsonl", "data.datasets.sums.split=test")
    assert "data.datasets.sums.split: `test`: a URL has no split" in said


def test_a_url_is_written_in_the_recipe(tmp_path):
    """The worker reads the plan, which holds what the recipe wrote."""
    cluster = dataclasses.replace(planning.CPU, paths={"data": "s3://bucket"})
    with pytest.raises(RecipeErrors) as caught:
        sources(tmp_path, "data.datasets.sums.path=${data}/train.jsonl", cluster=cluster)
    (said,) = planning.faults(caught.value)
    assert said.endswith(
        "`${data}/train.jsonl` stands for the URL `s3://bucket/train.jsonl`\nhint: write the URL in the recipe"
    )


def test_a_glob_that_matches_what_is_no_data_lists_it(tmp_path):
    """D46: a half-written copy, a file without rows, the state of a checkpoint."""
    (tmp_path / "out/checkpoint-5").mkdir(parents=True)
    for name in ("out/a.jsonl", "out/a.jsonl.tmp", "out/checkpoint-5/trainer_state.json"):
        tiny.jsonl(tmp_path / name, tiny.words(2))
    (said,) = fault(tmp_path, "data.datasets.sums.path=out/**")
    assert said.endswith(
        f"{tmp_path}/out/** matches 3 files, of which 2 hold no rows: {tmp_path}/out/a.jsonl.tmp, "
        f"{tmp_path}/out/checkpoint-5/trainer_state.json\n"
        "hint: write a narrower pattern; data files end in .jsonl, .ndjson, .json, .csv, .tsv, .txt, .parquet, .arrow; "
        "text also as .gz and .zst"
    )
    assert sources(tmp_path, "data.datasets.sums.path=out/checkpoint-5/*.json")["sums"].rows == 2


EVAL = "data.eval_datasets=[{label: dev, path: PATH, columns: {prompt: question, completion: answer}}]"


@pytest.mark.parametrize("path", ["train.jsonl", "link.jsonl", "t*.jsonl"])
def test_what_is_trained_is_not_measured(tmp_path, path):
    """D47: the same file, whatever it is called."""
    planning.recipe(tmp_path)
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "train.jsonl")
    (said,) = fault(tmp_path, EVAL.replace("PATH", path))
    name = tmp_path / ("link.jsonl" if path == "link.jsonl" else "train.jsonl")
    assert said.endswith(
        f"is trained and measured: {name} is also read by data.datasets.sums\n"
        "hint: replace `path` by `from: sums` and `fraction: 0.1`: those rows are held out of training"
    )


def test_holding_out_as_the_hint_says_works(tmp_path):
    """A hint is only given when it does."""
    assert "sums" in sources(tmp_path, "data.eval_datasets=[{label: dev, from: sums, fraction: 0.1}]")


def test_the_same_hub_set_is_not_measured_either_but_another_split_is(tmp_path):
    """What has no file is told apart by its name, split and revision."""
    hub = "{label: LABEL, path: me/mine, split: SPLIT}"
    train = f"data.datasets=[{hub.replace('LABEL', 'a').replace('SPLIT', 'train')}]"
    dev = f"data.eval_datasets=[{hub.replace('LABEL', 'dev')}]"
    assert "me/mine is also read by data.datasets.a" in fault(tmp_path, train, dev.replace("SPLIT", "train"))[0]
    assert set(sources(tmp_path, train, dev.replace("SPLIT", "test"))) == {"a", "dev"}


def test_what_is_trained_twice_is_worth_a_word(tmp_path):
    """It may be meant; a mixture can weigh a file without being told twice."""
    one = "{label: LABEL, path: train.jsonl, columns: {prompt: question, completion: answer}}"
    found = sources(tmp_path, f"data.datasets=[{one.replace('LABEL', 'a')}, {one.replace('LABEL', 'b')}]")
    assert found["a"].notes == ()
    assert found["b"].notes == (f"data `b`: {tmp_path}/train.jsonl is also read by `a`",)


def fault(folder, *sets):
    with pytest.raises(RecipeErrors) as caught:
        sources(folder, *sets)
    return planning.faults(caught.value)


def test_a_missing_file_names_the_nearest_one_and_the_line(tmp_path):
    """The commonest mistake of all."""
    text = planning.RECIPE.replace("path: train.jsonl", "path: trian.jsonl")
    with pytest.raises(RecipeErrors) as caught:
        sources(tmp_path, text=text)
    (said,) = planning.faults(caught.value)
    assert "small.yaml:5:27: data.datasets.sums.path: no file " in said
    assert f"hint: did you mean {tmp_path / 'train.jsonl'}?" in said


def test_a_misspelt_suffix_is_no_hub_id(tmp_path):
    """`train.josnl` could be a data set on the hub; beside `train.jsonl` it is not."""
    (said,) = fault(tmp_path, f"data.datasets.sums.path={os.path.relpath(tmp_path)}/train.josnl")
    assert f"did you mean {tmp_path / 'train.jsonl'}?" in said
    planning.recipe(tmp_path)
    text = planning.RECIPE.replace("path: train.jsonl", "path: train.josnl")
    with pytest.raises(RecipeErrors, match=r"no file .*train\.josnl"):
        sources(tmp_path, text=text)


def test_a_missing_folder_is_named_and_not_the_file_in_it(tmp_path):
    """`/datta/x/train.jsonl`: the first part that is wrong."""
    (tmp_path / "data").mkdir()
    (said,) = fault(tmp_path, f"data.datasets.sums.path={tmp_path}/datta/x/train.jsonl")
    assert f"there is no folder {tmp_path / 'datta'}; did you mean {tmp_path / 'data'}?" in said


@pytest.mark.parametrize("row", ['{"text": "a", "b": ' + "[" * 5000 + "]" * 5000 + "}", '{"text": "a\u2028b"}'])
def test_a_row_that_cannot_be_looked_at_does_not_stop_the_look(tmp_path, row):
    """`prepare` reports it with its line; U+2028 ends no line of a file."""
    (tmp_path / "rows.jsonl").write_text(f'{row}\n{{"text": "b"}}\n', encoding="utf-8")
    assert sources(tmp_path, "data.datasets.sums.path=rows.jsonl")["sums"].format == "text"


def test_a_long_cell_of_a_table_is_looked_at(tmp_path):
    """Python's csv refuses cells of more than 128 KiB unless told otherwise."""
    (tmp_path / "rows.csv").write_text(f"text\n{'a' * 200_000}\n")
    assert sources(tmp_path, "data.datasets.sums.path=rows.csv")["sums"].rows == 1


def test_hidden_files_of_a_folder_are_not_data(tmp_path):
    """What a file manager leaves behind (`._a.jsonl`)."""
    (tmp_path / "set").mkdir()
    tiny.jsonl(tmp_path / "set/a.jsonl", tiny.messages(2))
    (tmp_path / "set/._a.jsonl").write_bytes(b"\0\5\x16\7")
    assert sources(tmp_path, "data.datasets.sums.path=./set")["sums"].rows == 2


@pytest.mark.parametrize("name", ["/etc/passwd", ""])
def test_data_files_start_in_their_folder(tmp_path, name):
    (tmp_path / "set").mkdir()
    (said,) = fault(tmp_path, "data.datasets.sums.path=./set", f'data.datasets.sums.data_files=["{name}"]')
    assert "names files in" in said or "is no path" in said


@pytest.mark.parametrize("path", ["/dev/zero", "pipe.jinja", "."])
def test_a_chat_template_is_a_regular_file(tmp_path, path):
    """A device would fill the memory, a pipe wait for ever."""
    os.mkfifo(tmp_path / "pipe.jinja")
    assert "is not a file" in fault(tmp_path, f"model.chat_template_path={path}")[0]


def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    """Reading a pipe would wait for ever."""
    os.mkfifo(tmp_path / "pipe.jsonl")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(tmp_path / "socket.jsonl"))
        (tmp_path / "folder.jsonl").mkdir()
        assert "is a pipe" in fault(tmp_path, "data.datasets.sums.path=pipe.jsonl")[0]
        assert "is a socket" in fault(tmp_path, "data.datasets.sums.path=socket.jsonl")[0]
        assert "holds none of" in fault(tmp_path, "data.datasets.sums.path=folder.jsonl")[0]
        assert "is a device" in fault(tmp_path, "data.datasets.sums.path=/dev/null")[0]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("empty.jsonl", "is empty: 0 rows"),
        ("rows.xml", "suffix `.xml`"),
        ("dangling.jsonl", "is a link to"),
        ("*.arrow", "no file"),
        ("list.json", "is not JSON"),
        ("loop.jsonl", "is a link that leads back to itself"),
        ("round/rows.jsonl", "lies behind a link that leads back to itself"),
        ("packed.jsonl.zst", "is not compressed with zstd"),
        ("torn.jsonl.gz", "its gzip data is cut or damaged"),
        ("torn.parquet", "looks cut: it does not end with PAR1"),
        ("page.parquet", "is no parquet file: it does not start with PAR1"),
        ("wide.jsonl", "is in UTF-16, not UTF-8"),
        ("header.csv", "no rows"),
        (
            "wide.csv",
            "wide.csv:1: the header is one column, `a;b`: its cells are apart by `;`, and commas were expected",
        ),
        ("blank.jsonl", "no rows"),
        ("x" * 300 + ".jsonl", "File name too long"),
    ],
)
def test_unusable_files_are_refused(tmp_path, name, says):
    """Each would end in a trace from deep inside a reader."""
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "rows.xml").write_text("<a/>")
    (tmp_path / "list.json").write_text('[{"text": "a"},')
    (tmp_path / "packed.jsonl.zst").write_bytes(gzip.compress(b'{"text": "a"}'))
    (tmp_path / "torn.jsonl.gz").write_bytes(gzip.compress(b'{"text": "a"}')[:-9])
    (tmp_path / "torn.parquet").write_bytes(b"PAR1" + b"\0" * 99)
    (tmp_path / "page.parquet").write_text("<!doctype html>")
    (tmp_path / "loop.jsonl").symlink_to(tmp_path / "loop.jsonl")
    (tmp_path / "round").symlink_to(tmp_path / "round")
    (tmp_path / "wide.jsonl").write_text('{"text": "a"}', encoding="utf-16")
    (tmp_path / "header.csv").write_text("text\n")
    (tmp_path / "wide.csv").write_text("a;b\n1;2\n")
    (tmp_path / "blank.jsonl").write_text("\n \n")
    (tmp_path / "dangling.jsonl").symlink_to(tmp_path / "gone.jsonl")
    assert says in fault(tmp_path, f"data.datasets.sums.path={tmp_path / name}")[0]


def test_all_missing_files_are_reported_together(tmp_path):
    """One round trip, not four."""
    sets = ["data.datasets=[{label: a, path: a.jsonl}, {label: b, path: b.jsonl}]", "model.chat_template_path=c.jinja"]
    assert len(fault(tmp_path, *sets)) == 3


def test_rows_that_fit_no_format_suggest_the_mapping(tmp_path):
    """GSM8K's columns are question and answer."""
    (said,) = fault(tmp_path, "data.datasets.sums.columns={}")
    assert "its first row has `question`, `answer`" in said
    assert "hint: write `columns: {prompt: question, completion: answer}`" in said


def test_the_suggested_mapping_works(tmp_path):
    """A hint is only given when it does."""
    assert sources(tmp_path)["sums"].format == "prompt_completion"


def test_an_undefined_folder_leaves_the_rows_unknown_and_the_plan_goes_on(tmp_path):
    """A recipe can be read and planned on a machine that does not have its data."""
    plan = planning.plan(tmp_path, "data.datasets.sums.path=${data}/train.jsonl")
    assert plan.estimate.rows is None
    assert any("`${data}` is not set here (set LAUNCHER_DATA)" in warning for warning in plan.warnings)


def test_what_only_a_run_needs_is_kept_for_it(tmp_path):
    """`launcher run` refuses with this; it names the key and two ways out."""
    (error,) = planning.planned(tmp_path, sets=["data.datasets.sums.path=${data}/train.jsonl"]).unresolved
    assert error.key == "data.datasets.sums.path"
    assert "LAUNCHER_DATA" in (error.hint or "")
    assert "--set data.datasets.sums.path=PATH" in (error.hint or "")


def test_a_defined_folder_is_used(tmp_path):
    """The same recipe, with the cluster's folder."""
    cluster = dataclasses.replace(planning.CPU, paths={"data": str(tmp_path)})
    assert sources(tmp_path, "data.datasets.sums.path=${data}/train.jsonl", cluster=cluster)["sums"].rows == 100


@pytest.mark.parametrize("change", ["name=subset", "split=test", "revision=v1"])
def test_hub_keys_are_refused_for_files(tmp_path, change):
    """They would be ignored, and a test split that is not one is worse than an error."""
    assert "files on this machine have no" in fault(tmp_path, f"data.datasets.sums.{change}")[0]


def test_a_model_folder_is_read(tmp_path):
    """A local model plans from its own config.json, and its path stands in the placement."""
    folder = tiny.model(tmp_path / "tiny-model")
    made = planning.planned(tmp_path, sets=["model.model_name_or_path=./tiny-model"])
    assert made.placement["model"] == str(folder)
    # 384 × 64 embeddings (tied), 2 layers of 64 × (2 × 64 + 2 × 32) + 2 × 16 + 3 × 64 × 128 + 2 × 64, and one norm
    assert made.plan.model.parameters == 384 * 64 + 2 * (64 * 192 + 32 + 3 * 64 * 128 + 128) + 64


def test_a_cached_model_is_read_from_the_hub_cache(tmp_path, monkeypatch):
    """Layout of huggingface_hub: refs/REVISION names the snapshot."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / "models--me--mine" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text(json.dumps(tiny.CONFIG))
    (tmp_path / "models--me--mine" / "refs").mkdir()
    (tmp_path / "models--me--mine" / "refs" / "main").write_text("abc")
    assert from_hub("me/mine", "main").context_length == 512
    assert from_hub("me/mine", "abc").origin == "the hub cache"


def test_a_model_nobody_knows_ends_with_exit_4(tmp_path, monkeypatch):
    """The network is never asked; the message says where was looked and what to do."""
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(EnvironmentFault) as caught:
        planning.plan(tmp_path, "model.model_name_or_path=me/unknown")
    assert caught.value.exit_code == 4
    assert str(tmp_path / "hub") in caught.value.message
    assert "small.yaml --facts` on a machine with network brings it" in (caught.value.hint or "")


def test_a_model_built_from_a_configuration_needs_no_files(tmp_path):
    """Tests, demos and benchmarks start from random weights."""
    (tmp_path / "tok").mkdir()
    config = json.dumps(tiny.CONFIG)
    text = planning.RECIPE.replace(
        "{model_name_or_path: Qwen/Qwen3-0.6B}", f"{{from_config: {config}, tokenizer_name_or_path: ./tok}}"
    )
    made = planning.planned(tmp_path, text)
    assert made.plan.model.from_config == tiny.CONFIG
    assert made.placement["tokenizer"] == str(tmp_path / "tok")


def test_a_stored_quantized_model_is_qlora_and_not_trained_in_full(tmp_path):
    """A checkpoint that is already in 4 bits is read as such."""
    tiny.model(tmp_path / "four", quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True})
    tiny.model(tmp_path / "gptq", quantization_config={"quant_method": "gptq"})
    assert planning.plan(tmp_path, "model.model_name_or_path=./four").method == "qlora"
    for change in (("model.model_name_or_path=./four", "peft=null"), ("model.model_name_or_path=./gptq",)):
        with pytest.raises(RecipeErrors, match="its weights are stored"):
            planning.plan(tmp_path, *change)
