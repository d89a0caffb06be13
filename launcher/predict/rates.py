"""How fast a device computes and moves: the vendor's peaks times the part of them that programs reach."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

from launcher.catalog.gpus import GpuRow
from launcher.predict.links import Links

_FILE = Path(__file__).with_name("efficiency.yaml")
_TERA, _GIGA = 1e12, 1e9
_LINK = 0.8
"""Part of a link's peak that NCCL's collectives and pinned copies reach (nccl-tests on NVLink and PCIe: 75 to 90 %)."""
_NETWORK = {True: 25.0, False: 3.0}
"""GB/s of each GPU to other nodes, where nothing says it: 200 Gbit/s beside NVLink, a shared 25 Gbit/s without."""
_OVER_HOST = 0.4
"""Part of PCIe's peak left between GPUs without NVLink, whose messages go through host memory."""
_HOST_MEMORY = 40.0
"""GB/s at which a node's processors update optimizer state in its memory."""
_BALANCE = 0.25
"""Bytes that a core moves for single elements in the time of a floating-point operation: 75 GFLOP/s in float32 products beside 18
to 20 GB/s in silu and squares, torch 2.13 on one core of an x86 server."""

_CORE = 75e9
"""Floating-point operations a second of the core that the proportions were measured on; one operation takes `LAUNCH_S` there."""
_CPU_ATTENTION = 0.45
"""Of the products' rate, what its fused attention reaches: 33 to 35 beside 75 GFLOP/s, on the same core."""

_GLOO = 1 / 30
"""Of the memory's rate, at which FSDP2 and ZeRO-3 gather weights over gloo on one machine, with all that is copied for it: about
0.6 beside 20 GB/s, by the processor time of `benchmarks/predictor/order.py`."""


@dataclass(frozen=True)
class Efficiency:
    """Parts of the vendor's peaks that training reaches, between 0 and 1."""

    matrices: float
    """Of the matrix products' peak."""
    attention: float
    """Of the same peak, in a fused kernel without a mask."""
    masked: float
    """Of the same peak, in a fused kernel with a mask of all pairs."""
    memory: float
    """Of the memory's bandwidth."""
    error: float
    """How far a published speed may be from what these give, as a part of it."""
    source: str


@dataclass(frozen=True)
class Rates:
    """What one rank reaches, a second. On a CPU a rank has its part of the cores."""

    matrices: float
    """Floating-point operations in products with weights."""
    attention: float
    """The same in attention without a mask."""
    masked: float
    """The same in attention with a mask of all pairs."""
    memory: float
    """Bytes to and from its memory."""
    links: Links
    host: float
    """Bytes between device and host memory, one direction."""
    host_memory: float
    """Bytes of optimizer state in host memory that are read and written, of one rank."""
    launch_s: float
    """Seconds from one operation to the next that the program asks for."""
    asynchronous: bool = True
    """The device works while the program goes on asking."""
    origin: Literal["catalogue", "calibrated"] = "catalogue"


def gpu_rates(gpu: GpuRow, precision: str, ranks_per_node: int = 1, part: Efficiency | None = None) -> Rates:
    """A GPU's, from the catalogue and the efficiency table.

    Args:
        gpu: the catalogue's row.
        precision: torch's name of the type of the products. float32 is multiplied outside the tensor cores, as torch does.
        ranks_per_node: GPUs that share the node's host memory.
        part: what is reached of the peaks; None: the table's.
    """
    part = part or efficiency(gpu)
    peak = (gpu.tflops_fp32 if precision == "float32" else gpu.tflops_16bit) * _TERA
    host = gpu.host_gb_s * _GIGA * _LINK
    joined = gpu.nvlink_gb_s is not None and not (gpu.nvlink_pairs and ranks_per_node > 2)
    peer = (gpu.nvlink_gb_s or 0.0) * _GIGA * _LINK if joined else gpu.host_gb_s * _GIGA * _OVER_HOST
    return Rates(
        matrices=peak * part.matrices,
        attention=peak * part.attention,
        masked=peak * part.masked,
        memory=gpu.memory_gb_s * _GIGA * part.memory,
        links=Links(peer, _NETWORK[joined and not gpu.nvlink_pairs] * _GIGA * _LINK),
        host=host,
        host_memory=_HOST_MEMORY * _GIGA / max(1, ranks_per_node),
        launch_s=LAUNCH_S,
    )


LAUNCH_S = 20e-6
"""Python, autograd and the driver, for one of the operations that `time.operations` counts. Set by one published point, short
rows on an A100 in 2023 (Qwen-1.8B, 256 tokens); newer hosts and versions may be faster."""


def cpu_rates(flops_per_s: float) -> Rates:
    """A rank's on a processor, from the floating-point operations a second that a run measured there (`launcher calibrate`).

    The rest follows in proportion, so that setups can be compared: the machine's memory and its loopback are taken to
    move `_BALANCE` bytes for each operation.
    """
    memory = flops_per_s * _BALANCE
    return Rates(
        matrices=flops_per_s,
        attention=flops_per_s * _CPU_ATTENTION,
        masked=flops_per_s * _CPU_ATTENTION,
        memory=memory,
        links=Links(memory * _GLOO, memory * _GLOO, latency_s=2e-4),
        host=memory,
        host_memory=memory,
        launch_s=LAUNCH_S * _CORE / flops_per_s,
        asynchronous=False,
        origin="calibrated",
    )


def efficiency(gpu: GpuRow) -> Efficiency:
    """The table's row for a GPU: by its name, else by its compute capability, else the last one."""
    rows = _rows()
    named = next((row for row in rows if gpu.name in row["gpus"]), None)
    alike = next((row for row in rows if row["capability"] == gpu.capability), None)
    row = dict(named or alike or rows[-1])
    del row["gpus"], row["capability"]
    return Efficiency(**row)


def scaled(rates: Rates, factor: float) -> Rates:
    """Rates of a device that runs so many times as fast in everything."""
    return replace(
        rates,
        matrices=rates.matrices * factor,
        attention=rates.attention * factor,
        masked=rates.masked * factor,
        memory=rates.memory * factor,
        launch_s=rates.launch_s / factor,
    )


@cache
def _rows() -> tuple[dict[str, Any], ...]:
    return tuple(yaml.load(_FILE.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader))
