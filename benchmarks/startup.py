"""CPU seconds of `launcher --help`, `launcher plan RECIPE` and `trl --help`, measured in turn in one run.

    python benchmarks/startup.py [-n 15] [--out benchmarks/results]

CPU seconds (user + system, of the child process) do not depend on what else the machine does, as wall time does;
the programs take turns, so that a slow minute is slow for all of them. The median of N is reported.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RECIPE = "recipes/qwen3-8b-qlora-sft.yaml"
VERSIONS = ("finetune-launcher", "trl", "pydantic", "PyYAML")


@dataclass
class Program:
    """A command line and its measured CPU and wall seconds."""

    name: str
    argv: list[str]
    cpu_s: list[float] = field(default_factory=list)
    wall_s: list[float] = field(default_factory=list)


def main() -> int:
    """Measure, print the table, write it to a dated file."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("-n", type=int, default=15, help="runs of each program (default 15)")
    arguments.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="folder of the result")
    args = arguments.parse_args()
    programs = [Program(name, argv) for name, argv in commands() if shutil.which(argv[0])]
    for program in programs:
        measure(program)  # the first start fills the file cache
        program.cpu_s.clear()
        program.wall_s.clear()
    for _ in range(args.n):
        for program in programs:
            measure(program)
    text = report(programs, args.n)
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / f"{dt.datetime.now(dt.UTC):%Y-%m-%d}-startup.md"
    path.write_text(text, encoding="utf-8")
    print(text)
    print(f"written to {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")
    return 0


def commands() -> list[tuple[str, list[str]]]:
    """What is compared. Programs that are not installed are left out."""
    ours = shutil.which("launcher", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}") or "launcher"
    theirs = shutil.which("trl", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}") or "trl"
    return [
        ("launcher --help", [ours, "--help"]),
        (f"launcher plan {RECIPE}", [ours, "plan", RECIPE]),
        ("trl --help", [theirs, "--help"]),
        ("python -c pass", [sys.executable, "-c", "pass"]),
        ("python -c 'import pydantic, yaml' (one model)", [sys.executable, "-c", LIBRARIES]),
    ]


LIBRARIES = "import yaml; from pydantic import BaseModel, Field, ValidationError; type('A', (BaseModel,), {})()"


def measure(program: Program) -> None:
    """Start the program once."""
    before, clock = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(program.argv, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    program.wall_s.append(time.perf_counter() - clock)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    program.cpu_s.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def report(programs: list[Program], runs: int) -> str:
    """The result as a page."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    lines = [
        f"# Start-up, {dt.datetime.now(dt.UTC):%Y-%m-%d}",
        "",
        f"`python benchmarks/startup.py -n {runs}`: median of {runs} runs in turn, user + system seconds of the process.",
        "",
        "| program | CPU s | lowest | highest | wall s |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for each in programs:
        cpu, low, high = statistics.median(each.cpu_s), min(each.cpu_s), max(each.cpu_s)
        lines.append(f"| `{each.name}` | {cpu:.3f} | {low:.3f} | {high:.3f} | {statistics.median(each.wall_s):.3f} |")
    lines += [
        "",
        f"Machine: {processor()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}; load {load}.",
        f"Python {platform.python_version()}; {', '.join(f'{name} {installed(name)}' for name in VERSIONS)}.",
    ]
    return "\n".join(lines) + "\n"


def processor() -> str:
    """The processor's name."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def installed(name: str) -> str:
    """Version of a package, or `-`."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "-"


if __name__ == "__main__":
    raise SystemExit(main())
