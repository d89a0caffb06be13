"""`make demo`: train recipes/demo.yaml afresh and check what it claims.

`python recipes/demo/run.py [--qlora] [--runs DIR] [more arguments of launcher run]`. An unfinished demo is continued;
after a finished one the next is named NAME-2, NAME-3, …
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
from pathlib import Path

RECIPE = Path(__file__).parent.parent / "demo.yaml"
CLAIM = 0.9
NEXT = """\
next    your own rows, one per line: {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}
        launcher plan recipes/qwen3-0.6b-lora-sft.yaml --set data.datasets.ultrachat.path=my.jsonl
        docs/recipes.md lists the recipes, with what each needs"""


def fresh(runs: Path, name: str) -> str:
    """The first of NAME, NAME-2, NAME-3, … that is not finished."""
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(free for free in names if not (runs / free / "eval" / "final.json").exists())


def exact_match(run: Path, when: str) -> float:
    """Share of held-out messages whose ticket is right to the letter, `base` or `final`."""
    scores = json.loads((run / "eval" / f"{when}.json").read_text(encoding="utf-8"))
    return float(scores["sets"]["held_out"]["metrics"]["exact_match"])


def main() -> int:
    """Run, judge, and say what to type next."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--qlora", action="store_true", help="load the base model in 4 bits")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    args, rest = parser.parse_known_args()
    name = fresh(args.runs, "demo-qlora" if args.qlora else "demo")
    command = [sys.executable, "-m", "launcher", "run", str(RECIPE), "--runs", str(args.runs), "--set", f"name={name}"]
    four_bit = ["--set", "quantization.load_in_4bit=true"] if args.qlora else []
    code = subprocess.run([*command, *four_bit, *rest], check=False).returncode
    if code:
        return code
    before, after = (exact_match(args.runs / name, when) for when in ("base", "final"))
    kept = before < 0.1 and after >= CLAIM
    verdict = "as claimed" if kept else f"NOT as claimed: from about 0 to at least {CLAIM}"
    print(f"demo    held-out tickets right to the letter: {before:.3f} before, {after:.3f} after; {verdict}")  # noqa: T201
    print(NEXT)  # noqa: T201
    return 0 if kept else 1


if __name__ == "__main__":
    raise SystemExit(main())
