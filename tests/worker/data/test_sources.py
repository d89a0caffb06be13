"""Rows from every kind of source: the same values and numbers, chunks with fixed borders, and faults that name their place."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import pickle
import socket
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from launcher.errors import DataError, EnvironmentFault, LauncherError
from launcher.plan.types import SourcePlan
from launcher.worker.data import lines, raw, remote, tables, text_files
from launcher.worker.data.sources import Raw, chunks, fingerprint, local_files, read

VALUES = [{"question": f"What is {n} + 1?", "answer": f"“{n + 1}”,\nsaid Zoë"} for n in range(5)]
SOURCE = SourcePlan("train", "train.jsonl")


def rows(*files: Path, **changes: Any) -> list[Raw]:
    return list(read(SourcePlan("train", "train.jsonl", **changes), files))


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return bytes(sink.getvalue().to_pybytes())


def table(delimiter: str) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, ["question", "answer"], delimiter=delimiter)
    writer.writeheader()
    writer.writerows(VALUES)
    return text.getvalue().encode()


def arrow(new: Any, values: list[dict[str, Any]]) -> bytes:
    sink, whole = pa.BufferOutputStream(), pa.Table.from_pylist(values)
    with new(sink, whole.schema) as writer:
        writer.write_table(whole, max_chunksize=2)
    return bytes(sink.getvalue().to_pybytes())


def parquet(values: list[dict[str, Any]], **how: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(values), sink, **how)
    return bytes(sink.getvalue().to_pybytes())


def content(name: str) -> bytes:
    """`VALUES` as the kind of file that a name asks for."""
    if name.endswith(".gz"):
        return gzip.compress(content(name.removesuffix(".gz")))
    if name.endswith(".zst"):
        return zstd(content(name.removesuffix(".zst")))
    in_lines = "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in VALUES).encode()
    kinds = {
        "array.json": json.dumps(VALUES, indent=1).encode(),
        "array.jsonl": json.dumps(VALUES).encode(),
        "rows.csv": table(","),
        "rows.tsv": table("\t"),
        "rows.parquet": parquet(VALUES, row_group_size=2),
        "rows.arrow": arrow(pa.ipc.new_file, VALUES),
        "stream.arrow": arrow(pa.ipc.new_stream, VALUES),
        "packed.jsonl": gzip.compress(in_lines[:100]) + gzip.compress(in_lines[100:]),
        "packed.json": zstd(in_lines),
        "bom.jsonl": b"\xef\xbb\xbf" + in_lines,
        "bom.json": b"\xef\xbb\xbf" + json.dumps(VALUES).encode(),
        "bom.csv": b"\xef\xbb\xbf" + table(","),
        "crlf.jsonl": in_lines.replace(b"\n", b"\r\n"),
        "open.jsonl": in_lines.rstrip(b"\n"),
    }
    return kinds.get(name, in_lines)


TEXT = ["rows.jsonl", "rows.ndjson", "rows.json", "array.json", "array.jsonl", "rows.csv", "rows.tsv"]
COLUMNAR = ["rows.parquet", "rows.arrow", "stream.arrow"]
ODD = ["packed.jsonl", "packed.json", "bom.jsonl", "bom.json", "bom.csv", "crlf.jsonl", "open.jsonl"]
NAMES = [*TEXT, *COLUMNAR, *ODD, *(f"{name}{packed}" for name in TEXT for packed in (".gz", ".zst"))]


@pytest.mark.parametrize("name", NAMES)
def test_every_kind_of_file_holds_the_same_rows(tmp_path: Path, name: str):
    """A table's rows stand in two lines each, under a header; all else counts by one."""
    found = rows(written(tmp_path / name, content(name)))

    assert [row.values for row in found] == VALUES
    assert [row.fault for row in found] == [None] * 5
    is_table = ".csv" in name or ".tsv" in name
    assert [row.number for row in found] == ([2, 4, 6, 8, 10] if is_table else [1, 2, 3, 4, 5])


@pytest.mark.parametrize("name", NAMES)
def test_a_url_gives_the_rows_of_its_file(tmp_path: Path, name: str):
    """`file://` is opened by fsspec as `s3://` is."""
    written(tmp_path / name, content(name))
    found = list(read(SourcePlan("train", f"file://{tmp_path}/{name}"), None))

    here = rows(tmp_path / name)
    assert [(row.number, row.values) for row in found] == [(row.number, row.values) for row in here]
    assert found[0].place == f"file://{here[0].place}"


