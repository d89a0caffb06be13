"""A run's name is a slug, and what it stands for lies under the runs folder."""

import pytest

from launcher.errors import UsageError
from launcher.runs import names, record
from launcher.runs.paths import RunDir

HOSTILE = (
    "", ".", "..", "...", "../x", "../../etc", "/etc/passwd", "/", "//", "~", "~root", "a/b", "a/../..", "a/.", "./a",
    "a\\b", "..\\x", "a\x00b", "\x00", "a\n", "a\nb", "\n", "\t", " ", " a", "a ", "a b", "-rf", "--help", "-", "_x", ".hidden",
    ".git", "$(touch pwned)", "`touch pwned`", "a;touch pwned", "a|b", "a&b", "a>b", "a<b", "a'b", 'a"b', "a*", "a?", "[a]",
    "{a,b}", "a#b", "a%00b", "a%2fb", "%2e%2e", "$HOME", "${HOME}", "!x", "A", "Run", "é", "ａ", "a\u202eb", "\u2025", "a\u2215b",
    "ß", "١", "a" * 81, "a" * 5000, "a:b", "a@b", "a=b", "a,b", "C:\\x", "con\x1b[31m",
)  # fmt: skip


def make(root, name="demo"):
    run_dir = RunDir(root / name)
    run_dir.root.mkdir(parents=True)
    record.write(run_dir, record.new(name, {"training.seed": 42}))
    return run_dir


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_refused_and_nothing_is_made(name, tmp_path):
    """Run names become directories that are created, swept and copied: none may lead elsewhere."""
    runs = tmp_path / "runs"
    runs.mkdir()
    with pytest.raises(UsageError):
        names.named(runs, name)
    with pytest.raises(UsageError):
        names.find(runs, name)
    assert list(tmp_path.rglob("*")) == [runs]


@pytest.mark.parametrize("name", ["a", "a..", "0", "qwen3-8b.v2_x", "a" * 80])
def test_a_slug_stays_directly_under_the_runs_folder(name, tmp_path):
    """The allowed names, dots included, have exactly one place."""
    assert names.named(tmp_path, name).root == tmp_path / name


def test_a_link_out_of_the_runs_folder_is_refused_by_name_and_followed_by_path(tmp_path):
    """A name must not reach another disk through a link; a person who types the directory means it."""
    outside = make(tmp_path / "elsewhere")
    runs = tmp_path / "runs"
    runs.mkdir()
    (runs / "demo").symlink_to(outside.root)

    with pytest.raises(UsageError, match="link out of"):
        names.named(runs, "demo")
    assert names.existing(runs) == ()
    assert names.find(runs, str(outside.root)).root == outside.root


def test_the_runs_folder_itself_may_be_a_link(tmp_path):
    """`runs` is often a link to a larger disk."""
    run_dir = make(tmp_path / "disk")
    (tmp_path / "runs").symlink_to(tmp_path / "disk")
    assert names.find(tmp_path / "runs", "demo").record.samefile(run_dir.record)


def test_an_unknown_run_is_answered_with_the_nearest_name(tmp_path):
    """A misspelt name is the usual cause."""
    make(tmp_path, "support")
    with pytest.raises(UsageError, match="no run `suport`") as caught:
        names.find(tmp_path, "suport")
    assert caught.value.hint == "did you mean `support`?"


def test_a_name_of_any_length_is_answered_in_a_line(tmp_path):
    """A pasted page, or control characters, must not flood or steer the terminal."""
    for hostile in ("x" * 5000, "a\x1b[2J\nb"):
        with pytest.raises(UsageError) as caught:
            names.find(tmp_path, hostile)
        assert len(caught.value.message) < 100 + len(str(tmp_path))
        assert caught.value.message.isprintable()


def test_the_series_of_a_name_counts_from_two(tmp_path):
    """A changed recipe goes to NAME-2, then NAME-3."""
    series = names.series(tmp_path, "demo")
    assert [next(series).name for _ in range(3)] == ["demo", "demo-2", "demo-3"]
