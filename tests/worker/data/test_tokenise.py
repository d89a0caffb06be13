"""Tokenising once: several processes, interrupted and continued, reused by other weights and other runs. Counted, not timed."""

from __future__ import annotations

import errno
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher.plan.types import SourcePlan
from launcher.runs.paths import RunDir
from tests.support import tiny, trained

LONG = [{"text": f"Line {i}: " + "the answer is five because " * 20} for i in range(3000)]
"""1.7 MB of text: several chunks."""


def run_of(root: Path, data: dict[str, Any] | None = None, **placement: Path) -> RunDir:
    labels = list(placement) or ["train"]
    sources = tuple(SourcePlan(label, label, weight=None if not data else data.get(label)) for label in labels)
    settings = {name: value for name, value in (data or {}).items() if name not in labels}
    plan = tiny.plan(data={"sources": sources, "max_length": 256, **settings})
    placed = {f"data.{label}": str(path) for label, path in placement.items()}
    return tiny.run_dir(root, plan, {"model": str(tiny.model(root.parent / "model")), **placed})


def work(run: RunDir) -> dict[str, Any]:
    return dict(trained.facts(run)["work"])


def test_processes_change_nothing(tmp_path: Path):
    """The same rows in the same order, from one process and from three."""
    data = tiny.jsonl(tmp_path / "train.jsonl", LONG)
    runs = {number: run_of(tmp_path / str(number) / "run", train=data) for number in (1, 3)}
    for number, run in runs.items():
        trained.prepare(run, env={"LAUNCHER_NUM_PROC": str(number)})

    assert work(runs[3])["processes"] == 3
    assert trained.facts(runs[1])["sets"]["train"]["sha256"] == trained.facts(runs[3])["sets"]["train"]["sha256"]


def test_other_weights_tokenise_nothing_again(tmp_path: Path):
    """70/30, then 50/50: the second start reads every row from the cache."""
    files = {
        "a": tiny.jsonl(tmp_path / "a.jsonl", LONG[:400]),
        "b": tiny.jsonl(tmp_path / "b.jsonl", [{"text": row["text"][::-1]} for row in LONG[:300]]),
    }
    first = run_of(tmp_path / "runs" / "one", {"a": 0.7, "b": 0.3}, **files)
    second = run_of(tmp_path / "runs" / "two", {"a": 0.5, "b": 0.5, "packing": True}, **files)
    trained.prepare(first)
    trained.prepare(second)

    assert (work(first)["tokenized_rows"], work(first)["reused_rows"]) == (700, 0)
    assert (work(second)["tokenized_rows"], work(second)["reused_rows"]) == (0, 700)
    got = {label: each["share"] for label, each in trained.facts(first)["mixture"]["sources"].items()}
    assert got == pytest.approx({"a": 0.7, "b": 0.3}, abs=0.005)


def test_an_interrupted_source_goes_on_where_it_was(tmp_path: Path):
    """Shards that were finished stay; only the others are made."""
    data = tiny.jsonl(tmp_path / "train.jsonl", LONG)
    whole = run_of(tmp_path / "a" / "run", train=data)
    trained.prepare(whole)
    again = run_of(tmp_path / "b" / "run", train=data)
    trained.prepare(again)
    cache = again.root.parent / ".cache"
    folder = next((cache / "sources").iterdir())
    parts = sorted(folder.glob("[0-9]*.json"))
    (folder / "facts.json").unlink()
    parts[-1].unlink()  # killed before the last shard was whole
    lost = json.loads(parts[0].read_text())["rows"] * 0 + _rows(folder, parts)
    forget(again, cache)
    trained.prepare(again)

    assert work(again)["tokenized_rows"] == lost
    assert work(again)["tokenized_rows"] + work(again)["reused_rows"] == len(LONG)
    assert trained.facts(again)["sets"]["train"]["sha256"] == trained.facts(whole)["sets"]["train"]["sha256"]


def _rows(folder: Path, parts: list[Path]) -> int:
    return len(LONG) - sum(json.loads(part.read_text())["rows"] for part in parts[:-1])


