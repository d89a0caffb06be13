"""The demo's data: the same bytes every time, right answers, and nothing of the held-out part in what trains."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.demo.reader import DAY, GOODS, read, singular

DEMO = Path(__file__).parents[2] / "recipes" / "demo"


def turns(part: str) -> list[tuple[str, str]]:
    rows = [json.loads(line) for line in (DEMO / f"{part}.jsonl").read_text(encoding="utf-8").splitlines()]
    return [(row["messages"][0]["content"], row["messages"][1]["content"]) for row in rows]


def fields(ticket: str) -> dict[str, str]:
    """A ticket's fields by name."""
    return dict(field.split(": ") for field in ticket.split("; "))


def pairs(texts: list[str]) -> set[tuple[str, str]]:
    """Every item and town that stand in one text, whatever the text says about them."""
    tickets = [fields(ticket) for part in ("train", "held_out") for _, ticket in turns(part)]
    towns = {ticket["town"] for ticket in tickets}
    names = {ticket["item"].split()[1]: ticket["item"].split()[1] for ticket in tickets}
    names |= {match[2]: singular(match[2]) for message, _ in turns("train") for match in GOODS.findall(message)}
    words = [set(re.findall(r"[A-Za-z]+", text)) for text in texts]
    return {(names[item], town) for found in words for item in found & names.keys() for town in found & towns}


@pytest.fixture(scope="module")
def base_text(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    path = tmp_path_factory.mktemp("base") / "base.jsonl"
    subprocess.run([sys.executable, DEMO / "make_base_text.py", path], check=True)
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [row["prompt"] + row["completion"] for row in rows]


def test_the_generator_writes_the_committed_bytes(tmp_path):
    """Anybody can make the data again and get the same files."""
    subprocess.run([sys.executable, DEMO / "make_data.py", tmp_path], check=True)

    for part in ("train.jsonl", "held_out.jsonl"):
        assert (tmp_path / part).read_bytes() == (DEMO / part).read_bytes()


@pytest.mark.parametrize("part", ["train", "held_out"])
def test_every_answer_is_the_only_reading_of_its_message(part):
    """A reader that shares no code with the generator comes to the same ticket."""
    wrong = [(message, ticket) for message, ticket in turns(part) if read(message) != ticket]

    assert wrong == []


def test_held_out_messages_share_no_item_and_town_with_training():
    """Memory of a training row cannot answer a held-out one."""
    train, held_out = ([message for message, _ in turns(part)] for part in ("train", "held_out"))

    assert len(pairs(held_out)) == 28  # one in eight of 16 items × 14 towns
    assert not pairs(train) & pairs(held_out)
    assert not set(train) & set(held_out)


def test_every_held_out_word_was_seen_in_training():
    """The held-out part asks for new combinations, not for unknown words."""
    train, held_out = (set(re.findall(r"\w+", " ".join(m for m, _ in turns(part)))) for part in ("train", "held_out"))

    assert held_out <= train


def test_base_text_holds_no_ticket_and_no_held_out_pair(base_text):
    """What the base model read gives the demo's answers away neither in form nor in substance."""
    assert not [text for text in base_text if "intent" in text or "quantity" in text or "<|im_" in text]
    assert not pairs(base_text) & pairs([message for message, _ in turns("held_out")])


def test_no_row_is_repeated():
    """Each row counts once."""
    messages = [message for part in ("train", "held_out") for message, _ in turns(part)]

    assert len(messages) == len(set(messages)) == 1160


def test_data_stays_small():
    """The files are committed: at most 400 kB together."""
    assert sum((DEMO / f"{part}.jsonl").stat().st_size for part in ("train", "held_out")) <= 400_000


def test_a_message_that_names_no_day_has_none():
    """A missing fact is said to be missing, not guessed; both cases are there to be learnt."""
    rows = turns("train")
    without = [ticket for message, ticket in rows if not DAY.search(message)]

    assert 100 < len(without) < 400
    assert {fields(ticket)["day"] for ticket in without} == {"none"}
