"""What `inspect` shows is what the trainer trains: compared tensor by tensor with TRL's collator."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from launcher.errors import EnvironmentFault, UsageError
from launcher.executors import sample
from launcher.plan.types import SourcePlan
from launcher.runs.paths import RunDir
from launcher.worker.data import look
from launcher.worker.job import load
from tests.support import tiny, trained, warm

SOURCES = (SourcePlan("train", "train.jsonl"), SourcePlan("prose", "prose.jsonl", format="text"))
PROSE = [{"text": f"Number {i} is {'very ' * (i % 30)}long, é 你 🙂."} for i in range(40)]
STRATEGIES = ["unpacked", "bfd", "bfd_split", "wrapped"]


def made(folder: Path, strategy: str = "unpacked") -> RunDir:
    """40 conversations and 40 texts of up to 40 tokens, in rows of 64 tokens."""
    data = {"max_length": 64, "packing": strategy != "unpacked", "max_cut_fraction": 1.0, "deduplicate": "none"}
    data |= {"packing_strategy": strategy} if strategy != "unpacked" else {}
    plan = tiny.plan(data=data, eval_sources=(SourcePlan("held", None, held_out_from="train", fraction=0.1),))
    plan = replace(plan, data=replace(plan.data, sources=SOURCES))
    prose = tiny.jsonl(folder / "prose.jsonl", PROSE)
    return trained.run_dir(folder / "run", plan, tiny.messages(40), **{"data.prose": str(prose)})


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunDir]:
    return {strategy: made(tmp_path_factory.mktemp(strategy), strategy) for strategy in STRATEGIES}


def seen(run: RunDir, rows: int = 3, source: str | None = None) -> dict[str, Any]:
    return look.look(load(run.root), rows=rows, source=source)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_trained_tokens_are_those_of_the_collator(runs: dict[str, RunDir], strategy: str):
    """Every row, every token, every border: otherwise `inspect` would be a picture of something else."""
    found = warm.run("tests.worker.data.look_cases:compared", {"run_dir": str(runs[strategy].root)}).value

    assert found["differing"] == []
    assert found["texts"], "pieces of text do not join to the text of the row"
    assert found["rows"] > 10
    assert (found["examples"] > found["rows"]) == (strategy != "unpacked")
    assert found["trained"][0] == found["trained"][1]


def test_the_same_rows_of_each_source_every_time(runs: dict[str, RunDir]):
    """Three of each source and of the eval set, each holding something of the source it was chosen for."""
    found = seen(runs["bfd"])

    assert found == seen(runs["bfd"])
    assert [row["source"] for row in found["rows"]] == ["train"] * 3 + ["prose"] * 3 + ["held"] * 3
    assert all(row["source"] in {each["source"] for each in row["examples"]} for row in found["rows"][:6])
    assert [each["number"] for each in seen(runs["bfd"], rows=1000, source="held")["rows"]] == [0, 1, 2, 3]


def test_the_rows_of_a_source_are_all_that_hold_something_of_it(runs: dict[str, RunDir]):
    """In packed rows most sources are everywhere: one row too few or too many would not be noticed in three."""
    run = runs["bfd"]
    one = look.PreparedSet(run.prepared("train"), load(run.root).data_facts()["sets"]["train"]["rows"])
    held = [{each["source"] for each in one.row(number, lambda _: "")["examples"]} for number in range(one.rows)]
    for label in ("train", "prose"):
        assert one.rows_of(label).tolist() == [number for number, labels in enumerate(held) if label in labels]


def test_one_source_can_be_asked_for(runs: dict[str, RunDir]):
    """Of a mixture, the rows that are new."""
    assert {row["source"] for row in seen(runs["unpacked"], rows=5, source="prose")["rows"]} == {"prose"}


def with_folders(run: RunDir) -> None:
    """Note in the training set where its sources lie in the cache, as `prepare` does."""
    origin = run.prepared("train") / "origin.npz"
    stored = dict(np.load(origin))
    by_file = {}
    for part in (run.root.parent / ".cache" / "sources").glob("*/0*.json"):
        by_file[Path(json.loads(part.read_text())["file"]).stem] = part.parent.name
    labels = [str(label) for label in stored["labels"]]
    folders = np.array([next(name for file, name in by_file.items() if file.startswith(label)) for label in labels])
    origin.unlink()  # the cache has it under another name, and must keep it as it is
    np.savez(origin, **{**stored, "folders": folders})


def test_the_place_of_a_row_is_known_while_its_source_is_in_the_cache(tmp_path: Path):
    """File and line, so that a bad row can be put right; without the cache, the row is shown without them."""
    run = made(tmp_path)
    with_folders(run)
    lines = (tmp_path / "train.jsonl").read_text().splitlines()
    rows = seen(run, rows=1000, source="train")["rows"]
    assert len(rows) == 36
    for row in rows:
        file, _, line = row["examples"][0]["place"].rpartition(":")
        assert Path(file).name == "train.jsonl"
        question = json.loads(lines[int(line) - 1])["messages"][0]["content"]
        assert f"user\n{question}<" in "".join(text for _, text in row["examples"][0]["segments"])
    shutil.rmtree(tmp_path / ".cache")
    assert {row["examples"][0]["place"] for row in seen(run, source="train")["rows"]} == {None}


def test_without_the_note_of_origins_rows_are_shown_and_the_lack_is_said(tmp_path: Path):
    """Data prepared by hand or by an older launcher can still be read."""
    run = made(tmp_path)
    (run.prepared("train") / "origin.npz").unlink()
    found = seen(run)

    assert [row["source"] for row in found["rows"]] == [None] * 3 + ["held"] * 3
    assert "`--source` cannot choose" in found["notes"][0]


def test_a_piece_of_text_keeps_the_blank_that_some_tokenizers_drop():
    """SentencePiece's decoder takes the blank in front of the first word away: `a` + `b` would be read as `ab`."""
    words = ["the", "answer", "is", "five"]

    def decode(ids: Any) -> str:
        return " ".join(words[i] for i in ids)

    ids, on = np.array([0, 1, 2, 3]), np.array([False, False, True, True])
    assert list(look.segments(ids, on, decode)) == [(False, "the answer"), (True, " is five")]


