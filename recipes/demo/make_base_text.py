"""Write the text that recipes/demo/base.yaml trains the base model on: `python recipes/demo/make_base_text.py [FILE]`.

Plain text about the demo's shop, by default in build/demo/base.jsonl (the same bytes every time): single facts, records
of a few facts, short and long messages with questions about them. Nothing in it is a ticket or a chat turn: the base
model learns what the words mean and how to look something up, not the demo's task.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path

import shop
from shop import Request, pick

OUT = Path(__file__).parents[2] / "build" / "demo" / "base.jsonl"
DOCUMENTS = 60_000
REASONS = {"order": "to order", "cancel": "to cancel", "return": "to return it", "track": "to track it"}


def answers(wanted: Request) -> list[str]:
    """Questions about a request, each with its short answer."""
    return [
        f"Who? {wanted.name}.",
        f"Where? {wanted.town}.",
        f"What? {wanted.colour} {wanted.item}.",
        f"How many? {wanted.quantity}.",
        f"When? {wanted.day[:3] if wanted.day else 'not said'}.",
    ]


def shuffled(rng: random.Random, options: list[str]) -> list[str]:
    """The options in random order."""
    return [option for _, option in sorted((rng.random(), option) for option in options)]


def line(rng: random.Random, *, of_goods: bool) -> str:
    """One fact of what or of who, where and when, with the question it answers: "It is for Leeds. Where? Leeds."."""
    wanted = shop.request(rng, held_out=False)
    who, where, what, how_many, _ = answers(wanted)
    if of_goods:
        return f"I see {shop.goods(rng, wanted)}. {pick(rng, (what, how_many))}"
    day = wanted.day or "Monday"
    facts = (
        (pick(rng, (f"My name is {wanted.name}.", f"{wanted.name} here.", f"Regards, {wanted.name}.")), who),
        (pick(rng, (f"Send it to {wanted.town}.", f"We live in {wanted.town}.", f"It is for {wanted.town}.")), where),
        (pick(rng, (f"It was on {day}.", f"Not before {day}.", f"Come by {day}.")), f"When? {day[:3]}."),
    )
    return " ".join(pick(rng, facts))


def lines(rng: random.Random) -> str:
    """Six facts; goods and towns stay apart, so that no held-out pair of them meets by chance."""
    of_goods = rng.random() < 0.4
    return " ".join(line(rng, of_goods=of_goods) for _ in range(6))


def short(rng: random.Random, wanted: Request) -> str:
    """A request in a few words."""
    goods, name, town = shop.goods(rng, wanted), wanted.name, wanted.town
    when = f" {pick(rng, ('by', 'on', 'before'))} {wanted.day}" if wanted.day else ""
    ways = (
        f"{name} in {town} has {goods}{when}.",
        f"{goods} for {name}, {town}{when}.",
        f"To {town}{when}: {goods}, says {name}.",
    )
    return pick(rng, ways)


def record(rng: random.Random) -> str:
    """A short message, and one to four facts of it as JSON, under various names and in any order."""
    wanted = shop.request(rng, held_out=False)
    facts: dict[str, object] = {
        pick(rng, ("name", "from")): wanted.name,
        pick(rng, ("town", "place")): wanted.town,
        pick(rng, ("item", "goods")): f"{wanted.colour} {wanted.item}",
        pick(rng, ("quantity", "count")): wanted.quantity,
        pick(rng, ("day", "due")): wanted.day and wanted.day[:3],
        "reason": wanted.intent,
    }
    chosen = shuffled(rng, list(facts))[: 1 + int(rng.random() * 4)]
    said = shop.message(rng, wanted) if "reason" in chosen or rng.random() < 0.3 else short(rng, wanted)
    return f"{said}\n" + json.dumps({fact: facts[fact] for fact in chosen}, separators=(",", ":"))


def brief(rng: random.Random) -> str:
    """A short message, and questions about it in any order."""
    wanted = shop.request(rng, held_out=False)
    return f"{short(rng, wanted)}\n" + " ".join(shuffled(rng, answers(wanted)))


def note(rng: random.Random) -> str:
    """A customer's message, and questions about it in any order."""
    wanted = shop.request(rng, held_out=False)
    asked = [*answers(wanted), f"Why? {REASONS[wanted.intent]}."]
    return f"Message: {shop.message(rng, wanted)}\n" + " ".join(shuffled(rng, asked))


def document(rng: random.Random) -> str:
    """One document: a quarter single facts, a quarter records, 15 % short and 35 % long messages with questions."""
    kinds: tuple[tuple[float, Callable[[random.Random], str]], ...] = (
        (0.25, lines), (0.5, record), (0.65, brief), (1.0, note),
    )  # fmt: skip
    draw = rng.random()
    return next(kind for upto, kind in kinds if draw < upto)(rng)


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
