"""Versions of what computes: where a run is submitted and on each of its nodes, which must agree."""

from __future__ import annotations

import functools
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version

from launcher.runs.files import read_json, write_json
from launcher.runs.paths import RunDir
from launcher.version import VERSION

LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "bitsandbytes", "deepspeed")
NONE = "none"
"""Stands for a library that is not installed."""

Versions = Mapping[str, str]


def here(libraries: Sequence[str] = LIBRARIES) -> dict[str, str]:
    """Name → version of Python, of the launcher and of these libraries; `none` for what is not installed.

    Read from the metadata of the installed packages: nothing is imported.
    """
    return {"python": platform.python_version(), "launcher": VERSION, **{name: _installed(name) for name in libraries}}


def record(run_dir: RunDir, libraries: Sequence[str] = LIBRARIES, *, python: bool = True) -> None:
    """Write down the versions of this process, with which a run is submitted.

    Args:
        run_dir: the run.
        libraries: those to be found alike on the nodes; none where jobs use another interpreter than this one.
        python: Python itself is to be the same there.

    Raises:
        OSError: the run directory cannot be written.
    """
    found = {name: value for name, value in here(libraries).items() if value != NONE}
    write_json(run_dir.submitted_versions, found if python else {k: v for k, v in found.items() if k != "python"})


def submitted(run_dir: RunDir) -> dict[str, str]:
    """What `record` wrote; empty where it did not."""
    return {name: str(value) for name, value in (read_json(run_dir.submitted_versions) or {}).items()}


def odd_ones(by_node: Mapping[str, Versions], submitted_with: Versions) -> tuple[dict[str, str], tuple[str, ...]]:
    """Nodes that differ from the others, and differences that no single node is to blame for.

    More than half of the nodes decide what is right; where they are split evenly, the submitter's version does.

    Args:
        by_node: node's name → what it has.
        submitted_with: what the submitter has, of which not all need be known.

    Returns:
        Node → sentence, and sentences about all.
    """
    odd: dict[str, list[str]] = {}
    faults: list[str] = []
    for what in dict.fromkeys(name for each in by_node.values() for name in each):
        values = {node: versions.get(what, NONE) for node, versions in by_node.items()}
        right = _right(values, submitted_with.get(what))
        if right is None:
            listed = ", ".join(f"{value} on {node}" for node, value in values.items())
            faults.append(f"the nodes do not agree on {what}: {listed}")
            continue
        for node, value in values.items():
            if value != right:
                odd.setdefault(node, []).append(f"{what} is {value} here and {right} on the other nodes")
        if what in submitted_with and _public(submitted_with[what]) != _public(right):
            faults.append(f"{what} is {right} on the nodes and {submitted_with[what]} where the run was submitted")
    return {node: "; ".join(sentences) for node, sentences in odd.items()}, tuple(faults)


def _right(values: Mapping[str, str], submitted_with: str | None) -> str | None:
    """The version that counts; None where nothing decides."""
    commonest, times = Counter(values.values()).most_common(1)[0]
    if 2 * times > len(values):
        return commonest
    alike = [
        each for each in values.values() if submitted_with is not None and _public(each) == _public(submitted_with)
    ]
    return alike[0] if alike else None


def _public(text: str) -> str:
    """Without the build (`+cpu`, `+cu130`), which may differ between a login node and one with GPUs."""
    return text.partition("+")[0]


@functools.cache  # an array asks once for each of its runs
def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return NONE