def test_the_first_token_of_an_example_is_never_trained():
    """Nothing stands before it to predict it; TRL masks it in packed rows, and the loss shifts it away in others."""
    row = {"input_ids": [5, 6, 7, 8], "labels": [5, 6, 7, -100], "seq_lengths": [2, 2]}
    assert look.trained_tokens(row).tolist() == [False, True, False, False]
    assert look.trained_tokens({**row, "seq_lengths": None}).tolist() == [False, True, True, False]


def test_rows_come_through_a_process_of_their_own_without_torch(runs: dict[str, RunDir]):
    """A look must not cost the seconds that torch takes to load, and what libraries print must not get into it."""
    found = sample.rows(runs["bfd"], number=1, source="prose")
    assert found == seen(runs["bfd"], rows=1, source="prose")
    program = (
        "import sys; from launcher.worker import stage; stage.main(*sys.argv[1:]); print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(runs["bfd"].root), "inspect", "1"], capture_output=True, text=True, check=True
    )  # fmt: skip
    assert not {"torch", "transformers", "datasets", "trl"} & set(done.stderr.split())


def test_a_second_prepare_loads_nothing_of_torchs_family(runs: dict[str, RunDir]):
    """Data that is ready is found so in a moment."""
    program = (
        "import sys; from launcher.worker import stage; code = stage.main(*sys.argv[1:]); print(code, *sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(runs["bfd"].root), "prepare"], capture_output=True, text=True, check=True
    )  # fmt: skip
    code, *modules = done.stdout.split()
    assert code == "0"
    assert not {"torch", "transformers", "datasets", "trl", "tokenizers", "numpy", "pyarrow"} & set(modules)


def test_a_source_that_is_not_there_is_named_with_those_that_are(runs: dict[str, RunDir]):
    """Before a process is started for it."""
    with pytest.raises(UsageError, match="no source `pros`") as caught:
        sample.rows(runs["bfd"], number=1, source="pros")
    assert caught.value.hint == "did you mean `prose`? Sources of run: train, prose, held"
    with pytest.raises(UsageError, match="wanted 0 or more"):
        sample.rows(runs["bfd"], number=-1, source=None)


def test_what_is_missing_is_one_sentence(tmp_path: Path, runs: dict[str, RunDir]):
    """The worker's error arrives as the launcher's own."""
    run = made(tmp_path)
    (run.tokenizer / "tokenizer.json").unlink()
    with pytest.raises(EnvironmentFault, match=r"tokenizer\.json is missing: the rows cannot be read") as caught:
        sample.rows(run, number=1, source=None)
    assert caught.value.hint == "run the stage `prepare`"
