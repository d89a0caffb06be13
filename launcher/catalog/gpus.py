"""GPUs by name: `gpus.yaml`, each row with its source."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from launcher.errors import UsageError
from launcher.text import did_you_mean

_FILE = Path(__file__).with_name("gpus.yaml")
_NOISE = re.compile(r"nvidia|geforce|rtx|tesla|[^a-z0-9]")


@dataclass(frozen=True)
class GpuRow:
    """One kind of GPU. `memory_mib` is the total that nvidia-smi prints, `capability` NVIDIA's compute capability.

    Rates are peaks without sparsity, in TFLOP/s; bandwidths in GB/s (1e9).
    """

    name: str
    memory_mib: int
    capability: float
    source: str
    tflops_16bit: float
    """bfloat16 (float16 where that is not multiplied) on tensor cores, summed in float32."""
    tflops_fp32: float
    """float32 outside the tensor cores: torch's default."""
    memory_gb_s: float
    host_gb_s: float
    """To host memory, one direction."""
    power_w: int
    """The board's limit."""
    tflops_tf32: float | None = None
    """float32 on tensor cores in TF32, where they have it."""
    nvlink_gb_s: float | None = None
    """Between two GPUs of a node, one direction; None: over the host."""
    nvlink_pairs: bool = False
    """NVLink is a bridge that joins two to four cards, and may be absent."""
    aliases: tuple[str, ...] = ()

    @property
    def bf16(self) -> bool:
        """Whether its tensor cores multiply bfloat16."""
        return self.capability >= 8

    @property
    def memory_gib(self) -> float:
        """Total memory in GiB."""
        return self.memory_mib / 1024


@cache
def gpus() -> tuple[GpuRow, ...]:
    """All rows, in the file's order."""
    rows = yaml.load(_FILE.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    return tuple(GpuRow(**{**row, "aliases": tuple(row.get("aliases", ()))}) for row in rows)


def is_gpu(name: str) -> bool:
    """Whether the catalog knows this name (case, blanks, dashes, maker and brand do not matter)."""
    return _key(name) in _index()


def gpu(name: str) -> GpuRow:
    """The GPU called `name`.

    Raises:
        UsageError: the catalog has no such GPU; the nearest name stands in the hint.
    """
    found = _index().get(_key(name))
    if found is None:
        near = did_you_mean(_key(name), _index())
        known = f"known: {', '.join(row.name for row in gpus())}"
        raise UsageError(f"unknown GPU `{name}`", hint=f"did you mean `{_index()[near].name}`?" if near else known)
    return found


@cache
def _index() -> dict[str, GpuRow]:
    return {_key(name): row for row in gpus() for name in (row.name, *row.aliases)}


def _key(name: str) -> str:
    return _NOISE.sub("", name.lower())
