"""Write the text that recipes/demo/base.yaml trains the base model on: `python recipes/demo/make_base_text.py [FILE]`.

Messages to the demo's shop with questions about them, by default in build/demo/base.jsonl (the same bytes every time).
Nothing in it is a ticket or a chat turn: the base model learns what the words mean and how to look something up, not
the demo's task.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import shop
from shop import Request

OUT = Path(__file__).parents[2] / "build" / "demo" / "base.jsonl"
DOCUMENTS = 20_000


def answers(wanted: Request) -> list[str]:
    """Questions about a request, each with its short answer."""
    return [
        f"Who? {wanted.name}.",
        f"Where? {wanted.town}.",
        f"What? {wanted.colour} {wanted.item}.",
        f"How many? {wanted.quantity}.",
        f"When? {wanted.day[:3] if wanted.day else 'not said'}.",
        f"Why? {wanted.intent}.",
    ]


def shuffled(rng: random.Random, options: list[str]) -> list[str]:
    """The options in random order."""
    return [option for _, option in sorted((rng.random(), option) for option in options)]


def documents(count: int = DOCUMENTS, *, seed: int = 2026) -> list[dict[str, str]]:
    """Messages, each with all its questions and answers in random order; no pair of item and town is held out."""
    rng = random.Random(f"base {seed}")  # noqa: S311 - repeatable on purpose
    made = []
    for _ in range(count):
        wanted = shop.request(rng, held_out=False)
        message, facts = shop.message(rng, wanted) + "\n", " ".join(shuffled(rng, answers(wanted)))
        made.append({"prompt": message, "completion": facts})
    return made


def main(file: Path = OUT) -> None:
    """Write the documents to `file`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in documents()]
    file.write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
