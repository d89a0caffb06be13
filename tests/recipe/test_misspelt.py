"""A seeded corpus of misspelt keys over the whole language."""

import copy
import json
import random

from launcher.recipe.describe import item_section_of, keys_of, section_of
from launcher.recipe.dialects import ITEM_ROWS, ROWS
from launcher.recipe.load import problems
from launcher.recipe.schema import Recipe
from launcher.recipe.suggest import homes
from launcher.recipe.trainer import passed_on
from tests.recipe.writing import FULL, write

NEIGHBOURS = {"a": "s", "e": "r", "i": "o", "o": "p", "r": "t", "t": "y", "n": "m", "s": "d", "l": "k", "c": "v"}


def _swap(word, at):
    return word[:at] + word[at + 1] + word[at] + word[at + 2 :]


def misspell(word, rng):
    """One slip of a hurried typist."""
    at = rng.randrange(len(word) - 1)
    slips = [
        lambda: _swap(word, at),
        lambda: word[:at] + word[at + 1 :],
        lambda: word[:at] + word[at] + word[at:],
        lambda: word[:at] + NEIGHBOURS.get(word[at], "x") + word[at + 1 :],
        lambda: word.replace("_", "-") if "_" in word else word + "s",
        lambda: word.replace("_", "", 1) if "_" in word else word.capitalize(),
        lambda: (
            "".join(part.capitalize() if n else part for n, part in enumerate(word.split("_")))
            if "_" in word
            else word + "e"
        ),
        lambda: word + "s" if not word.endswith("s") else word[:-1],
    ]
    return rng.choice(slips)()


def sites(section=Recipe, path=()):
    """(path to a section, its keys), over the whole language."""
    yield path, [*keys_of(section), *(passed_on() if path == ("training",) else ())]
    for key, field in keys_of(section).items():
        if below := section_of(field.annotation):
            yield from sites(below, (*path, key))
        elif items := item_section_of(field.annotation):
            yield from sites(items, (*path, key, 0))


def corpus(per_key=3):
    """(path, misspelt key, right key), each once."""
    rng = random.Random(1964)
    known = {*homes(), *ROWS, *ITEM_ROWS}
    found = {}
    for path, keys in sites():
        for key in keys:
            for _ in range(per_key if len(key) > 1 else 0):
                wrong = misspell(key, rng)
                if len(key) > 2 and wrong not in known and wrong not in keys:
                    found[(*path, wrong)] = key
    return [(path[:-1], path[-1], right) for path, right in found.items()]


def test_misspelt_keys_are_refused_and_the_right_one_comes_first(tmp_path):
    """None is accepted; the first name in the hint is the right one for at least 95 of 100."""
    cases = corpus()
    misses = []
    for path, wrong, right in cases:
        recipe = copy.deepcopy(FULL)
        inside = recipe
        for part in path:
            inside = inside[part] if isinstance(inside, list) else inside.setdefault(part, {})
        inside[wrong] = inside.pop(right, 1)
        found = [
            each
            for each in problems(write(tmp_path, json.dumps(recipe)))
            if each.key.endswith(f".{wrong}") or each.key == wrong
        ]
        assert [each.message for each in found] == ["unknown key"], f"{path} {wrong}: {found}"
        if not (found[0].hint or "").startswith(f"did you mean `{right}`"):
            misses.append((".".join(map(str, path)), wrong, right, (found[0].hint or "")[:60]))
    rate = 1 - len(misses) / len(cases)
    print(f"{len(cases)} misspelt keys, {rate:.1%} with the right key first", *misses, sep="\n  ")
    assert len(cases) >= 200
    assert rate >= 0.95