def forget(run: RunDir, cache: Path) -> None:
    """As if the mixture had not been made: only tokenised sources are left."""
    run.data_facts.unlink()
    for entry in (cache / "prepared").iterdir():
        (entry / "facts.json").unlink()


def test_another_run_links_what_is_prepared(tmp_path: Path):
    """The same files under another name: nothing is tokenised, nothing is copied."""
    data = tiny.jsonl(tmp_path / "train.jsonl", LONG[:100])
    first, second = (run_of(tmp_path / "runs" / name, train=data) for name in ("one", "two"))
    trained.prepare(first)
    trained.prepare(second)
    arrow = [next(run.prepared("train").glob("*.arrow")) for run in (first, second)]

    assert work(second)["from_cache"]
    assert arrow[0].stat().st_ino == arrow[1].stat().st_ino


def test_a_damaged_entry_of_the_cache_is_made_again(tmp_path: Path):
    data = tiny.jsonl(tmp_path / "train.jsonl", LONG[:100])
    first, second = (run_of(tmp_path / "runs" / name, train=data) for name in ("one", "two"))
    trained.prepare(first)
    expected = trained.facts(first)["sets"]["train"]["sha256"]
    next(first.prepared("train").glob("*.arrow")).write_bytes(b"torn")
    trained.prepare(second)

    assert not work(second)["from_cache"]
    assert trained.facts(second)["sets"]["train"]["sha256"] == expected


def test_changed_contents_are_tokenised_again(tmp_path: Path):
    data = tiny.jsonl(tmp_path / "train.jsonl", LONG[:100])
    first = run_of(tmp_path / "runs" / "one", train=data)
    trained.prepare(first)
    tiny.jsonl(data, LONG[:101])
    second = run_of(tmp_path / "runs" / "two", train=data)
    trained.prepare(second)

    assert work(second)["tokenized_rows"] == 101


def test_another_rule_of_what_is_trained_is_another_source(tmp_path: Path):
    """The marks are part of the shards."""
    data = tiny.jsonl(tmp_path / "train.jsonl", [{"prompt": f"Line {i}?", "completion": "five"} for i in range(20)])
    first = run_of(tmp_path / "runs" / "one", train=data)
    second = run_of(tmp_path / "runs" / "two", {"loss_on": "all"}, train=data)
    trained.prepare(first)
    trained.prepare(second)
    trained_tokens = [trained.facts(run)["sets"]["train"]["trained_tokens"] for run in (first, second)]

    assert work(second)["tokenized_rows"] == 20
    assert trained_tokens[1] > trained_tokens[0]


def test_rows_of_several_sources_are_shuffled_by_the_seed(tmp_path: Path):
    """Read in order (`train_sampling_strategy: sequential`), a mixture must not be one source after the other."""
    files = {
        name: tiny.jsonl(tmp_path / f"{name}.jsonl", [{"text": f"{name} {i} five"} for i in range(40)]) for name in "ab"
    }
    orders = []
    for number, seed in enumerate((1, 1, 2)):
        run = run_of(tmp_path / "runs" / str(number), {"mixture": {"seed": seed}}, **files)
        trained.prepare(run)
        orders.append([text.split()[0] for text in trained.texts(run, "train")])

    assert 8 < orders[0][:40].count("a") < 32
    assert orders[0] == orders[1] != orders[2]


def test_max_epochs_is_arithmetic_and_tokenises_nothing(tmp_path: Path):
    data = tiny.jsonl(tmp_path / "train.jsonl", LONG[:50])
    first, second = (run_of(tmp_path / "runs" / name, train=data) for name in ("one", "two"))
    trained.prepare(first)
    plan = tiny.plan(data={"sources": (SourcePlan("train", "train", max_epochs=0.5),), "max_length": 256})
    tiny.run_dir(second.root, plan, json.loads(second.placement.read_text()))
    trained.prepare(second)

    assert work(second)["tokenized_rows"] == 0
    assert trained.facts(second)["sets"]["train"]["rows"] in (24, 25, 26)


