"""Planning which sequences share a row: CPU seconds and fill of `pack`, beside TRL's `pack_dataset`, in one run.

    OMP_NUM_THREADS=1 python benchmarks/packing.py [-n 5] [--out benchmarks/results]

Three seeded log-normal mixes of lengths. `pack` plans the whole set on lengths alone; TRL places 1,000 rows at a time
and copies their tokens, so its seconds hold work that our writer of rows still has to do. It is given the first
20,000 sequences, and its seconds are scaled to a million. Fill is kept tokens per place in a row, of the same 20,000
sequences for both; no packing of whole sequences can be above the bound, kept tokens / max_length rows, rounded up.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
from startup import installed, processor

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from launcher.worker.data.packing import Strategy, pack  # noqa: E402 - found once the path is set

STRATEGIES = get_args(Strategy)
VERSIONS = ("finetune-launcher", "numpy", "trl", "datasets", "pyarrow")
MAX_LENGTH = 4096
SEQUENCES, COMPARED = 1_000_000, 20_000
MIXES = {"short": (180, 0.6), "chat": (700, 0.9), "long": (2000, 1.0)}
"""Median in tokens and spread of the logarithm."""


def main() -> int:
    """Measure, print the table, write it to a dated file."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("-n", type=int, default=5, help="runs of each plan; the median is reported (default 5)")
    arguments.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="folder of the result")
    args = arguments.parse_args()
    text = report([row(name, lengths(*mix), args.n) for name, mix in MIXES.items()], args.n)
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / f"{dt.datetime.now(dt.UTC):%Y-%m-%d}-packing.md"
    path.write_text(text, encoding="utf-8")
    print(text)
    print(f"written to {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")
    return 0


def lengths(median: int, spread: float) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Tokens in each sequence."""
    drawn = np.random.default_rng(0).lognormal(np.log(median), spread, SEQUENCES)
    return np.maximum(drawn, 1).astype(np.int64)


def row(name: str, tokens: np.ndarray[Any, np.dtype[np.int64]], runs: int) -> dict[str, Any]:
    """One line of the table."""
    few = tokens[:COMPARED]
    kept = int(np.minimum(few, MAX_LENGTH).sum())
    theirs = dataset(few)
    trl_rows(dataset(few[:100]))  # the first call imports
    seconds, rows = cpu(lambda: trl_rows(theirs), 1)
    return {
        "mix": name,
        **{strategy: cpu(lambda s=strategy: len(pack(tokens, MAX_LENGTH, s)), runs)[0] for strategy in STRATEGIES},
        "trl": seconds * SEQUENCES / COMPARED,
        "fill": kept / (len(pack(few, MAX_LENGTH, "bfd")) * MAX_LENGTH),
        "trl fill": kept / (rows * MAX_LENGTH),
        "bound": kept / (-(-kept // MAX_LENGTH) * MAX_LENGTH),
    }


def cpu(work: Callable[[], int], runs: int) -> tuple[float, int]:
    """Median CPU seconds of this process, and what the work answers."""
    seconds, answer = [], 0
    for _ in range(runs):
        before = time.process_time()
        answer = work()
        seconds.append(time.process_time() - before)
    return statistics.median(seconds), answer


def dataset(tokens: np.ndarray[Any, np.dtype[np.int64]]) -> Any:
    """Rows of token ids and labels with these lengths, in memory."""
    import datasets
    import pyarrow as pa

    datasets.disable_progress_bars()
    ends = pa.array(np.concatenate([[0], np.cumsum(tokens)]), pa.int32())
    ids = pa.array(np.zeros(int(tokens.sum()), np.int32))
    return datasets.Dataset(pa.table({name: pa.ListArray.from_arrays(ends, ids) for name in ("input_ids", "labels")}))


def trl_rows(rows: Any) -> int:
    """How many rows TRL makes of them."""
    from trl.data_utils import pack_dataset

    return len(pack_dataset(rows, MAX_LENGTH, "bfd"))


def report(rows: list[dict[str, Any]], runs: int) -> str:
    """The result as a page."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    lines = [
        f"# Packing, {dt.datetime.now(dt.UTC):%Y-%m-%d}",
        "",
        f"`OMP_NUM_THREADS=1 python benchmarks/packing.py -n {runs}`: {SEQUENCES:,} sequences, `max_length` {MAX_LENGTH};",
        f"median CPU seconds of {runs} plans. TRL's seconds are those of {COMPARED:,} sequences, once, times {SEQUENCES // COMPARED};",
        "they include copying the tokens, which a plan does not. Fill is of those sequences with `bfd`.",
        "",
        "| lengths | `bfd` | `bfd_split` | `wrapped` | TRL `bfd` | fill | TRL's fill | bound |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for each in rows:
        median, spread = MIXES[each["mix"]]
        planned = " | ".join(f"{each[name]:.3f}" for name in STRATEGIES)
        fill = " | ".join(f"{each[name]:.2%}" for name in ("fill", "trl fill", "bound"))
        name = f"{each['mix']}: median {median}, σ {spread}"
        lines.append(f"| {name} | {planned} | {each['trl']:.1f} | {fill} |")
    lines += [
        "",
        f"Machine: {processor()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}; load {load}.",
        f"Python {platform.python_version()}; {', '.join(f'{name} {installed(name)}' for name in VERSIONS)}.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    raise SystemExit(main())
