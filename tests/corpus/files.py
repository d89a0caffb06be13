"""Files that are not what their name says, or are cut, or must not be opened."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

from tests.corpus.case import (
    BAD,
    ROWS,
    TEXT,
    Case,
    Plain,
    Prepared,
    Refused,
    Writer,
    conversations,
    line,
    lines,
    recipe,
    texts,
)
from tests.corpus.rows import DROP, HERE
from tests.support import tiny

CSV = "text,mood\n" + "".join(f'"{row["question"]} {row["answer"]}",calm\n' for row in tiny.words(ROWS))
CSV_RECIPE = recipe(source="path: train.csv")
CSV_PLAIN = Plain("train.csv", "csv", config={"assistant_only_loss": False})


def table(text: str) -> Writer:
    """Writes `train.csv`."""
    return lambda folder: (folder / "train.csv").write_text(text, encoding="utf-8")


def spoilt_line(text: str) -> str:
    """The table with another line where the bad one stands."""
    kept = CSV.splitlines(keepends=True)
    return "".join([*kept[: BAD - 1], text + "\n", *kept[BAD:]])


def _parquet(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(
        pa.Table.from_pylist([{"text": row["answer"]} for row in tiny.words(ROWS)]), folder / "train.parquet"
    )


def _cut_parquet(folder: Path) -> None:
    _parquet(folder)
    whole = (folder / "train.parquet").read_bytes()
    (folder / "train.parquet").write_bytes(whole[:-40])


def _json_named_parquet(folder: Path) -> None:
    texts()(folder)
    (folder / "train.jsonl").rename(folder / "train.parquet")


def _leftovers(folder: Path) -> None:
    """What a copy in progress and an editor leave beside the data."""
    tiny.jsonl(folder / "data" / "a.jsonl", tiny.messages(6))
    tiny.jsonl(folder / "data" / "b.jsonl.tmp", tiny.messages(6, seed=1))
    (folder / "data" / "checkpoint-5").mkdir()


def _link_loop(folder: Path) -> None:
    (folder / "train.jsonl").symlink_to("other.jsonl")
    (folder / "other.jsonl").symlink_to("train.jsonl")


def _many(folder: Path) -> None:
    for number, row in enumerate(conversations(150)):
        tiny.jsonl(folder / "data" / f"{number:05d}.jsonl", [row])


CASES = (
    Case(
        "D21", "a byte order mark", Prepared(ROWS), lines(lambda each: b"\xef\xbb\xbf" + b"\n".join(each)), plain=TEXT
    ),
    Case("D22", "lines end in CR LF", Prepared(ROWS), line(lambda each: each + b"\r"), plain=TEXT),
    Case(
        "D23",
        "the file is in UTF-16",
        Refused(("train.jsonl", "UTF-16"), hint="iconv"),
        lines(lambda each: b"\n".join(each).decode().encode("utf-16")),
        plain=TEXT,
    ),
    Case(
        "D23",
        "the file is in UTF-16 without a mark",
        Refused(("train.jsonl", "UTF-16"), hint="iconv"),
        lines(lambda each: b"\n".join(each).decode().encode("utf-16-le")),
        variant="no-mark",
        plain=TEXT,
    ),
    Case(
        "D24",
        "one byte is Latin-1",
        Refused((*HERE, "UTF-8", "byte 15")),
        line(lambda each: each[:14] + b"\xe9" + each[14:]),
        plain=TEXT,
    ),
    Case(
        "D24",
        "one byte in 120 rows is Latin-1, and bad rows are dropped",
        Prepared(119, bad=(BAD,)),
        line(lambda each: each[:14] + b"\xe9" + each[14:], number=120),
        recipe(data=DROP),
        variant="drop",
        plain=Plain(untried="the same input as D24"),
    ),
    Case("D25", "a comma before the closing brace", Refused(HERE), line(lambda each: each[:-1] + b",}"), plain=TEXT),
    Case(
        "D25",
        "a comma too many in one of 120 rows, and bad rows are dropped",
        Prepared(119, bad=(BAD,)),
        line(lambda each: each[:-1] + b",}", number=120),
        recipe(data=DROP),
        variant="drop",
        plain=Plain(untried="the same input as D25"),
    ),
    Case(
        "D26",
        "the last line is cut off",
        Refused((f"train.jsonl:{ROWS}", "cut")),
        lines(lambda each: b"\n".join(each)[:-9]),
        plain=TEXT,
    ),
    Case("D27", "blank lines", Prepared(ROWS), lines(lambda each: b"\n" + b"\n\n \n".join(each) + b"\n\n"), plain=TEXT),
    Case("D28", "an empty file", Refused(("train.jsonl", "empty")), lines(lambda _: b""), plain=TEXT),
    Case(
        "D28",
        "only blank lines",
        Refused(("train.jsonl", "no rows")),
        lines(lambda _: b"\n \n"),
        variant="blank",
        plain=TEXT,
    ),
    Case(
        "D29",
        "a JSON array in a .jsonl file",
        Prepared(ROWS),
        lines(lambda each: b"[\n" + b",\n".join(each) + b"\n]\n"),
        plain=TEXT,
    ),
    Case(
        "D34", "gzip in a .jsonl file", Prepared(ROWS), lines(lambda each: gzip.compress(b"\n".join(each))), plain=TEXT
    ),
    Case(
        "D45",
        "a parquet file without its end",
        Refused(("train.parquet",)),
        _cut_parquet,
        recipe(source="path: train.parquet"),
        variant="cut",
        plain=Plain("train.parquet", "parquet", config=TEXT.config),
    ),
    Case(
        "D45",
        "JSON in a .parquet file",
        Refused(("train.parquet",)),
        _json_named_parquet,
        recipe(source="path: train.parquet"),
        variant="json",
        plain=Plain("train.parquet", "parquet", config=TEXT.config),
    ),
    Case(
        "D46",
        "a pattern that no file matches",
        Refused(("recipe.yaml:4", "data/*.jsonl")),
        texts(),
        recipe(source='path: "data/*.jsonl"'),
        variant="nothing",
        plain=Plain("data/*.jsonl", config=TEXT.config),
    ),
    Case(
        "D46",
        "a pattern that also matches half-copied files and folders",
        Refused(("recipe.yaml:4", "b.jsonl.tmp")),
        _leftovers,
        recipe(source='path: "data/*"'),
        variant="too-much",
        plain=Plain("data/*"),
    ),
    Case(
        "D57",
        "a quote within a quoted cell",
        Refused((f"train.csv:{BAD}", "quote")),
        table(spoilt_line('"She said "five" and left",calm')),
        CSV_RECIPE,
        variant="quotes",
        plain=CSV_PLAIN,
    ),
    Case(
        "D57",
        "a cell more than the header has",
        Refused((f"train.csv:{BAD}",)),
        table(spoilt_line("What is 3, 4 and 5?,calm")),
        CSV_RECIPE,
        variant="cells",
        plain=CSV_PLAIN,
    ),
    Case(
        "D57",
        "semicolons instead of commas",
        Refused(("train.csv:1", "`;`")),
        table(CSV.replace('",calm', '";calm').replace("text,mood", "text;mood")),
        CSV_RECIPE,
        variant="delimiter",
        plain=CSV_PLAIN,
    ),
    Case(
        "D57",
        "no header",
        Refused(("train.csv",)),
        table(CSV.partition("\n")[2]),
        CSV_RECIPE,
        variant="header",
        plain=CSV_PLAIN,
    ),
    Case("D58", "a link to itself", Refused(("train.jsonl", "link")), _link_loop, variant="loop", plain=TEXT),
    Case(
        "D58",
        "a pipe",
        Refused(("train.jsonl", "a pipe")),
        lambda folder: os.mkfifo(folder / "train.jsonl"),
        variant="pipe",
        plain=TEXT,
    ),
    Case(
        "D58",
        "a folder without data",
        Refused(("train.jsonl", "folder")),
        lambda folder: (folder / "train.jsonl").mkdir(),
        variant="folder",
        plain=TEXT,
    ),
    Case(
        "D58",
        "a device",
        Refused(("train.jsonl", "a device")),
        lambda folder: (folder / "train.jsonl").symlink_to("/dev/null"),
        variant="device",
        plain=TEXT,
    ),
    Case(
        "D59",
        "hundreds of files of one row",
        Prepared(150),
        _many,
        recipe(source="path: data"),
        plain=Plain("data/*.jsonl"),
    ),
)
