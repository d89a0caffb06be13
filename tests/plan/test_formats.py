"""The hint for rows that do not fit speaks of the format the recipe asked for."""

import pytest

from launcher.plan.data_files import DataPathError
from launcher.plan.formats import sniff
from launcher.recipe.data import Source


@pytest.mark.parametrize(
    ("wanted", "row", "hint"),
    [
        ("prompt_completion", {"text": "a"}, '{"prompt": "…", "completion": "…"}'),
        ("text", {"question": "a", "answer": "b"}, '{"text": "…"}'),
        ("prompt_completion", {"question": "a", "answer": "b"}, "{prompt: question, completion: answer}"),
        (None, {"question": "a", "answer": "b"}, "{prompt: question, completion: answer}"),
    ],
)
def test_the_hint_is_about_the_wanted_format(wanted, row, hint):
    """An example of another format sends people the wrong way."""
    with pytest.raises(DataPathError) as raised:
        sniff(Source(label="a", path="a.jsonl", format=wanted), [row])

    assert raised.value.hint is not None
    assert hint in raised.value.hint
