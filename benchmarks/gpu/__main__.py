"""Measure training on one GPU, offline, with models from their configurations, until a deadline.

    python -m benchmarks.gpu --suite ladder,memory --deadline 540 [--out FILE]
    python -m benchmarks.gpu --suite all --smoke --deadline 240      (no GPU: the same code on tiny shapes)

Rows are written to a JSON-lines file one by one, so that a run that is cut off leaves what it has measured. This
process imports no torch: it starts the one that measures, starts it again after a row that failed, and ends it when
the time is up. `docs/gpu-suite.md` says what is measured and how to read it.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.gpu import arithmetic, batches, machine
from benchmarks.gpu.record import SMOKE_NOTE, START_AGAIN, Record
from benchmarks.gpu.setup import Scale
from benchmarks.gpu.suites import SUITES

ROOT = Path(__file__).resolve().parents[2]
_GRACE_S = 10


def main() -> int:
    """Measure, and print each row as it comes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--suite", default="all", help=f"comma-separated, or `all`: {', '.join(SUITES)}")
    parser.add_argument("--deadline", type=float, default=540, help="seconds in all (default 540)")
    parser.add_argument("--smoke", action="store_true", help="tiny shapes on the CPU; measures nothing")
    parser.add_argument("--out", type=Path, help="result file (default: build/, or benchmarks/results/ with a GPU)")
    parser.add_argument("--measure-until", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args()
    names = SUITES if args.suite == "all" else tuple(args.suite.split(","))
    unknown = [name for name in names if name not in SUITES]
    if unknown:
        parser.error(f"no suite `{unknown[0]}`; there are {', '.join(SUITES)}")
    scale, record = Scale(args.smoke), Record(args.out or _default(args.smoke))
    if args.measure_until:
        from benchmarks.gpu.carry_out import carry_out

        return carry_out(names, scale, record, args.measure_until)
    return _supervise(names, scale, record, args.deadline)


def _supervise(names: tuple[str, ...], scale: Scale, record: Record, seconds: float) -> int:
    started = time.time()
    found = machine.described()
    if not scale.smoke and found["gpus"] is None:
        sys.stderr.write("error: nvidia-smi shows no GPU\nhint:  --smoke runs the same code on the CPU\n")
        return 4
    record.begin(
        {
            "smoke": scale.smoke, "note": SMOKE_NOTE if scale.smoke else None, "suites": names, "deadline_s": seconds,
            "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"), "machine": found,
            "versions": machine.versions(), "steps": f"{scale.warm_up} to warm up, {scale.timed} timed, the median counts",
            "lengths": batches.LENGTHS, "flops": arithmetic.FLOPS_FORMULA, "memory": arithmetic.MEMORY_FORMULA,
        }
    )  # fmt: skip
    argv = [sys.executable, "-m", "benchmarks.gpu", "--suite", ",".join(names), "--out", str(record.path.resolve())]
    argv += ["--measure-until", str(started + seconds), *(["--smoke"] if scale.smoke else [])]
    until, code = started + seconds, None
    while code != 0 and time.time() < until:
        before = len(record.rows())
        code = _measured(argv, record, until + _GRACE_S)
        lost = record.missing()[:1]
        if code == 0 or (code == START_AGAIN and len(record.rows()) > before):
            continue
        if not lost:  # it did not come as far as its first row
            break
        # Whatever it was, the row that was under way is told and the next one gets its turn.
        why = "cut off by the deadline" if code is None else f"the process ended with code {code}"
        record.add(lost[0], smoke=scale.smoke, error={"kind": "lost", "message": why})
    for row in record.missing():
        record.add(row, smoke=scale.smoke, skipped="the deadline had passed")
    whole = bool(record.rows()) and not record.missing()
    record.end(seconds=round(time.time() - started, 1), rows=len(record.rows()), whole=whole)
    print(f"{record.path}: {_summary(record)}")
    return 0 if whole else 6


def _measured(argv: list[str], record: Record, until: float) -> int | None:
    """Run the measuring process and print its rows; its exit code, or None when its time was up and it was ended."""
    shown = len(record.rows())
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with record.path.with_suffix(".log").open("ab") as log:
        process = subprocess.Popen(
            argv, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        while process.poll() is None and time.time() < until:
            time.sleep(0.5)
            shown = _print_new(record, shown)
        return process.poll()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        _print_new(record, shown)


def _print_new(record: Record, shown: int) -> int:
    rows = record.rows()
    for row in rows[shown:]:
        print(f"{row['suite']:<11}{row['variant']:<40}{row['seconds']:>7.1f} s  {_in_short(row)}", flush=True)
    return len(rows)


def _in_short(row: dict[str, Any]) -> str:
    for kind in ("error", "skipped"):
        if kind in row:
            what = row[kind]["message"] if kind == "error" else row[kind]
            return f"{kind}: {what.splitlines()[0][:120] if what else row[kind]}"
    shown = ("real_tokens_per_s", "peak_allocated_gib", "peak_to_expected", "loss_last", "losses", "packed_to_float32")
    figures = {name: row["result"][name] for name in shown if row["result"].get(name) is not None}
    return (
        ", ".join(
            f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in figures.items()
        )
        or "ran"
    )


def _summary(record: Record) -> str:
    rows = record.rows()
    kinds = [next(kind for kind in ("result", "error", "skipped") if kind in row) for row in rows]
    return f"{len(rows)} rows: {kinds.count('result')} measured, {kinds.count('skipped')} skipped, {kinds.count('error')} failed"


def _default(smoke: bool) -> Path:
    name = f"{dt.datetime.now(dt.UTC):%Y-%m-%d}-gpu.jsonl"
    return ROOT / "build" / f"smoke-{name}" if smoke else ROOT / "benchmarks" / "results" / name


if __name__ == "__main__":
    raise SystemExit(main())
