"""Strict YAML: what is read as what, and what is refused where."""

import math
import time

import pytest

from launcher.errors import RecipeError
from launcher.recipe import yaml
from launcher.recipe.nodes import Table, find, plain


def read(text):
    return plain(yaml.read_text(text, "x"))


def refused(data):
    with pytest.raises(RecipeError) as caught:
        yaml.read(data if isinstance(data, bytes) else data.encode(), "x")
    return caught.value


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("2e-4", 0.0002),
        ("1e-5", 0.00001),
        ("1.", 1.0),
        (".5", 0.5),
        ("+3", 3),
        ("-0.0", 0.0),
        ("0x1F", 31),
        ("0o17", 15),
        ("true", True),
        ("False", False),
        ("~", None),
        ("null", None),
    ],
)
def test_numbers_and_words_of_yaml_1_2(written, value):
    """The core schema of YAML 1.2 decides; PyYAML's 1.1 reads `2e-4` as text."""
    got = read(f"a: {written}")["a"]
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    "written", ["no", "on", "yes", "off", "y", "12:30:00", "2024-01-31", "1_000", "1e", "e5", ".", "-", "1.2.3", "0b1"]
)
def test_what_yaml_1_1_would_have_changed_stays_text(written):
    """Norway, sexagesimal numbers, dates and underscores are all text."""
    assert read(f"[{written}]" if written != "-" else "a: '-'") in ([written], {"a": "-"})


def test_leading_zero_is_refused_with_both_meanings():
    """010 is 8 to some readers and 10 to others."""
    error = refused("launch: {nodes: 010}")
    assert (error.place.line, error.place.column) == (1, 17)
    assert "leading zero" in error.message
    assert error.hint == 'write `10`, or `"010"` if it is text'


@pytest.mark.parametrize("written", [".nan", ".inf", "-.INF", "1e999", "1" * 41])
def test_no_number_is_infinite_or_endless(written):
    """No key of a recipe takes such a number."""
    assert refused(f"a: {written}").place.column == 4


def test_duplicate_keys_name_both_lines():
    """The last one would win silently."""
    error = refused("a: 1\nb: 2\na: 3\n")
    assert (error.place.line, error.place.column, error.key) == (3, 1, "a")
    assert "line 1" in error.message


def test_every_value_and_key_knows_its_place():
    """Line and column count from 1, in characters."""
    tree = yaml.read_text("é: {ä: [x, 'y']}\nb:\n  - c: 1\n", "f")
    assert isinstance(tree, Table)
    assert str(tree.keys["b"]) == "f:2:1"
    assert str(find(tree, "é.ä.1").place) == "f:1:12"
    assert str(find(tree, "b.0.c").place) == "f:3:8"


def test_aliases_repeat_a_value():
    """A small use of them is fine."""
    assert read("a: &x {b: 1}\nc: *x") == {"a": {"b": 1}, "c": {"b": 1}}


def test_alias_bomb_ends_at_once():
    """Ten levels of ten aliases are ten thousand million values."""
    levels = "\n".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 11))
    start = time.process_time()
    error = refused(f"l0: &l0 [1]\n{levels}\n")
    assert time.process_time() - start < 0.1
    assert "aliases" in error.message


@pytest.mark.parametrize("text", ["a: &x [*x]", "a: *nothing"])
def test_aliases_need_a_finished_anchor(text):
    """A value cannot hold itself."""
    assert refused(text).place.line == 1


@pytest.mark.parametrize(
    "text", ["[" * 2000 + "]" * 2000, "{a: " * 2000 + "}" * 2000, "\n".join(" " * n + "a:" for n in range(1200))]
)
def test_depth_is_bounded(text):
    """Depth 2000 costs PyYAML seconds and the interpreter's stack."""
    start = time.process_time()
    error = refused(text)
    assert time.process_time() - start < 0.1
    assert "deeper" in error.message


def test_size_is_bounded():
    """A data file given as a recipe is told apart by its size."""
    assert "1,000,001 bytes" in refused(b"a" * 1_000_001).message


@pytest.mark.parametrize(
    ("data", "part", "place"),
    [
        ("a: !!python/object:os.system x", "the tag", (1, 4)),
        ("a: !!str x", "the tag", (1, 4)),
        ("a: 1\n---\nb: 2\n", "second document", (2, 1)),
        ("", "is empty", (1, 1)),
        ("# only a comment\n", "is empty", (1, 1)),
        ("a:\n\tb: 1\n", "a tab", (2, 1)),
        ("a: 'x", "not YAML", (1, 4)),
        ("a: [1, 2", "not YAML", (1, 4)),
        ("a: b: c", "not YAML", (1, 5)),
        ("a: @x", "not YAML", (1, 4)),
        ("<<: {a: 1}", "merge keys", (1, 1)),
        ("True: 1", "a key must be text", (1, 1)),
        ("1: 1", "a key must be text", (1, 1)),
        ("? [a]\n: 1", "a key must be text", (1, 3)),
        (b"a: 1\nb: \x00", "U+0000", (2, 4)),
        ("a: \x07", "U+0007", (1, 4)),
        (b"\xef\xbb\xbfa: 1", "byte order mark", (1, 1)),
        ("a: 1".encode("utf-16"), "UTF-16", (1, 1)),
        ("a: 1\nb: café".encode("latin-1"), "0xe9", (2, 7)),
    ],
)
def test_each_strange_file_has_one_clear_error(data, part, place):
    """What is wrong, and exactly where."""
    error = refused(data)
    assert part in error.message
    assert (error.place.line, error.place.column) == place
    assert error.hint


def test_quoted_text_stays_text():
    """Quotes turn every reading off."""
    assert read("""[ "1", '2e-4', "no", "~", "010" ]""") == ["1", "2e-4", "no", "~", "010"]


def test_python_parser_agrees_with_the_c_parser(monkeypatch):
    """Where PyYAML was built without libyaml, the same text gives the same values and places."""
    import yaml as pyyaml

    text = "a: {b: [1, 'x', no]}\nc: |\n  text\nd: &x 1\ne: *x\n"
    with_c = yaml.read_text(text, "x")
    monkeypatch.setattr(yaml, "_LOADER", pyyaml.Loader)
    assert yaml.read_text(text, "x") == with_c
    assert math.isfinite(plain(with_c)["a"]["b"][0])
