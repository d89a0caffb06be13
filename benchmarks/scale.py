"""Memory of `prepare` on two million rows, made on the spot.

    python -m benchmarks.scale [--rows 2000000] [--out benchmarks/results]

Rows are seeded chats of 40 to 90 tokens. The stage runs as the launcher starts it, with one process for each core, exact
duplicates, a held-out set of 2,000 rows, decontamination and packing. Every tenth of a second the memory of the stage and its processes is
read: resident pages (RSS, files that are mapped and can be given back at any time included) and proportional ones
(PSS, pages that processes share counted once).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import page

ROOT = Path(__file__).resolve().parent.parent
WORDS = [
    "the",
    "a",
    "my",
    "river",
    "house",
    "paper",
    "seven",
    "apple",
    "green",
    "answer",
    "old",
    "light",
    "carry",
    "winter",
    "table",
    "reason",
    "letter",
    "garden",
]


def main() -> int:
    """Make the rows, prepare them, watch the memory, write the page."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rows", type=int, default=2_000_000)
    arguments.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="folder of the result")
    args = arguments.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        file = folder / "rows.jsonl"
        with file.open("w", encoding="utf-8") as out:
            out.writelines(json.dumps(row) + "\n" for row in rows(args.rows))
        size = file.stat().st_size
        seconds, peak = prepared(folder, file)
        facts = json.loads((folder / "runs" / "scale" / "data.json").read_text())
        on_disk = sum(each.stat().st_size for each in (folder / "runs").rglob("*.arrow") if each.is_file())
    page.write(args.out, "scale", lines(args.rows, size, seconds, peak, facts, on_disk))
    return 0


def rows(number: int) -> Iterator[dict[str, object]]:
    """Seeded conversations of one question and one answer."""
    source = random.Random(7)
    for i in range(number):
        asked = " ".join(source.choices(WORDS, k=source.randrange(8, 20)))
        said = " ".join(source.choices(WORDS, k=source.randrange(8, 30)))
        yield {"messages": [{"role": "user", "content": f"{i}: {asked}?"}, {"role": "assistant", "content": said}]}


def prepared(folder: Path, file: Path) -> tuple[float, dict[str, float]]:
    """Wall seconds of `launcher prepare`, and the highest sums of memory of its processes in MiB."""
    recipe = folder / "scale.yaml"
    recipe.write_text(
        f"model: {{model_name_or_path: {ROOT}/recipes/demo/base, tokenizer_name_or_path: {ROOT}/recipes/demo/tokenizer}}\n"
        f"data:\n  datasets: [{{label: rows, path: {file}}}]\n"
        "  eval_datasets: [{label: held_out, from: rows, fraction: 0.001}]\n"
        "  max_length: 1024\n  packing: true\n"
    )
    argv = [str(Path(sys.executable).parent / "launcher"), "prepare", str(recipe), "--runs", str(folder / "runs")]
    started = time.perf_counter()
    child = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peak = {"rss": 0.0, "pss": 0.0, "largest": 0.0}
    while child.poll() is None:
        found = [memory(pid) for pid in family(child.pid)]
        peak["rss"] = max(peak["rss"], sum(each["Rss"] for each in found))
        peak["pss"] = max(peak["pss"], sum(each["Pss"] for each in found))
        peak["largest"] = max([peak["largest"], *(each["Rss"] for each in found)])
        time.sleep(0.1)
    assert child.returncode == 0, child.returncode
    return time.perf_counter() - started, peak


def family(pid: int) -> list[int]:
    """A process and all below it."""
    try:
        tasks = Path(f"/proc/{pid}/task").iterdir()
        below = [int(each) for task in tasks for each in (task / "children").read_text().split()]
    except OSError:
        return [pid]
    return [pid, *(each for child in below for each in family(child))]


def memory(pid: int) -> dict[str, float]:
    """Resident and proportional memory of one process in MiB."""
    found = {"Rss": 0.0, "Pss": 0.0}
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in found:
                found[name] = int(value.split()[0]) / 1024
    except (OSError, ValueError):
        pass
    return found


def lines(number: int, size: int, seconds: float, peak: dict[str, float], facts: dict, on_disk: int) -> list[str]:
    """The page."""
    train = facts["sets"]["train"]
    return [
        f"`python -m benchmarks.scale --rows {number}`: `launcher prepare` as a whole, {facts['work']['processes']} processes, exact duplicates,",
        "2,000 rows held out, decontamination, packing to 1,024 tokens.",
        "",
        "| | |",
        "| --- | ---: |",
        f"| rows | {number:,} |",
        f"| jsonl | {size / 2**20:,.0f} MiB |",
        f"| tokens | {train['tokens'] / 1e6:,.1f} M |",
        f"| packed rows, fill | {train['rows']:,}, {train['fill']:.2%} |",
        f"| wall time | {seconds:,.0f} s |",
        f"| peak memory of all processes, proportional (PSS) | {peak['pss']:,.0f} MiB |",
        f"| peak memory of all processes, resident (RSS, shared pages counted for each) | {peak['rss']:,.0f} MiB |",
        f"| peak of the largest process (RSS) | {peak['largest']:,.0f} MiB |",
        f"| Arrow files, cache and run (links counted twice) | {on_disk / 2**20:,.0f} MiB |",
    ]


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    raise SystemExit(main())