@pytest.mark.parametrize("name", ["notes.txt", "notes.txt.gz", "notes.txt.zst"])
def test_a_line_of_text_is_a_row_and_a_blank_one_is_none(tmp_path: Path, name: str):
    """Line 2 is blank, line 3 starts with a blank that stays."""
    text = b"\xef\xbb\xbfone\r\n \n two\nthree"
    packed = {".gz": gzip.compress, ".zst": zstd}.get(Path(name).suffix, bytes)
    found = rows(written(tmp_path / name, packed(text)))
    assert [(row.place, row.values) for row in found] == [
        (f"{tmp_path}/{name}:1", {"text": "one"}),
        (f"{tmp_path}/{name}:3", {"text": " two"}),
        (f"{tmp_path}/{name}:4", {"text": "three"}),
    ]


def test_a_place_is_the_file_of_the_chunk_and_the_number(tmp_path: Path):
    """So that no text is kept for each of a hundred million rows."""
    for name in ("rows.jsonl", "rows.csv", "array.json", "rows.parquet", "rows.jsonl.gz"):
        for chunk in chunks(SOURCE, [written(tmp_path / name, content(name))]):
            assert [row.place for row in chunk.rows()] == [f"{chunk.file}{row.number}" for row in chunk.rows()]


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 100 bytes or 2 rows."""
    for name in ("CHUNK_BYTES", "LEAST_RANGE_BYTES"):
        monkeypatch.setattr(text_files, name, 100)
    for module in (raw, tables):
        monkeypatch.setattr(module, "CHUNK_BYTES", 100)
        monkeypatch.setattr(module, "CHUNK_ROWS", 2)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("name", NAMES)
def test_chunks_travel_and_can_be_read_in_any_order(tmp_path: Path, name: str):
    """A pool of processes takes them as they come; every row is in exactly one."""
    found = list(chunks(SOURCE, [written(tmp_path / name, content(name))]))
    sent = [pickle.loads(pickle.dumps(chunk)) for chunk in found]
    later = [list(chunk.rows()) for chunk in reversed(sent)]

    assert len(found) >= 2
    assert [row.values for part in reversed(later) for row in part] == VALUES
    assert [chunk.count() for chunk in sent] == [len(part) for part in reversed(later)]


@pytest.mark.usefixtures("small_chunks")
def test_a_chunk_ends_with_the_last_line_that_fits(tmp_path: Path):
    """Lines of 30 bytes: three in 100 bytes. One of 230 is a chunk by itself: no byte range cuts a line."""
    line = '{"text": "%s"}\n'
    text = line % ("a" * 17) * 7 + line % ("b" * 217) + line % ("c" * 17)
    found = list(chunks(SOURCE, [written(tmp_path / "rows.jsonl", text)]))

    borders = [(chunk.start, chunk.stop, chunk.number) for chunk in found if isinstance(chunk, lines.LineRange)]
    assert borders == [(0, 90, 1), (90, 180, 4), (180, 210, 7), (210, 440, 8), (440, 470, 9)]


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("most", [1, 2, 5, 7, 9, 10, 99])
@pytest.mark.parametrize("name", NAMES)
def test_max_rows_cuts_across_chunks_and_files(tmp_path: Path, name: str, most: int):
    """Two files of five rows each."""
    files = [written(tmp_path / f"{number}-{name}", content(name)) for number in (1, 2)]
    assert [row.values for row in rows(*files, max_rows=most)] == (VALUES * 2)[:most]


@pytest.mark.usefixtures("small_chunks")
def test_blank_lines_count_as_lines_and_not_as_rows(tmp_path: Path):
    """Rows in lines 2, 5 and 6; the third of them is beyond `max_rows`."""
    file = written(tmp_path / "rows.jsonl", '\ufeff\n{"a": 1}\n\n \r\n{"a": 2}\n{"a": 3}\n\n')
    assert [row.number for row in rows(file)] == [2, 5, 6]
    assert [row.number for row in rows(file, max_rows=2)] == [2, 5]
    assert [row.number for row in rows(file, file, max_rows=5)] == [2, 5, 6, 2, 5]


def test_a_row_of_three_mebibytes_is_a_row(tmp_path: Path):
    """D36; and so is one of 9 MiB, longer than a chunk."""
    sizes = [3 * 2**20, 1, 9 * 2**20, 1]
    file = written(tmp_path / "rows.jsonl", "".join(json.dumps({"text": "x" * size}) + "\n" for size in sizes))
    found = [chunk for chunk in chunks(SOURCE, [file]) if isinstance(chunk, lines.LineRange)]
    assert [len(row.values["text"]) for chunk in found for row in chunk.rows()] == sizes
    assert [(chunk.number, sum(1 for _ in chunk.rows())) for chunk in found] == [(1, 1), (2, 1), (3, 1), (4, 1)]


DEEP = '{"a": ' + "[" * 1999 + "]" * 1999 + "}"
FAULTS = {
    "D24 Latin-1": (b'{"a": "Zo\xeb"}', "is not UTF-8 (byte 10)"),
    "D25 comma": ('{"a": 1, }', "is not JSON: a comma before `}` at character 8"),
    "comma in a list": ('{"a": [1,]}', "is not JSON: a comma before `]` at character 9"),
    "comma after the row": ('{"a": 1},', "is not JSON: a comma after the row at character 9"),
    "two rows": ('{"a": 1} {"a": 2}', "is not JSON: Extra data at character 9"),
    "no end": ('{"a": [', "is not JSON: Expecting value at character 8"),
    "quotes": ("{'a': 1}", "is not JSON: Expecting property name enclosed in double quotes at character 2"),
    "indented": ("  nothing", "is not JSON: Expecting value at character 3"),
    "D30 NUL": ('{"a": "x\0y"}', "holds a NUL byte at character 9"),
    "D30 hole": ("\0" * 20, "holds a NUL byte at character 1"),
    "D31 surrogate": ('{"a": "\\ud800"}', "holds half of a surrogate pair (\\ud800 to \\udfff), which is no character"),
    "D31 upper case": (
        '{"a": ["\\uDFFF"]}',
        "holds half of a surrogate pair (\\ud800 to \\udfff), which is no character",
    ),
    "D32 NaN": ('{"a": NaN}', "holds NaN, which is not JSON"),
    "D32 infinity": ('{"a": [-Infinity]}', "holds -Infinity, which is not JSON"),
    "D33 key": ('{"a": 1, "b": 2, "a": 3}', "has the key `a` twice in one object"),
    "D33 nested": ('{"m": [{"b": 2, "b": 3}]}', "has the key `b` twice in one object"),
    "D37 deep": (DEEP, "is nested deeper than 500 levels"),
    "D37 deeper than Python reads": ('{"a": ' + "[" * 100_000, "is nested deeper than 500 levels"),
    "D37 less deep": ('{"a": ' + "[" * 500 + "]" * 500 + "}", "is nested deeper than 500 levels"),
    "D56 digits": ('{"a": ' + "9" * 4301 + "}", "holds a number of more than 4,300 digits"),
    "array": ("[1, 2]", "is a JSON array, a row is an object such as {…}"),
    "null": ("null", "is a JSON null, a row is an object such as {…}"),
}


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
@pytest.mark.parametrize("kind", FAULTS)
def test_a_bad_line_is_named_and_hides_no_other(tmp_path: Path, kind: str, name: str):
    """Line 2 of 3."""
    line, fault = FAULTS[kind]
    data = b'{"a": 1}\n' + (line.encode() if isinstance(line, str) else line) + b'\n{"a": 3}\n'
    found = rows(written(tmp_path / name, gzip.compress(data) if name.endswith(".gz") else data))

    assert [(row.values, row.fault) for row in found] == [({"a": 1}, None), ({}, fault), ({"a": 3}, None)]
    assert found[1].place == f"{tmp_path}/{name}:2"


def test_what_only_looks_odd_is_read(tmp_path: Path):
    """A surrogate pair is one character, a long number stays exact, `\\u0000` is a character, `]` in a text is no level."""
    kept = ['{"a": "\\ud83d\\ude00"}', '{"a": 123456789012345678901234567890}', '{"a": "\\u0000"}']
    file = written(tmp_path / "rows.jsonl", "\n".join([*kept, json.dumps({"a": "[{" * 600})]))
    assert [row.values["a"] for row in rows(file)] == ["😀", 123456789012345678901234567890, "\0", "[{" * 600]


@pytest.mark.parametrize("end", [b'{"a": "hal', b'{"a": "Zo\xc3', b'{"a": tr', b'{"a": 1'])
def test_a_cut_last_line_is_called_cut(tmp_path: Path, end: bytes):
    """D26: a copy that stopped early. The same bytes with a newline behind are merely wrong."""
    cut = rows(written(tmp_path / "cut.jsonl", b'{"a": 1}\n' + end))
    assert [row.fault for row in cut] == [None, "the file looks cut: its last line does not end"]
    assert "looks cut" not in str(rows(written(tmp_path / "wrong.jsonl", end + b"\n"))[0].fault)


@pytest.mark.usefixtures("small_chunks")
def test_only_the_end_of_the_file_can_be_cut(tmp_path: Path):
    """A chunk ends with a newline wherever it ends."""
    bad = '{"a": "' + "x" * 60 + "\n"
    found = rows(written(tmp_path / "rows.jsonl", bad * 3))
    assert all(str(row.fault).startswith("is not JSON: ") for row in found)
    assert len(found) == 3


ARRAYS = {
    "key": ('[{"a": 1}, {"b": 1, "b": 2}, {"a": 3}]', "has the key `b` twice in one object"),
    "NaN": ('[{"a": 1}, {"a": NaN}, {"a": 3}]', "holds NaN, which is not JSON"),
    "number": ('[{"a": 1}, 7, {"a": 3}]', "is a JSON number, a row is an object such as {…}"),
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_a_bad_element_of_an_array_hides_no_other(tmp_path: Path, kind: str):
    """JSON whose syntax is right, with a row that cannot be used."""
    text, fault = ARRAYS[kind]
    found = rows(written(tmp_path / "rows.json", text))
    assert [(row.values, row.fault) for row in found] == [({"a": 1}, None), ({}, fault), ({"a": 3}, None)]
    assert found[1].place == f"{tmp_path}/rows.json: row 2"


def test_what_starts_with_a_bracket_is_an_array_or_a_line(tmp_path: Path):
    """A .json file is one value; in a .jsonl file a list of no objects is a bad line like any other."""
    text = '[7, {"a": 1}]'
    assert [row.values for row in rows(written(tmp_path / "rows.json", text))] == [{}, {"a": 1}]
    assert [row.fault for row in rows(written(tmp_path / "rows.jsonl", text))] == [
        "is a JSON array, a row is an object such as {…}"
    ]


LATIN = b'[{"a": 1},\n {"a": "Zo\xeb"}]'
WHOLE = {
    "comma": ("rows.json", '[{"a": 1},\n {"a": 2},\n]', ":2: is not JSON: a comma before `]` at character 10"),
    "no comma": ("rows.json", '[{"a": 1}\n {"a": 2}]', ":2: is not JSON: Expecting ',' delimiter at character 2"),
    "cut array": ("rows.json", '[{"a": 1}, {"a"', ": the file looks cut: its array does not end"),
    "array and more": ("rows.json", '[{"a": 1}]\n[{"a": 2}]', ":2: is not JSON: Extra data at character 1"),
    "Latin-1 in an array": ("rows.json", LATIN, ":2: is not UTF-8 (byte 11)"),
    "D23 UTF-16": ("rows.jsonl", '{"a": 1}\n'.encode("utf-16"), ": is in UTF-16, not UTF-8"),
    "D23 without a mark": ("rows.csv", "text\nab\n".encode("utf-16-le"), ": is in UTF-16, not UTF-8"),
    "D23 UTF-32": ("rows.txt", "ab".encode("utf-32"), ": is in UTF-32, not UTF-8"),
    "gzip cut": (
        "rows.jsonl.gz",
        content("rows.jsonl.gz")[:-9],
        ": the file looks cut: its compressed data does not end",
    ),
    "no gzip": ("rows.jsonl.gz", '{"a": 1}', ": is not compressed with gzip"),
    "D57 delimiter": (
        "rows.csv",
        "q;a\n1;2\n",
        ":1: the header is one column, `q;a`: its cells are apart by `;`, and commas were expected",
    ),
    "D57 tabs": (
        "rows.csv",
        "q\ta\n1\t2\n",
        ":1: the header is one column, `q\ta`: its cells are apart by tabs, and commas were expected",
    ),
    "D57 no header": ("rows.csv", "word " * 30 + ",b\n", ":1: looks like a row, not like a header"),
    "D57 twice": ("rows.csv", "a,a\n1,2\n", ":1: the header names `a` twice"),
    "D45 magic": ("rows.parquet", b"hello, no parquet", ": is no parquet file: it does not start with PAR1"),
    "D45 cut": ("rows.parquet", parquet(VALUES)[:-9], ": the file looks cut: it does not end with PAR1"),
    "D45 footer": (
        "rows.parquet",
        b"PAR1" + b"x" * 40 + b"\xff\xff\xff\x7fPAR1",
        ": cannot be read as parquet: Parquet file size is 52 bytes, smaller than the size reported by footer's (2147483647bytes)",
    ),
    "arrow": ("rows.arrow", b"", ": cannot be read as arrow: Tried reading schema message, was null or length 0"),
    "suffix": ("rows.xml", "<a/>", ": unknown kind of file `.xml`"),
    "columns in gzip": ("rows.parquet.gz", gzip.compress(parquet(VALUES)), ": unknown kind of file `.gz`"),
}


@pytest.mark.parametrize("kind", WHOLE)
def test_a_file_that_cannot_be_read_is_named_with_what_to_do(tmp_path: Path, kind: str):
    name, data, message = WHOLE[kind]
    with pytest.raises(DataError) as caught:
        rows(written(tmp_path / name, data))
    assert caught.value.message == f"{tmp_path}/{name}{message}"


def test_the_hints_for_other_encodings_and_delimiters_work(tmp_path: Path):
    """They are run here as a reader would run them."""
    for name, data in (("rows.jsonl", '{"a": "é"}\n'.encode("utf-16")), ("rows.csv", b'a;b\n"1;2";3\n')):
        file = written(tmp_path / name, data)
        with pytest.raises(DataError) as caught:
            rows(file)
        command = str(caught.value.hint).partition("`")[2].removesuffix("`")
        fixed = tmp_path / f"new-{name}"
        assert os.system(command.replace("OLD", str(file)).replace("NEW", str(fixed))) == 0
        assert [row.values for row in rows(fixed)] == [{"a": "é"} if name == "rows.jsonl" else {"a": "1;2", "b": "3"}]


TABLES = {
    "a cell too many": ("1,2,3", "has 1 cell more than the header"),
    "a cell too few": ("1", "has no cell for column `b`"),
    "D57 quotes": ('"say "hi" to",2', 'has a quote inside a quoted cell; it is written twice there (`""`)'),
    "D57 open quote": ('"say,2', "a quote that is opened here is not closed"),
    "D24 Latin-1": (b"Zo\xeb,2", "is not UTF-8 (byte 3)"),
    "D30 NUL": ("1,\0", "holds a NUL byte (byte 3)"),
}


@pytest.mark.parametrize("kind", TABLES)
def test_a_bad_line_of_a_table_hides_no_other(tmp_path: Path, kind: str):
    """Line 3 of 5, line 2 being blank; an open quote would take in the rest of the file."""
    line, fault = TABLES[kind]
    data = b"a,b\n\n" + (line.encode() if isinstance(line, str) else line) + b"\n5,6\n7,8\n"
    found = rows(written(tmp_path / "rows.csv", data))
    assert [(row.number, row.values, row.fault) for row in found] == [
        (3, {}, fault),
        (4, {"a": "5", "b": "6"}, None),
        (5, {"a": "7", "b": "8"}, None),
    ]


def test_a_replacement_character_in_a_table_is_text(tmp_path: Path):
    """U+FFFD is what damaged text is shown as, and it may stand in a file that is not damaged."""
    (row,) = rows(written(tmp_path / "rows.csv", "a\n\ufffd\n"))
    assert row.values == {"a": "\ufffd"}


@pytest.mark.parametrize("name", ["rows.parquet", "rows.arrow"])
def test_keys_that_a_column_adds_to_an_object_are_dropped(tmp_path: Path, name: str):
    """D43: each object of a column has the keys of all. A null of the row itself stays, and so does one in a list."""
    call = {"role": "assistant", "tool_calls": [{"name": "f", "arguments": {"x": 1}}]}
    values = [
        {"messages": [{"role": "user", "content": "a"}, call], "note": None, "ids": [1, None]},
        {"messages": [{"role": "user", "content": "b"}], "note": "n", "ids": None},
    ]
    data = parquet(values) if name == "rows.parquet" else arrow(pa.ipc.new_file, values)
    assert [row.values for row in rows(written(tmp_path / name, data))] == values


def test_a_cell_of_a_column_that_is_no_text_hides_no_other(tmp_path: Path):
    """Parquet does not check that a string is UTF-8."""
    cells = pa.array([b"ok", b"Zo\xeb", b"fine"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"text": cells}), tmp_path / "rows.parquet")
    assert [(row.values, row.fault) for row in rows(tmp_path / "rows.parquet")] == [
        ({"text": "ok"}, None),
        ({}, "column `text` is not UTF-8 (byte 3)"),
        ({"text": "fine"}, None),
    ]


def test_an_empty_file_has_no_rows(tmp_path: Path):
    """D28: the source as a whole may still have some."""
    for name in ("rows.jsonl", "rows.csv", "rows.txt", "rows.json", "rows.jsonl.gz"):
        assert rows(written(tmp_path / name, b"")) == []
    assert rows(written(tmp_path / "array.json", "[]\n")) == []


def refused(file: Path) -> LauncherError:
    started = time.monotonic()
    with pytest.raises(LauncherError) as caught:
        rows(file)
    assert time.monotonic() - started < 1
    return caught.value


def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path):
    """D58: opening a pipe would wait for ever, a device would never end."""
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "folder.jsonl").mkdir()
    (tmp_path / "loop.jsonl").symlink_to(tmp_path / "loop.jsonl")
    (tmp_path / "zero.jsonl").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(tmp_path / "socket.jsonl"))
        for name, what in (("pipe", "a pipe"), ("folder", "a folder"), ("socket", "a socket"), ("zero", "a device")):
            fault = refused(tmp_path / f"{name}.jsonl")
            assert (fault.exit_code, fault.message) == (2, f"{tmp_path}/{name}.jsonl: is {what}, not a file")
    loop = tmp_path / "loop.jsonl"
    assert refused(loop).message == f"{loop}: is, or lies behind, a link that leads back to itself"


def test_a_file_that_vanishes_or_changes_while_it_is_read_is_a_fault_of_the_machine(tmp_path: Path):
    """D51: exit code 4, so that nobody looks for the fault in the rows."""
    file = written(tmp_path / "rows.jsonl", content("rows.jsonl"))
    size = file.stat().st_size
    (chunk,) = chunks(SOURCE, [file])
    written(file, content("rows.jsonl")[:-20])
    with pytest.raises(EnvironmentFault) as shrunk:
        list(chunk.rows())
    file.unlink()
    with pytest.raises(EnvironmentFault) as gone:
        list(chunk.rows())
    assert shrunk.value.message == f"{file}: had {size} bytes, and {size - 20} while it was read"
    assert gone.value.message == f"{file}: no such data file"


def test_an_array_that_memory_should_not_hold_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The hint's command makes of it what is read in pieces."""
    monkeypatch.setattr(text_files, "LARGEST_VALUE_BYTES", 10)
    with pytest.raises(DataError, match="is one JSON array of more than"):
        rows(written(tmp_path / "rows.json", '[{"a": 1}, {"a": 2}]'))


