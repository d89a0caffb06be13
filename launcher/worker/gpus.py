"""The GPUs of a node before anything uses them, as `nvidia-smi` tells: how many, whether they are sound, whether they are free."""

from __future__ import annotations

import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from shutil import which

from launcher.runs.preflight import Check

_COMMAND = ("nvidia-smi", "-q", "-x")
_TIMEOUT_S = 30
_LEAST_FREE = 0.95
_SICK: tuple[tuple[str, str], ...] = (
    ("remapped_rows/remapped_row_pending", "has a memory row to be remapped, which takes a reset"),
    ("remapped_rows/remapped_row_failure", "has a broken memory row that it could not remap"),
    ("retired_pages/pending_retirement", "has a memory page to be retired, which takes a reset"),
    ("ecc_errors/channel_repair_pending", "has a memory channel to be repaired, which takes a reset"),
    ("ecc_errors/tpc_repair_pending", "has a unit to be repaired, which takes a reset"),
)
"""What stands at `Yes` in a GPU that must not be used."""


@dataclass(frozen=True)
class Found:
    """What was found out about the GPUs of this node."""

    check: Check
    driver: str | None = None
    names: tuple[str, ...] = ()


def look(planned: int, visible: str | None) -> Found:
    """Ask `nvidia-smi` about this node.

    Args:
        planned: GPUs that the plan counts on.
        visible: CUDA_VISIBLE_DEVICES, which the scheduler sets; None where it is not set.
    """
    if which(_COMMAND[0]) is None:
        return Found(Check("odd", f"{planned} GPUs are planned, and there is no nvidia-smi here"))
    try:
        answer = subprocess.run(_COMMAND, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return Found(Check("bad", f"nvidia-smi gives no answer in {_TIMEOUT_S} s"))
    except OSError as fault:
        return Found(Check("bad", f"nvidia-smi cannot be started: {fault.strerror}"))
    if answer.returncode:
        said = " ".join((answer.stdout + answer.stderr).split())[-200:]
        return Found(Check("bad", f"nvidia-smi ends with code {answer.returncode}: {said}"))
    return judge(answer.stdout, planned, visible)


def judge(answer: str, planned: int, visible: str | None) -> Found:
    """What the answer of `nvidia-smi -q -x` says about the GPUs that are visible to the job."""
    try:
        log = ET.fromstring(answer)  # noqa: S314 - the driver's own answer
    except ET.ParseError:
        return Found(Check("bad", "nvidia-smi gives half an answer"))
    gpus = list(_visible(log.findall("gpu"), visible))
    driver, names = log.findtext("driver_version"), tuple(_text(gpu, "product_name") for _, gpu in gpus)
    wrong = [f"GPU {index} {why}" for index, gpu in gpus for why in (*_sick(gpu), *_taken(gpu))]
    if wrong:
        return Found(Check("bad", "; ".join(wrong)), driver, names)
    if len(gpus) < planned:
        return Found(Check("odd", f"{planned} GPUs are planned, and {len(gpus)} are here"), driver, names)
    return Found(Check("ok"), driver, names)


def _visible(gpus: Sequence[ET.Element], visible: str | None) -> Iterator[tuple[int, ET.Element]]:
    """(number, GPU) of those that CUDA would use: by number or UUID, up to the first entry that is neither."""
    if visible is None:
        yield from enumerate(gpus)
        return
    for entry in (part.strip() for part in visible.split(",")):
        here = [
            (number, gpu)
            for number, gpu in enumerate(gpus)
            if entry == str(number) or (entry.startswith("GPU-") and _text(gpu, "uuid").startswith(entry))
        ]
        if not here:
            return
        yield here[0]


def _sick(gpu: ET.Element) -> Iterator[str]:
    # The driver's own advice; a fatal Xid shows here. Older drivers do not have it.
    action = _text(gpu, "gpu_recovery_action")
    if action not in ("", "None", "N/A"):
        yield f"needs recovery, says the driver: {action}"
    yield from (why for path, why in _SICK if _text(gpu, path) == "Yes")
    counted = {
        each.tag: each.text or "" for each in gpu.findall("ecc_errors/volatile/*") if "uncorrectable" in each.tag
    }
    errors = {tag: int(text) for tag, text in counted.items() if text.isdigit() and int(text)}
    if errors:
        yield "has uncorrectable memory errors: " + ", ".join(f"{tag} {number}" for tag, number in errors.items())


def _taken(gpu: ET.Element) -> Iterator[str]:
    """Memory that somebody else holds, and who."""
    total, free = (_mib(gpu, f"fb_memory_usage/{name}") for name in ("total", "free"))
    if not total or free is None or free >= _LEAST_FREE * total:
        return
    holders = [
        f"pid {_text(each, 'pid')} ({_text(each, 'process_name') or 'unknown'}, {_text(each, 'used_memory')})"
        for each in gpu.findall("processes/process_info")
    ]
    yield f"has {free:,} of {total:,} MiB free; held by {', '.join(holders) or 'processes that it does not show'}"


def _mib(gpu: ET.Element, path: str) -> int | None:
    number = _text(gpu, path).partition(" ")[0]
    return int(number) if number.isdigit() else None


def _text(element: ET.Element, path: str) -> str:
    return (element.findtext(path) or "").strip()
