"""A hub's data set read from what `launcher fetch` brought, without a network: the rows that `datasets` gives with one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import hub, tiny

pytestmark = pytest.mark.slow

ONLINE = """
import json, sys
from dataclasses import asdict
from launcher.plan.pins import Want, dumps
from launcher.plan.types import SourcePlan
from launcher.worker.data.remote import hub_chunks
from launcher.worker.fetcher import Fetcher

answer = []
for asked in json.load(sys.stdin):
    streamed = {"max_rows": asked.pop("max_rows", None)}
    pin = Fetcher().fetch("data.x", Want("dataset", asked.pop("path"), "main", asked), None, None)
    more = {**asked, **streamed, "data_files": tuple(asked["data_files"]) if "data_files" in asked else None}
    source = SourcePlan("x", pin.repo, revision=pin.commit, **more)
    rows = [row.values for chunk in hub_chunks(source) for row in chunk.rows()]
    answer.append({"rows": rows, "files": sorted(pin.files), "source": {**asdict(source), "hub_files": pin.splits}})
print(json.dumps(answer))
"""
OFFLINE = """
import json, sys
from launcher.plan.types import SourcePlan
from launcher.worker.data.remote import hub_chunks

print(json.dumps([
    [row.values for chunk in hub_chunks(SourcePlan(**source)) for row in chunk.rows()] for source in json.load(sys.stdin)
]))
"""
CARD = """---
configs:
- config_name: main
  data_files: [{split: train, path: main/train-*.parquet}, {split: test, path: main/test.parquet}]
- config_name: other
  data_files: other.parquet
---
"""
CODES = """---
configs:
- {config_name: codes, sep: ";", data_files: codes.csv}
dataset_info:
- config_name: codes
  features: [{name: code, dtype: string}, {name: n, dtype: float64}]
---
"""


def answered(program: str, request: object, env: dict[str, str]) -> list:
    done = subprocess.run([sys.executable, "-c", program], input=json.dumps(request), env={**os.environ, **env}, capture_output=True, text=True, timeout=240, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def asked() -> list[dict]:
    return [
        {"path": "me/plain"},
        {"path": "me/plain", "split": "test"},
        {"path": "me/plain", "split": "train[:3]+test[1:]"},
        {"path": "me/plain", "data_files": ["more/*.jsonl"]},
        {"path": "me/card", "name": "main"},
        {"path": "me/card", "name": "other"},
        {"path": "me/codes"},
        {"path": "me/codes", "max_rows": 1000},
    ]


@pytest.fixture(scope="module")
def both(tmp_path_factory, asked):
    """What came with a network, and the rows without."""
    folder = tmp_path_factory.mktemp("data")
    made(folder)
    with hub.serving() as server:
        for name in ("plain", "card", "codes"):
            server.push("datasets", f"me/{name}", folder / name)
        online = answered(ONLINE, asked, server.environment(folder / "home"))
    env = server.environment(folder / "home", offline=True) | {"HF_DATASETS_CACHE": str(folder / "empty")}
    return online, answered(OFFLINE, [each["source"] for each in online], env)


def made(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    tiny.jsonl(folder / "plain" / "train.jsonl", tiny.words(8))
    tiny.jsonl(folder / "plain" / "test.jsonl", tiny.words(3, seed=5))
    tiny.jsonl(folder / "plain" / "more" / "a.jsonl", tiny.words(2, seed=7))
    (folder / "card" / "main").mkdir(parents=True)
    for name, first in (("main/train-0", 0), ("main/train-1", 10), ("main/test", 20), ("other", 30)):
        table = pa.table({"n": range(first, first + 3), "text": [None, "b", "c"]})
        pq.write_table(table, folder / "card" / f"{name}.parquet")
    (folder / "codes").mkdir()
    (folder / "codes" / "codes.csv").write_text("code;n\n007;1\n010;2\n")
    (folder / "codes" / "README.md").write_text(CODES)
    (folder / "card" / "README.md").write_text(CARD)


def test_the_rows_are_those_that_come_from_the_hub(both, asked):
    """Splits, slices, single files, configurations, and types that only the card states."""
    online, offline = both
    assert len(online) == len(asked)
    assert [each["rows"] for each in online] == offline


def test_the_rows_are_those_that_were_written(both):
    """1 is a fraction because the card says so; `datasets` reads `007` as a number and makes a text of that."""
    rows = dict(enumerate(both[1]))
    assert [len(rows[number]) for number in range(8)] == [8, 3, 3 + 2, 2, 6, 3, 2, 2]
    assert rows[1] == tiny.words(3, seed=5)
    assert rows[2] == tiny.words(8)[:3] + tiny.words(3, seed=5)[1:]
    assert rows[6] == [{"code": "7", "n": 1.0}, {"code": "10", "n": 2.0}]


def test_only_the_files_of_what_is_read_were_fetched(both):
    """The other split and the other configuration stay where they are."""
    assert [each["files"] for each in both[0]] == [
        ["train.jsonl"],
        ["test.jsonl"],
        ["test.jsonl", "train.jsonl"],
        ["more/a.jsonl"],
        ["README.md", "main/train-0.parquet", "main/train-1.parquet"],
        ["README.md", "other.parquet"],
        ["README.md", "codes.csv"],
        ["README.md", "codes.csv"],
    ]