def test_a_folder_stands_for_its_data_files(tmp_path: Path):
    """Text is about the data where there is other data, and is the data where there is none."""
    for name in ("b.jsonl.gz", "a.parquet", ".hidden.jsonl", "README.md", "notes.txt"):
        (tmp_path / name).touch()
    assert [file.name for file in local_files(str(tmp_path))] == ["a.parquet", "b.jsonl.gz"]
    for name in ("b.jsonl.gz", "a.parquet"):
        (tmp_path / name).unlink()
    assert [file.name for file in local_files(str(tmp_path))] == ["notes.txt"]


@pytest.fixture
def memory() -> Any:
    import fsspec

    system = fsspec.filesystem("memory")
    system.store.clear()
    yield system
    system.store.clear()


def test_a_url_may_be_a_glob_or_a_folder(memory: Any):
    """In the order of the names; `max_rows` runs across them."""
    for number in (2, 1):
        memory.pipe(f"/set/part-{number}.jsonl", f'{{"n": {number}}}\n'.encode() * 2)
    memory.pipe("/set/about.md", b"about")
    for url in ("memory://set/part-*.jsonl", "memory://set"):
        found = list(read(SourcePlan("train", url, max_rows=3), None))
        assert [row.values["n"] for row in found] == [1, 1, 2]
    assert found[2].place == "memory:///set/part-2.jsonl:1"


