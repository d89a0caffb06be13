"""Write the demo's data: `python recipes/demo/make_data.py [FOLDER]` (the same bytes every time).

train.jsonl and held_out.jsonl: messages to a shop, each with the ticket that the shop's system needs. The held-out
file shares no row, and no pair of item and town, with the training file or with the text of the base model.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import shop

HERE = Path(__file__).parent
ROWS = {"train": 960, "held_out": 200}


def rows(part: str, *, seed: int = 2026) -> list[dict[str, object]]:
    """The rows of one part, all with different messages."""
    rng = random.Random(f"{part} {seed}")  # noqa: S311 - repeatable on purpose
    made: dict[str, dict[str, object]] = {}
    while len(made) < ROWS[part]:
        wanted = shop.request(rng, held_out=part == "held_out")
        text = shop.message(rng, wanted)
        turns = [{"role": "user", "content": text}, {"role": "assistant", "content": shop.ticket(wanted)}]
        made.setdefault(text, {"messages": turns})
    return list(made.values())


def main(folder: Path = HERE) -> None:
    """Write both files to `folder`."""
    for part in ROWS:
        lines = [json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows(part)]
        (folder / f"{part}.jsonl").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
