"""One rank whose every byte is counted by torch's own CPU allocator, which the profiler reads with each allocation.

Counted is what training holds from the beginning of its first step to the end of its third. The allocator counts from the
start of the process and for all threads; weights that still lie in the mapped file of a model are added once each.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import warnings
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

STEPS = 3
_MARK = "moment: "


def rank(run_dir: str) -> None:
    """Train the run as one rank and write `memory-RANK.json` beside its plan."""
    from launcher.worker import resume
    from launcher.worker.trainer import Trainer
    from tests.sharding import cells

    _count_all_threads()
    counter = _Counter()
    train, step, loss = resume.train, Trainer.training_step, Trainer.compute_loss

    def training(job: Any, trainer: Any, number: int) -> None:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            train(job, trainer, number)
        found = counter.result(profiler, job.plan.batch.accumulation)
        (Path(run_dir) / f"memory-{os.environ.get('RANK', '0')}.json").write_text(json.dumps(found))

    def stepping(self: Any, *args: Any, **kwargs: Any) -> Any:
        counter.first_step()
        with record_function(f"{_MARK}backward"):
            return step(self, *args, **kwargs)

    def losing(self: Any, *args: Any, **kwargs: Any) -> Any:
        with record_function(f"{_MARK}forward"):
            return loss(self, *args, **kwargs)

    resume.train, Trainer.training_step, Trainer.compute_loss = training, stepping, losing
    cells.rank(run_dir)


def _count_all_threads() -> None:
    """Have the allocator keep its total for memory that other threads take and give back, and that no profiler sees."""
    library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libc10.so"))
    ctypes.c_bool.in_dll(library, "FLAGS_caffe2_report_cpu_memory_usage").value = True


class _Counter:
    """Weights in mapped files, which no allocator has given out."""

    def __init__(self) -> None:
        self.mapped = -1

    def first_step(self) -> None:
        """Count those that are still there; once."""
        if self.mapped < 0:
            self.mapped = sum(_mapped().values())

    def result(self, profiler: Any, accumulation: int) -> dict[str, Any]:
        """Peak in bytes, its moment, the same by moment, and what lay in memory then by the operator that made it."""
        events = sorted(_events(profiler), key=lambda each: each[0])
        marks = [each for each in events if each[1] == "mark"]
        steps = [each[0] for each in marks if each[2] == "backward"]
        start, end = steps[0], steps[STEPS * accumulation]
        base = self.mapped
        peak, peaks, live, at_peak = 0, {}, {}, {}
        moment = "step"
        ends: list[tuple[int, str]] = []
        for time, kind, what, *rest in events:
            while ends and ends[-1][0] < time:
                ends.pop()
            if kind == "mark":
                ends.append((rest[0], what))
                continue
            size, total, at, _ = what, *rest
            if size > 0:
                live[at] = (size, rest[2])
            else:
                live.pop(at, None)
            if not start <= time < end:
                continue
            moment = ends[-1][1] if ends else "step"
            held = base + total
            if held > peaks.get(moment, 0):
                peaks[moment] = held
            if held > peak:
                peak, at_peak, when = held, dict(live), moment
        names: dict[str, int] = {}
        for size, name in at_peak.values():
            names[name] = names.get(name, 0) + size
        largest = sorted(names.items(), key=lambda each: -each[1])[:25]
        return {"peak": peak, "moment": when, "moments": peaks, "mapped": base, "live": largest}


def _mapped() -> dict[int, int]:
    """Address → bytes of every storage of a tensor that lies in a mapped file."""
    gc.collect()
    maps = (line.split(maxsplit=5) for line in Path("/proc/self/maps").read_text().splitlines())
    ranges = [
        tuple(int(each, 16) for each in parts[0].split("-")) for parts in maps if parts[-1].endswith(".safetensors")
    ]
    found: dict[int, int] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for each in gc.get_objects():
            try:
                if isinstance(each, torch.Tensor) and each.device.type == "cpu":
                    storage = each.untyped_storage()
                    found[storage.data_ptr()] = storage.nbytes()
            except (ReferenceError, RuntimeError, NotImplementedError):
                continue  # a dead proxy, a tensor without storage
    return {at: size for at, size in found.items() if any(low <= at < high for low, high in ranges)}


def _events(profiler: Any) -> Any:
    """(time, "mark", moment, end) and (time, "memory", bytes, total, address, operator), in no order."""
    stack = [(each, "") for each in profiler.profiler.kineto_results.experimental_event_tree()]
    while stack:
        event, path = stack.pop()
        if event.tag.name == "Allocation":
            fields = event.extra_fields
            yield event.start_time_ns, "memory", fields.alloc_size, fields.total_allocated, fields.ptr, path
            continue
        name = event.name
        if name.startswith(_MARK):
            yield event.start_time_ns, "mark", name.removeprefix(_MARK), event.end_time_ns
            name = ""
        elif name.startswith("autograd::engine"):
            name = name.rpartition(" ")[2]
        inner = path or name if name.startswith("aten::") or not name else name
        stack += [(child, inner) for child in event.children]
