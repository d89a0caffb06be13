"""Run the table of faults, two parts at a time, and write what was seen.

    python -m tests.faults.run [--size ci|long] [--workers N] [--only TEXT] [--seed N] [--fresh]

Each part that ended is kept under build/faults/ and not run again until the code changes, so that a long run that was
cut off goes on. The long size writes benchmarks/results/DATE-faults.jsonl, DATE-slurm-faults.jsonl and docs/FAULTS.md;
with `--only`, those of them whose rows were all run. The exit code is 1 when a promise of `launcher` was broken, or a
part did not run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults import report
from tests.faults.fault import ROOT, Fault, Size
from tests.faults.outcome import Outcome
from tests.faults.table import FAULTS
from tests.support import warm

LAUNCHER, PLAIN = "launcher", "plain TRL"
BROKE = "the harness broke"
_KEPT = ROOT / "build" / "faults"


@dataclass(frozen=True)
class Part:
    """Some trials of one row, done by one process."""

    row: int
    product: str
    seed: int
    first: int
    last: int

    @property
    def fault(self) -> Fault:
        """The row."""
        return FAULTS[self.row]

    def key(self) -> str:
        """What tells it from other parts; the code is not in it."""
        return json.dumps([self.fault.name, self.product, self.seed, self.first, self.last])


def main() -> int:
    """Run what the command line asks for."""
    known = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    known.add_argument("--size", choices=("ci", "long"), default="long", help="trials per fault (default long)")
    known.add_argument("--workers", type=int, default=2, help="parts at a time (default 2)")
    known.add_argument("--only", default="", help="rows whose name contains this, such as `slurm`")
    known.add_argument("--seed", type=int, default=0, help="seed of all trials (default 0)")
    known.add_argument("--fresh", action="store_true", help="run again what an earlier, cut-off run has done")
    args = known.parse_args()
    os.environ.update(
        OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", TRL_EXPERIMENTAL_SILENCE="1"
    )
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        os.environ |= {"PYTHONPYCACHEPREFIX": f"{folder}/bytecode", "PYTHONDONTWRITEBYTECODE": ""}  # ranks compile once
        tempfile.tempdir = folder  # processes that a pool ends clear nothing up by themselves
        records = measure(args.size, args.seed, args.workers, args.only, fresh=args.fresh)
        warm.stop()
    broken = sum(record["failed"] for record in records if record["product"] == LAUNCHER)
    broke = sum(record["counts"].get(BROKE, 0) for record in records)
    if args.size == "long":
        for path in report.write(records, {fault.name for fault in FAULTS}):
            print(path)
    print(f"{broken} promises broken, {broke} parts did not run" if broken + broke else "every promise held")
    return int(broken + broke > 0)


def measure(size: Size, seed: int, workers: int, only: str = "", *, fresh: bool = True) -> list[dict[str, Any]]:
    """Run all parts; one record per row and product, in the order of the table."""
    warm.server()
    todo = list(parts(size, seed, only))
    kept = _Kept(_KEPT / f"{size}.jsonl", fresh=fresh)
    totals: dict[tuple[int, str], Outcome] = {(part.row, part.product): Outcome() for part in todo}
    seconds = dict.fromkeys(totals, 0.0)
    left = Counter((part.row, part.product) for part in todo)
    started = time.monotonic()
    with ProcessPoolExecutor(workers, multiprocessing.get_context("fork")) as pool:
        for part, outcome, took in _done(pool, todo, kept):
            place = (part.row, part.product)
            totals[place].add(outcome)
            seconds[place] += took
            left[place] -= 1
            told = f"{totals[place].trials} {part.fault.unit}, {totals[place].failed} failed; parts left: {left[place]}"
            clock = f"{(time.monotonic() - started) / 60:5.1f} min"
            print(f"{clock}  {part.fault.name}, {part.product}: {told}", flush=True)
            for failure in outcome.failures if part.product == LAUNCHER or BROKE in outcome.counts else ():
                print(f"           {failure}", flush=True)
    return [
        {"fault": FAULTS[row].name, "product": product, "unit": FAULTS[row].unit, "seed": seed, "size": size,
         "description": FAULTS[row].done, "promise": FAULTS[row].promise, "seconds": round(seconds[row, product], 1), **outcome.as_json()}
        for (row, product), outcome in totals.items()
    ]  # fmt: skip


def parts(size: Size, seed: int, only: str = "") -> Iterator[Part]:
    """All parts of a size, in the order of the table; plain TRL's in the long run only."""
    for row, fault in enumerate(FAULTS):
        if only.lower() in fault.name.lower():
            yield from _split(Part(row, LAUNCHER, seed, 0, fault.trials(size)), fault.part)
            if fault.plain and size == "long":
                yield from _split(Part(row, PLAIN, seed, 0, fault.plain_long), fault.part)


def _split(whole: Part, each: int) -> Iterator[Part]:
    for first in range(0, whole.last, each):
        yield Part(whole.row, whole.product, whole.seed, first, min(first + each, whole.last))


def _done(pool: ProcessPoolExecutor, todo: list[Part], kept: _Kept) -> Iterator[tuple[Part, Outcome, float]]:
    """Parts as they end: those kept from an earlier run, then the others."""
    running: dict[Future[tuple[Outcome, float]], Part] = {}
    for part in todo:
        if part.key() in kept.parts:
            yield part, *kept.parts[part.key()]
        else:
            running[pool.submit(_run, part)] = part
    for ended in as_completed(running):
        outcome, took = ended.result()
        if outcome.trials:
            kept.add(running[ended], outcome, took)
        yield running[ended], outcome, took


def _run(part: Part) -> tuple[Outcome, float]:
    run = part.fault.run if part.product == LAUNCHER else part.fault.plain
    assert run is not None
    started = time.monotonic()
    try:
        outcome = run(part.seed, range(part.first, part.last))
    except Exception as error:  # noqa: BLE001 - one broken part must not end a run of an hour
        text = f"{part.key()}: {BROKE}: {type(error).__name__}: {error}"
        outcome = Outcome(counts=Counter({BROKE: 1}), failures=[text])
    return outcome, time.monotonic() - started


class _Kept:
    """Parts that ended, in a file; those of other code are forgotten."""

    def __init__(self, path: Path, *, fresh: bool) -> None:
        self._path, self._code = path, _code()
        lines = [] if fresh or not path.is_file() else [json.loads(line) for line in path.read_text().splitlines()]
        same = [line for line in lines if line["code"] == self._code]
        self.parts = {line["key"]: (Outcome.of_json(line["outcome"]), line["seconds"]) for line in same}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(line) + "\n" for line in same))

    def add(self, part: Part, outcome: Outcome, seconds: float) -> None:
        """Keep one more."""
        line = {"code": self._code, "key": part.key(), "outcome": outcome.as_json(), "seconds": seconds}
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")


def _code() -> str:
    """sha256 of all that a trial runs."""
    found = hashlib.sha256()
    for folder in ("launcher", "slurm", "tests/faults", "tests/slurm", "tests/support"):
        for path in sorted(path for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".j2")):
            found.update(path.read_bytes())
    return found.hexdigest()


if __name__ == "__main__":
    sys.exit(main())
