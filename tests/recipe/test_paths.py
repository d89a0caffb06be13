"""Path keys: names, folders and hub ids."""

import pytest

from launcher.errors import RecipeError
from launcher.recipe.paths import is_local, resolve
from tests.recipe.writing import SHORT, fault, load

KEY = "data.datasets.train.path"


def resolved(folder, value, **names):
    return resolve(load(folder, SHORT), KEY, value, names)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("train.jsonl", "{0}/train.jsonl"),
        ("data/*.parquet", "{0}/data/*.parquet"),
        ("./org/name", "{0}/org/name"),
        ("../x", "{1}/x"),
        ("/abs/x", "/abs/x"),
        ("${data}/x.jsonl", "/site/x.jsonl"),
        ("${data}", "/site"),
        ("org/name", "org/name"),
        ("name", "name"),
        ("s3://bucket/x.jsonl", "s3://bucket/x.jsonl"),
        ("https://host/x?a=1", "https://host/x?a=1"),
        ("rows.tsv", "{0}/rows.tsv"),
        ("rows.arrow", "{0}/rows.arrow"),
        ("Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B"),
    ],
)
def test_paths_are_absolute_and_hub_ids_are_left(tmp_path, value, expected):
    """Relative to the file they stand in."""
    (tmp_path / "r").mkdir()
    got = resolved(tmp_path / "r", value, data="/site")
    assert got == expected.format(tmp_path / "r", tmp_path)
    assert is_local(got) == got.startswith("/")


def test_only_data_is_read_from_an_address(tmp_path):
    """A model is loaded by libraries that know folders and the hub."""
    assert "is an address" in fault(tmp_path, SHORT.replace("org/name", "s3://bucket/model")).message


def test_what_looks_like_a_hub_id_is_a_folder_when_it_is_there(tmp_path):
    """As the libraries do."""
    (tmp_path / "org" / "name").mkdir(parents=True)
    assert resolved(tmp_path, "org/name") == str(tmp_path / "org" / "name")


def test_a_home_folder_is_expanded(tmp_path, monkeypatch):
    """`~/data` is what people type."""
    monkeypatch.setenv("HOME", "/home/someone")
    assert resolved(tmp_path, "~/x.jsonl") == "/home/someone/x.jsonl"


@pytest.mark.parametrize(("names", "part"), [({}, "is not set here"), ({"data": "${models}/x"}, "itself a name")])
def test_names_stand_for_a_folder_or_are_refused(tmp_path, names, part):
    """Nothing is interpolated twice."""
    with pytest.raises(RecipeError, match=part) as caught:
        resolved(tmp_path, "${data}/x", **names)
    assert caught.value.place.line == 2


@pytest.mark.parametrize(
    ("value", "part"),
    [
        ("${HOME}/x", "no name `${HOME}`"),
        ("$HOME/x", "starts no"),
        ("${dta}/x", "no name"),
        ("${da${ta}}", "no name `${ta}`"),
        ("${}", "starts no"),
        ("", "is no path"),
    ],
)
def test_only_the_clusters_names_stand_in_paths(tmp_path, value, part):
    """The environment is not read: the run would depend on the shell."""
    assert part in fault(tmp_path, SHORT.replace("train.jsonl", f"'{value}'")).message


@pytest.mark.parametrize("line", ["name: '${data}'", "tracking: {tags: ['${data}']}", "training: {optim: '${data}'}"])
def test_names_stand_in_path_keys_only(tmp_path, line):
    """Elsewhere they would be text that looks like more."""
    from tests.recipe.writing import faults

    assert any("path keys only" in each.message for each in faults(tmp_path, SHORT + line))


def test_a_path_holds_no_nul(tmp_path):
    """No system call takes it."""
    assert "U+0000" in fault(tmp_path, SHORT.replace("train.jsonl", '"a\\0b"')).message


def test_the_home_of_nobody_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="no home folder"):
        resolved(tmp_path, "~nobody-here/x.jsonl")
