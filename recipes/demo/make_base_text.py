"""Write the text that recipes/demo/base.yaml trains the base model on, to build/demo/base.jsonl (the same bytes every time).

Plain text about the demo's shop: notes on messages, counting and spelling, stock records, lists read back. Nothing in
it is a ticket, so the base model knows the words and how to look something up, and not the demo's answer.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path

import shop
from shop import pick

OUT = Path(__file__).parents[2] / "build" / "demo" / "base.jsonl"
DOCUMENTS = 60_000
WISHES = {
    "order": ("to buy something", "to order"),
    "cancel": ("to call it off", "to cancel"),
    "return": ("to give it back", "to return it"),
    "track": ("to know where it is", "to track it"),
}


def shuffled(rng: random.Random, options: list[str]) -> list[str]:
    """The options in random order."""
    return [option for _, option in sorted((rng.random(), option) for option in options)]


def note(rng: random.Random) -> str:
    """A message and what somebody in the shop noted about it: questions with short answers, in any order."""
    wanted = shop.request(rng, held_out=False)
    answers = [
        f"{pick(rng, ('Who writes?', 'The name?', 'Who is it?'))} {wanted.name}.",
        f"{pick(rng, ('Which town?', 'Where?', 'The town?'))} {wanted.town}.",
        f"{pick(rng, ('What?', 'Which item?', 'The item?'))} {wanted.colour} {wanted.item}.",
        f"{pick(rng, ('How many?', 'The quantity?', 'The number?'))} {wanted.quantity}.",
        f"{pick(rng, ('When?', 'Which day?', 'The day?'))} {wanted.day[:3] if wanted.day else 'not said'}.",
        f"{pick(rng, ('What for?', 'The wish?', 'The intent?'))} {pick(rng, WISHES[wanted.intent])}.",
    ]
    said = pick(rng, ("A customer writes:", "From the post:", "This came today:", "Message:"))
    return f"{said} {shop.message(rng, wanted)}\n" + " ".join(shuffled(rng, answers))


def words(rng: random.Random) -> str:
    """How words are counted and shortened (`One jug, seven jugs. Friday is Fri for short.`)."""
    lines = []
    for _ in range(6):
        item, day, quantity = pick(rng, shop.ITEMS), pick(rng, shop.DAYS), pick(rng, tuple(shop.NUMBERS))
        said = pick(rng, (shop.NUMBERS[quantity], *shop.GROUPS.get(quantity, ())))
        choices = (
            f"One {item}, {shop.NUMBERS[quantity]} {shop.PLURALS[item]}.",
            f"{said.capitalize()} {shop.PLURALS[item]}: {quantity} times a {item}.",
            f"{day} is {day[:3]} for short.",
        )
        lines.append(pick(rng, choices))
    return " ".join(lines)


def stock(rng: random.Random) -> str:
    """A sentence about the store room and its record."""
    item, colour, quantity = pick(rng, shop.ITEMS), pick(rng, shop.COLOURS), pick(rng, tuple(shop.NUMBERS))
    day = pick(rng, shop.DAYS) if rng.random() < 0.7 else None
    keeper, shelf = pick(rng, shop.NAMES), 1 + int(rng.random() * 40)
    fields = [("left", quantity), ("goods", f"{colour} {item}"), ("keeper", keeper), ("rack", shelf)]
    fields.append(("counted", day and day[:3]))
    record = dict(sorted(fields, key=lambda _: rng.random()))
    counted = f", counted on {day}" if day else ""
    number = pick(rng, (str(quantity), shop.NUMBERS[quantity]))
    said = f"{keeper} has {number} {colour} {shop.PLURALS[item]} on rack {shelf}{counted}."
    return f"{said}\n{json.dumps(record, separators=(',', ':'))}"


def read_back(rng: random.Random) -> str:
    """A list of words, and the same list again. Items and towns never meet, so no held-out pair does."""
    pool = pick(rng, ((*shop.NAMES, *shop.TOWNS, *shop.DAYS), (*shop.NAMES, *shop.ITEMS, *shop.COLOURS)))
    heard = ", ".join(pick(rng, pool) for _ in range(4 + int(rng.random() * 8)))
    return f"Read it back: {heard}.\n{heard}."


KINDS: tuple[tuple[float, Callable[[random.Random], str]], ...] = (
    (0.6, note),
    (0.7, words),
    (0.9, stock),
    (1.0, read_back),
)


def document(rng: random.Random) -> str:
    """One document of a random kind: 60 % notes, 10 % words, 20 % stock, 10 % read back."""
    draw = rng.random()
    return next(kind for upto, kind in KINDS if draw < upto)(rng)


def documents(count: int = DOCUMENTS, *, seed: int = 2026) -> list[str]:
    """The text of the base model, one string per document."""
    rng = random.Random(f"base {seed}")  # noqa: S311 - repeatable on purpose
    return [document(rng) for _ in range(count)]


def main(path: Path = OUT) -> None:
    """Write the text to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents()), encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
