"""The corpus of bad input: nothing wrong is trained on in silence, and every refusal says where and what to do."""

import re

import pytest

from tests.corpus.case import Case, Prepared, Refused
from tests.corpus.cases import ALL, IDS
from tests.corpus.driving import drive
from tests.support import golden


def names(kind):
    return [pytest.param(case, id=case.name) for case in ALL if isinstance(case.expect, kind)]


def test_the_corpus_is_whole():
    """An entry that is left out is one that may train in silence."""
    assert sorted({case.id for case in ALL}) == sorted(IDS)
    assert len({case.name for case in ALL}) == len(ALL)


@pytest.mark.parametrize("case", names(Refused))
def test_every_refusal_is_held_to_a_place(case: Case):
    """What a message must hold includes a file, a folder or a dataset, so that no case passes with a text about nothing."""
    place = re.compile(r"\.(?:jsonl|csv|parquet|jinja|json|yaml|safetensors)\b|DIR/|me/unknown|`train`")

    assert any(place.search(part) for part in case.expect.names)


@pytest.mark.parametrize("case", names(Refused))
def test_what_is_wrong_is_refused_by_name(case: Case, tmp_path):
    """Before anything trains: the exit code of bad input, the file or dataset, the line where a row is at fault, and a hint."""
    said = drive(case, tmp_path)

    assert said.code == case.expect.code
    assert [part for part in case.expect.names if part not in said.text] == []
    hints = re.findall(r"^hint:  (.+)$", said.text, re.MULTILINE)
    assert hints
    assert case.expect.hint in "\n".join(hints)
    assert "Traceback" not in said.text
    golden.check(f"corpus/{case.name}.txt", f"{said.text}exit {said.code}\n")


@pytest.mark.parametrize("case", names(Prepared))
def test_what_is_left_out_is_counted_and_the_rest_is_fine(case: Case, tmp_path):
    """Every row is prepared, or stands with its line among the bad or the removed ones."""
    said = drive(case, tmp_path)

    assert said.code == 0, said.text
    assert said.facts["sets"]["train"]["rows"] == case.expect.rows
    assert [row["place"].rpartition(":")[2] for row in said.rows_of(said.run.bad_rows)] == [
        str(at) for at in case.expect.bad
    ]
    assert len(said.rows_of(said.run.removed_rows)) == case.expect.removed
    assert [part for part in case.expect.warned if part not in said.warnings] == []
    assert dict(case.expect.counts).items() <= said.facts["sources"]["train"].items()
    if case.expect.check is not None:
        case.expect.check(said.run)