def test_a_url_that_leads_nowhere_says_so(memory: Any):
    with pytest.raises(EnvironmentFault) as caught:
        list(read(SourcePlan("train", "memory://set/gone.jsonl"), None))
    assert caught.value.message == "memory://set/gone.jsonl (source `train`): no file there"


def test_a_protocol_without_its_package_names_the_package():
    """Installing it is all there is to do."""
    pytest.importorskip("fsspec")
    try:
        import s3fs  # noqa: F401

        pytest.skip("s3fs is installed")
    except ImportError:
        pass
    with pytest.raises(EnvironmentFault) as caught:
        list(read(SourcePlan("train", "s3://user:word@bucket/train.jsonl"), None))
    assert caught.value.message == "s3://bucket/train.jsonl (source `train`): Install s3fs to access S3"
    assert caught.value.hint == "pip install s3fs"


def test_the_fingerprint_of_a_url_changes_with_its_contents(tmp_path: Path):
    """Size and time of change, as the file system tells them; nothing is read."""
    source = SourcePlan("train", f"file://{tmp_path}/rows.jsonl")
    assert fingerprint(source) == []
    file = written(tmp_path / "rows.jsonl", '{"a": 1}\n')
    before = fingerprint(source)
    os.utime(file, (1, 1))
    assert [each[:2] for each in before] == [[f"file://{file}", 9]]
    assert fingerprint(source) != before


