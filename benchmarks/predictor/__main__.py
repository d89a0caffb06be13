"""Measure what is not measured yet, then write the table: `python -m benchmarks.predictor [--only WORD] [--page]`.

Measurements are kept in `benchmarks/results/predictor.jsonl`, one line each, and are not made again; the predictions beside
them are always made anew.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.page import VERSIONS
from benchmarks.predictor import cases, table
from benchmarks.predictor.grid import CASES
from benchmarks.startup import installed, processor

RESULTS = Path(__file__).parents[1] / "results" / "predictor.jsonl"


def main() -> None:
    """Measure, predict, write."""
    parser = argparse.ArgumentParser(prog="benchmarks.predictor", description=__doc__)
    parser.add_argument("--only", default="", help="measure configurations whose name holds this")
    parser.add_argument("--page", action="store_true", help="measure nothing, write docs/PREDICTOR.md")
    args = parser.parse_args()
    if not args.page:
        for name, case in CASES.items():
            if args.only in name and _key(name) not in measured():
                _measure(name, case)
    table.write(measured(), VERSIONS)


def measured() -> dict[str, dict[str, Any]]:
    """Configuration → its measurement, of those that are in the grid as they were measured."""
    lines = RESULTS.read_text(encoding="utf-8").splitlines() if RESULTS.exists() else []
    return {record["key"]: record for record in map(json.loads, lines)}


def _key(name: str) -> str:
    return table.key(name, CASES[name])


def _measure(name: str, case: cases.Case) -> None:
    print(name, flush=True)
    with tempfile.TemporaryDirectory(prefix="predictor-") as folder:
        try:
            ranks = cases.measured(case, Path(folder))
        except RuntimeError as fault:
            print(f"  failed: {str(fault)[-2000:]}", flush=True)
            return
    largest = max(ranks, key=lambda rank: rank["peak"])
    record = {
        "key": _key(name), "name": name, "case": asdict(case), "peak": largest["peak"], "moment": largest["moment"],
        "moments": largest["moments"], "ranks": [rank["peak"] for rank in ranks],
        "date": f"{dt.datetime.now(dt.UTC):%Y-%m-%d}", "machine": processor(),
        "versions": {each: installed(each) for each in VERSIONS},
    }  # fmt: skip
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    with RESULTS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
