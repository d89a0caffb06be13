"""Nodes that failed a run: remembered for a day, and kept out of its next turns."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

from launcher.executors.slurm import client
from launcher.runs import attempts, preflight
from launcher.runs.files import read_json, write_json
from launcher.runs.paths import RunDir

_REMEMBERED_S = 24 * 3600.0
_OUT_OF_ORDER = ("down", "drain", "fail", "maint", "not_responding", "error")


def known(run_dir: RunDir) -> dict[str, str]:
    """Node → why it is kept out."""
    noted = (read_json(run_dir.excluded) or {}).get("nodes") or {}
    return {name: each["why"] for name, each in noted.items() if time.time() - each["time"] < _REMEMBERED_S}


def remember(run_dir: RunDir, why: Mapping[str, str]) -> None:
    """Keep these nodes out from now on."""
    if why:
        nodes = {name: {"why": each, "time": round(time.time(), 3)} for name, each in {**known(run_dir), **why}.items()}
        write_json(run_dir.excluded, {"nodes": nodes})


def lost(run_dir: RunDir) -> dict[str, str]:
    """Nodes of the last attempt that SLURM has taken out of service: that attempt died with one of them.

    Raises:
        Unreachable: the controller does not answer.
    """
    numbers = attempts.numbers(run_dir)
    last = attempts.read(run_dir, numbers[-1]) if numbers else None
    if last is None or last.code is not None:
        return {}
    names = [report.name for report in preflight.reports(run_dir, last.number).values()]
    states = _states(names)
    return {name: f"SLURM calls it {states[name]}" for name in names if _is_out(states.get(name, ""))}


def _states(names: Sequence[str]) -> dict[str, str]:
    if not names:
        return {}
    rows = client.call("sinfo", "-h", "-N", "-n", ",".join(names), "-o", "%N %T").out.splitlines()
    return {name: state for name, _, state in (row.partition(" ") for row in rows)}


def _is_out(state: str) -> bool:
    return state.endswith("*") or state.lower().startswith(_OUT_OF_ORDER)


def to_exclude(run_dirs: Iterable[RunDir], partition: str | None, nodes: int) -> tuple[str, ...]:
    """Nodes to keep out of the next turn of these runs; none where too few would be left in the partition.

    Raises:
        Unreachable: the controller does not answer.
    """
    bad = sorted({name for each in run_dirs for name in known(each)})
    if not bad:
        return ()
    where = ["-p", partition] if partition else []
    there = set(client.call("sinfo", "-h", "-N", *where, "-o", "%N").out.split())
    return tuple(bad) if len(there - set(bad)) >= nodes else ()


def among(run_dir: RunDir, nodes: Iterable[str]) -> dict[str, str]:
    """Those of these nodes that are to be kept out."""
    bad = known(run_dir)
    return {name: bad[name] for name in nodes if name in bad}