def test_a_weighted_source_of_which_nothing_is_left_stops_the_run(tmp_path: Path):
    """A copy of another source has no row of its own, and no share can be kept."""
    files = {name: tiny.jsonl(tmp_path / f"{name}.jsonl", LONG[:30]) for name in "ab"}
    note = trained.prepare(run_of(tmp_path / "runs" / "one", {"a": 1.0, "b": 1.0}, **files), code=2)

    assert note["error"].startswith(f"{tmp_path}/b.jsonl:1: no row of source `b` is left to train")
    assert f"{tmp_path}/a.jsonl:1" in note["error"]
    trained.prepare(run_of(tmp_path / "runs" / "two", **files))  # without weights: each row once


def test_the_first_thousand_bad_rows_are_the_same_every_time(tmp_path: Path):
    """Where bad rows stop the run, reading ends early, and says so; `drop` reads all."""
    rows = [{"text": ""} if i % 2 else {"text": f"{i} " + "word " * 200} for i in range(6000)]
    data = tiny.jsonl(tmp_path / "train.jsonl", rows)
    run = run_of(tmp_path / "runs" / "one", train=data)
    said = [trained.prepare(run, code=2, env={"LAUNCHER_NUM_PROC": number})["error"] for number in "213"]
    listed = [json.loads(line)["place"] for line in run.bad_rows.read_text().splitlines()]

    assert said[0] == said[1] == said[2]
    assert "1,000 bad rows, listed in bad_rows.jsonl; reading ended there" in said[0]
    assert listed == [f"{data}:{2 * i}" for i in range(1, 1001)]
    dropped = run_of(tmp_path / "runs" / "two", {"on_bad_row": "drop"}, train=data)
    assert "3,000 bad rows in all" in trained.prepare(dropped, code=2)["error"]


def test_a_full_cache_that_cannot_be_written_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A cache that a team shares; what it lacks cannot be made there, and that is said."""
    from launcher.runs import cache

    opened: list[str] = []
    entry = cache.Cache(tmp_path / "none")
    monkeypatch.setattr(Path, "mkdir", _read_only)
    with entry.lock("key", lambda: opened.append("waiting")):
        opened.append("held")

    assert opened == ["held"]


def _read_only(*_: object, **__: object) -> None:
    raise OSError(errno.EROFS, "Read-only file system")


def test_rows_of_one_group_stay_on_one_side(tmp_path: Path):
    """Five rows of each of 40 users: a user is trained or measured, never both."""
    rows = [{"text": f"User {user} says {i} times five.", "user": user} for user in range(40) for i in range(5)]
    held = SourcePlan("held", None, held_out_from="all", fraction=0.2, group_by="user")
    plan = tiny.plan(eval_sources=(held,), data={"max_length": 128})
    data = tiny.jsonl(tmp_path / "train.jsonl", rows)
    run = tiny.run_dir(tmp_path / "run", plan, {"model": str(tiny.model(tmp_path / "model")), "data.train": str(data)})
    trained.prepare(run)
    users = {label: {text.split()[1] for text in trained.texts(run, label)} for label in ("train", "eval-held")}

    assert len(users["eval-held"]) == 8
    assert not users["train"] & users["eval-held"]
    assert len(users["train"]) == 32


def test_a_row_without_its_group_is_bad(tmp_path: Path):
    held = SourcePlan("held", None, held_out_from="all", fraction=0.2, group_by="user")
    data = tiny.jsonl(tmp_path / "train.jsonl", [{"text": "One.", "user": 1}, {"text": "Two."}])
    run = tiny.run_dir(
        tmp_path / "run",
        replace(tiny.plan(eval_sources=(held,))),
        {"model": str(tiny.model(tmp_path / "model")), "data.train": str(data)},
    )
    note = trained.prepare(run, code=2)

    assert note["error"].startswith(f"{data}:2: has no `user`, by which rows are kept together (`group_by`)")
