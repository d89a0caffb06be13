"""The machine and what it has installed, for the head of a result; and the GPU's memory at a moment."""

from __future__ import annotations

import gc
import os
import platform
import subprocess
from importlib import metadata
from typing import Any

from benchmarks.gpu.arithmetic import GIB

VERSIONS = (
    "finetune-launcher", "torch", "triton", "transformers", "trl", "peft", "bitsandbytes", "accelerate", "datasets",
    "deepspeed", "liger-kernel", "kernels", "flash-attn",
)  # fmt: skip
_QUERY = (
    "name", "driver_version", "memory.total", "memory.used", "clocks.sm", "clocks.mem", "clocks.max.sm",
    "power.limit", "temperature.gpu", "mig.mode.current",
)  # fmt: skip


def described() -> dict[str, Any]:
    """GPU, driver, clocks at rest, processor; None where there is no GPU to ask."""
    return {
        "gpus": _gpus(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def versions() -> dict[str, str | None]:
    """Installed versions; None for what is missing."""
    return {name: _version(name) for name in VERSIONS}


def release() -> None:
    """Give back what the last row held, so that the next one starts clean."""
    import torch

    torch.compiler.reset()  # else a row would run what an earlier one compiled
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def held_gib() -> float:
    """What torch's allocator holds for live tensors now."""
    import torch

    return torch.cuda.memory_allocated() / GIB if torch.cuda.is_initialized() else 0.0


def peaks() -> dict[str, float | None]:
    """Peak of live tensors and of torch's pool since `release`, and what the whole device has in use now; GiB."""
    import torch

    if not torch.cuda.is_initialized():
        return dict.fromkeys(("peak_allocated_gib", "peak_reserved_gib", "device_used_gib"))
    free, total = torch.cuda.mem_get_info()
    return {
        "peak_allocated_gib": round(torch.cuda.max_memory_allocated() / GIB, 3),
        "peak_reserved_gib": round(torch.cuda.max_memory_reserved() / GIB, 3),
        "device_used_gib": round((total - free) / GIB, 3),
    }


def _gpus() -> list[dict[str, str]] | None:
    try:
        done = subprocess.run(
            ["nvidia-smi", f"--query-gpu={','.join(_QUERY)}", "--format=csv,noheader"],
            capture_output=True, text=True, timeout=20, check=False,
        )  # fmt: skip
    except OSError:
        return None
    rows = [line.split(", ") for line in done.stdout.splitlines() if done.returncode == 0]
    return [dict(zip(_QUERY, row, strict=False)) for row in rows] or None


def _processor() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123 - not a file of ours
        names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