def test_a_commit_is_the_fingerprint_of_a_hub_dataset():
    """No network is asked for what the recipe pins."""
    assert fingerprint(SourcePlan("train", "me/mine", revision="0123456789abcdef" * 2 + "01234567")) == [
        ["me/mine", "0123456789abcdef0123456789abcdef01234567"]
    ]


@pytest.mark.parametrize("most", [None, 3])
def test_a_dataset_is_read_through_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int | None):
    """`json` is a builder of the library's own, so that no hub is asked; with `max_rows` nothing is copied to the cache."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    file = written(tmp_path / "rows.jsonl", content("rows.jsonl"))
    found = list(read(SourcePlan("train", "json", data_files=(str(file),), max_rows=most), None))
    assert [row.values for row in found] == VALUES[:most]
    assert [row.place for row in found] == [f"json[train] row {number}" for number in range(1, len(found) + 1)]
    assert bool(list((tmp_path / "cache").glob("json/**/*.arrow"))) == (most is None)


def test_a_split_that_is_not_there_is_a_fault_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    file = written(tmp_path / "rows.jsonl", content("rows.jsonl"))
    with pytest.raises(EnvironmentFault) as caught:
        list(read(SourcePlan("train", "json", data_files=(str(file),), split="gone"), None))
    assert caught.value.message.startswith("dataset `json` (source `train`) cannot be loaded: ")


def test_a_url_is_shown_without_what_gives_access():
    """Places stand in `bad_rows.jsonl`, which people share."""
    assert remote.shown("https://me:secret@host/x.jsonl?sig=abc#1") == "https://host/x.jsonl"
    assert remote.shown("s3://key:secret@bucket/a@b/x-?.jsonl") == "s3://bucket/a@b/x-?.jsonl"
    assert remote.shown("zip://x.jsonl::https://me:secret@host/x.zip?sig=abc") == "zip://x.jsonl::https://host/x.zip"
    assert remote.shown("file:///a/x.jsonl") == "file:///a/x.jsonl"
