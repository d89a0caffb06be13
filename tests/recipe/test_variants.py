"""`--each`: which variants there are, and what their runs are called."""

import re

import pytest

from launcher.errors import UsageError
from launcher.recipe.patterns import SLUG
from launcher.recipe.sets import parse as parse_set
from launcher.recipe.variants import Variant, parse, product


def names(*texts: str, base: str = "tiny") -> list[str]:
    return [each.name(base) for each in product(texts)]


def test_every_combination_in_the_order_in_which_it_is_written():
    """The last key varies fastest, as in nested loops; each has the assignments of its own."""
    found = product(["training.learning_rate=1e-4,2e-4", "peft.r=8, 16"])
    assert [each.sets for each in found] == [
        ("training.learning_rate=1e-4", "peft.r=8"),
        ("training.learning_rate=1e-4", "peft.r=16"),
        ("training.learning_rate=2e-4", "peft.r=8"),
        ("training.learning_rate=2e-4", "peft.r=16"),
    ]
    assert [each.name("tiny") for each in found] == [
        "tiny-learning_rate-1e-4-r-8",
        "tiny-learning_rate-1e-4-r-16",
        "tiny-learning_rate-2e-4-r-8",
        "tiny-learning_rate-2e-4-r-16",
    ]


def test_without_each_the_recipe_is_its_own_only_variant():
    assert product([]) == (Variant((), ""),)
    assert names() == ["tiny"]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("k.v=1,2", ("1", "2")),
        ("k.v=null,true", ("null", "true")),
        ('k.v=[a, "b,c"]', ("a", "'b,c'")),
        ('k.v=["it\'s", 1e-4]', ("'it''s'", "1e-4")),
        ("k.v=[[q_proj], [q_proj, v_proj]]", ("[q_proj]", "[q_proj, v_proj]")),
        ("k.v=[{a: 1}, {a: 2, b: x}]", ("{a: 1}", "{a: 2, b: x}")),
    ],
)
def test_values_are_those_that_set_takes(text, values):
    """What stands between the commas, or the items of a list, comes back as a person would type it after `--set`."""
    assert parse(text).values == values
    for value in values:
        assert parse_set(f"k.v={value}")[0] == "k.v"


def test_a_name_follows_from_the_own_values_alone():
    """More values beside them leave the names as they are, so that the same line, made longer, goes on with its runs."""
    few, more = names("training.seed=1,2"), names("training.seed=3,1,2,1000")
    assert [each for each in more if each in few] == few
    assert names("data.datasets.a.path=x/Y.jsonl")[0] in names("data.datasets.a.path=x/y.jsonl,x/Y.jsonl")


def test_names_are_slugs_and_differ_wherever_the_values_differ():
    """Capitals, slashes and long values cannot stand in a name; what is left out is kept apart by a mark."""
    values = ["a/b", "a b", "A-b", "a-b", "a--b", "é", "è", "x" * 80, "x" * 81, "'-'", "'.'"]
    listed = ", ".join(value if value.startswith("'") else f"'{value}'" for value in values)
    found = names(f"k.path=[{listed}]", base="a-base-of-some-length")
    assert len(set(found)) == len(values)
    assert all(re.fullmatch(SLUG, each) for each in found), found
    assert all(len(each) <= 64 for each in names("training.seed=1,2", base="b" * 64))
    assert len(set(names("training.seed=1,2", base="b" * 64))) == 2


def test_keys_with_the_same_ending_are_named_longer():
    found = names("data.datasets.sums.weight=1", "data.datasets.words.weight=2", "peft.r=8")
    assert found == ["tiny-sums.weight-1-words.weight-2-r-8"]


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("training.seed", "`--each training.seed` needs KEY=V1,V2", "--each training.learning_rate=1e-4,2e-4"),
        ("training.seed=", "`--each training.seed=` needs KEY=V1,V2", "--each"),
        ("training.seed=1,,2", "`--each training.seed=1,,2`: `` has no value", "removes a key"),
        ("name=a,b", "`--each name=a,b`: the names of variants follow from the other keys", "leave it out"),
        ("a..b=1", "`--each a..b=1`: `1` needs KEY=VALUE", ""),
        ("a.b={x: 1, y: 2}", "`--each a.b={x: 1, y: 2}`: `{x: 1` ", 'KEY=["a,b", c]'),
        ("a.b=[1, 2", "`--each a.b=[1, 2`: ", "--each KEY=[a"),
        ("a.b=[]", "`--each a.b=[]` needs a list of values", "--each KEY=[a"),
        ("extends=a,b", "`--each extends=a,b`: `a` bases are read before", "write `extends`"),
    ],
)
def test_what_is_no_list_of_values_is_refused_with_what_to_type(text, message, hint):
    with pytest.raises(UsageError) as caught:
        product([text])
    assert str(caught.value).startswith(message), str(caught.value)
    assert hint in (caught.value.hint or "")


def test_a_key_stands_once():
    with pytest.raises(UsageError, match=r"`--each peft\.r=…` stands there 2 times"):
        product(["peft.r=8", "peft.r=16"])
