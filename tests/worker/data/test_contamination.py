"""Which training rows count as copies of eval rows; token ids are written out, so that overlaps can be counted by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from launcher.worker.data.contamination import EvalRows, leaks
from launcher.worker.data.duplicates import exact, near
from launcher.worker.data.encode import Encoded
from launcher.worker.data.shards import Draft, SourceRows, commit

ROW = list(range(100, 140))  # 40 tokens, all different
OTHER = list(range(500, 540))


def source(folder: Path, label: str, rows: list[list[int]], *, trained_from: int = 30) -> SourceRows:
    """Rows of one source in shards of two."""
    (folder / label).mkdir(parents=True)
    for number, start in enumerate(range(0, len(rows), 2)):
        draft = Draft()
        for offset, ids in enumerate(rows[start : start + 2]):
            draft.add(Encoded(ids, [(min(trained_from, len(ids) - 1), len(ids))]), start + offset + 1, None, None)
        draft.write(folder / label / f"{number:08d}.arrow", {"file": f"{label}.jsonl:", "bytes": 0, "bad": []})
    commit(folder / label, {})
    return SourceRows(label, folder / label)


def found(tmp_path: Path, train: list[list[int]], measured: list[list[int]]) -> list[int]:
    """Numbers of the training rows that leak, for eval rows of 30 prompt tokens and an answer."""
    rows = source(tmp_path, "train", train)
    held = source(tmp_path, "eval", measured)
    parts = [EvalRows("eval", held, np.arange(len(held)))]
    return [leak.row for leak in leaks([rows], {"train": np.arange(len(rows))}, parts)]


def fillers(number: int) -> list[list[int]]:
    """Rows that share no token with the others."""
    return [list(range(1000 + 50 * i, 1040 + 50 * i)) for i in range(number)]


def test_an_equal_row_leaks(tmp_path: Path):
    assert found(tmp_path, [OTHER, ROW, *fillers(3)], [ROW]) == [1]


def test_a_row_with_one_token_changed_leaks(tmp_path: Path):
    """Of 40 tokens, 39 stand in runs of 10 that both rows have."""
    assert found(tmp_path, [[*ROW[:20], 9, *ROW[21:]]], [ROW]) == [0]


def test_the_same_prompt_with_another_answer_leaks(tmp_path: Path):
    assert found(tmp_path, [[*ROW[:30], *range(700, 760)]], [ROW]) == [0]


def test_less_than_half_does_not_leak(tmp_path: Path):
    """14 of 30 prompt tokens, and 14 of 40 in all."""
    assert found(tmp_path, [[*ROW[:14], *range(700, 740)]], [ROW]) == []


def test_half_in_two_places_leaks(tmp_path: Path):
    """Two runs of 12: 24 of 40 tokens, wherever they stand."""
    assert found(tmp_path, [[*ROW[:12], 7, 8, 9, *ROW[28:]]], [ROW]) == [0]


def test_what_eval_rows_share_tells_nothing(tmp_path: Path):
    """A system prompt of 25 tokens in every row, training and eval, is no leak."""
    system = list(range(25))
    train = [[*system, *row] for row in fillers(4)]
    measured = [[*system, *ROW[:15]], [*system, *OTHER[:15]]]

    assert found(tmp_path, train, measured) == []


def test_what_many_training_rows_share_tells_nothing(tmp_path: Path):
    """One eval row alone cannot show what is a template; that twelve training rows have it does."""
    system = list(range(25))
    train = [[*system, *row] for row in fillers(12)]

    assert found(tmp_path, train, [[*system, *ROW[:10]]]) == []


def test_short_rows_leak_only_as_a_whole(tmp_path: Path):
    """Below 20 shared tokens a match says little."""
    short = list(range(12))

    assert found(tmp_path, [[*short, 99], short], [short]) == [1]


def test_a_run_across_two_rows_is_none(tmp_path: Path):
    """The last tokens of one row and the first of the next are no text: 14 tokens in each are too few, 23 across would do."""
    assert found(tmp_path, [[1, 2, 3, *ROW[:14]], [*ROW[14:28], 4, 5]], [ROW]) == []
    assert found(tmp_path / "b", [ROW[:20], ROW[20:]], [ROW]) == [0, 1]


def test_the_eval_row_is_named_with_its_own_source(tmp_path: Path):
    """A set that is held out from two sources has two rows of the same number."""
    train = source(tmp_path, "train", [OTHER, ROW])
    held = [source(tmp_path, label, [row]) for label, row in (("one", ROW), ("two", OTHER))]
    parts = [EvalRows("eval", each, np.arange(1)) for each in held]
    found_ = leaks([train], {"train": np.arange(2)}, parts)

    assert [(leak.row, leak.measured.source.place(leak.eval_row)) for leak in found_] == [
        (0, "two.jsonl:1"),
        (1, "one.jsonl:1"),
    ]


def test_equal_rows_are_repeats_of_the_first_one(tmp_path: Path):
    """Across sources, in the order of the sources."""
    first = source(tmp_path, "a", [ROW, OTHER, ROW])
    second = source(tmp_path, "b", [OTHER, fillers(1)[0], ROW])
    usable = {"a": np.arange(3), "b": np.arange(3)}
    again = [(each.label, each.row, each.of_label, each.of_row) for each in exact([first, second], usable)]

    assert again == [("a", 2, "a", 0), ("b", 0, "a", 1), ("b", 2, "a", 0)]


def test_nearly_equal_rows_are_found_on_request(tmp_path: Path):
    """Of 36 runs of 5 tokens, one changed token takes 5: 31 of 41 in either are in both at the border, none in the others.

    With a token changed at the end only one run differs: 35 of 37, well above four fifths.
    """
    rows = source(tmp_path, "a", [ROW, [*ROW[:-1], 9], *fillers(3)])
    again = [(each.row, each.of_row) for each in near([rows], {"a": np.arange(5)})]

    assert again == [(1, 0)]


def test_places_name_file_and_line(tmp_path: Path):
    assert source(tmp_path, "a", [ROW, OTHER, ROW]).place(2) == "a.jsonl:3"
