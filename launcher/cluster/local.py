"""`local`: this machine, looked at from outside (nvidia-smi, /proc). Nothing here loads CUDA."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher.cluster.schema import Cluster, Gpu
from launcher.errors import UsageError

_QUERY = "index,uuid,name,memory.total,memory.free,compute_cap"
_TIMEOUT_S = 15
_CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_MEMORY_LIMIT, _MEMORY_USED = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
_WSL_NVIDIA_SMI = "/usr/lib/wsl/lib/nvidia-smi"
_SITE_PATHS = {
    "data": "LAUNCHER_DATA",
    "models": "LAUNCHER_MODELS",
    "cache": "LAUNCHER_CACHE",
    "runs": "LAUNCHER_RUNS",
}


@dataclass(frozen=True)
class Device:
    """One GPU as nvidia-smi reports it. Memory in MiB."""

    index: int
    uuid: str
    name: str
    memory_mib: int
    free_mib: int
    capability: float
    """NVIDIA's compute capability; 0 where the driver does not say."""


def usable_cpus(allowed: int, quota: Path) -> int:
    """Cores this process may use: those it may be scheduled on, or fewer where a container's quota says so.

    Args:
        allowed: cores it may be scheduled on.
        quota: the cgroup's `cpu.max`, `QUOTA PERIOD` in microseconds, or `max PERIOD` without a limit.
    """
    try:
        limit, period = quota.read_text(encoding="ascii").split()
        return allowed if limit == "max" else max(1, min(allowed, round(int(limit) / int(period))))
    except (OSError, ValueError):
        return allowed


def detect(gpus: str | None = None) -> Cluster:
    """This machine as a cluster of one node.

    Args:
        gpus: `0,2` (numbers as nvidia-smi shows them) or `none`; left out, all that CUDA_VISIBLE_DEVICES allows.

    Raises:
        UsageError: `gpus` names a GPU that is not here.
    """
    devices, notes = ([], ()) if gpus == "none" else _query()
    visible = None
    if gpus is not None:
        devices = chosen(devices, gpus)
        visible = ",".join(str(device.index) for device in devices)
    elif "CUDA_VISIBLE_DEVICES" in os.environ:
        devices = allowed(devices, os.environ["CUDA_VISIBLE_DEVICES"])
    return Cluster(
        name="local",
        gpu=weakest(devices),
        gpus_per_node=len(devices),
        cpus_per_node=usable_cpus(len(os.sched_getaffinity(0)), _CPU_QUOTA),
        memory_gib=memory_gib(),
        free_memory_gib=free_memory_gib(),
        wsl="microsoft" in Path("/proc/version").read_text(encoding="utf-8").lower(),
        paths=paths(os.environ),
        visible=visible,
        notes=(*notes, *_mixed(devices)),
    )


def paths(environment: Mapping[str, str]) -> dict[str, str]:
    """This machine's folders for `${name}`, from the LAUNCHER_* variables that are set."""
    return {name: environment[key] for name, key in _SITE_PATHS.items() if environment.get(key)}


def parse_devices(text: str) -> list[Device]:
    """The GPUs in nvidia-smi's answer (csv, no header, no units); a GPU without memory figures is left out."""
    rows = ([cell.strip() for cell in line.split(",")] for line in text.splitlines() if line.strip())
    return [_device(row) for row in rows if len(row) == 6 and row[3].isdigit() and row[4].isdigit()]


def chosen(devices: Sequence[Device], gpus: str) -> list[Device]:
    """The GPUs named by `--gpus`, in nvidia-smi's order.

    Raises:
        UsageError: not a list of numbers, or a number that is not here.
    """
    if gpus == "none":
        return []
    if not re.fullmatch(r"\d{1,4}(,\d{1,4})*", gpus):
        raise UsageError(f"--gpus {gpus}: not a list of GPU numbers", hint="write `--gpus 0,2`, or `--gpus none`")
    wanted = sorted({int(number) for number in gpus.split(",")})
    here = {device.index: device for device in devices}
    missing = [str(number) for number in wanted if number not in here]
    if missing:
        present = ", ".join(map(str, here)) or "no GPU"
        raise UsageError(f"--gpus {gpus}: no GPU {', '.join(missing)} here", hint=f"this machine has: {present}")
    return [here[number] for number in wanted]


def allowed(devices: Sequence[Device], variable: str) -> list[Device]:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves: numbers or UUIDs; the first unknown entry ends the list, as in CUDA."""
    found: list[Device] = []
    for entry in (part.strip() for part in variable.split(",")):
        match = [d for d in devices if entry and (entry == str(d.index) or _is_uuid(entry, d))]
        if not match:
            break
        found.append(match[0])
    return found


def _is_uuid(entry: str, device: Device) -> bool:
    return entry.startswith("GPU-") and device.uuid.startswith(entry)


def _query() -> tuple[list[Device], tuple[str, ...]]:
    program = _nvidia_smi()
    if program is None:
        return [], ()
    # Only machines with a driver pay for these imports.
    import subprocess

    command = [program, *nvidia_smi_query()[1:]]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return [], (f"nvidia-smi gave no answer in {_TIMEOUT_S} s: planned without GPUs",)
    except OSError as fault:
        return [], (f"nvidia-smi cannot be started ({fault.strerror}): planned without GPUs",)
    if answer.returncode != 0:
        said = " ".join((answer.stdout + answer.stderr).split())[:200]
        return [], (f"nvidia-smi ended with code {answer.returncode} ({said}): planned without GPUs",)
    return parse_devices(answer.stdout), ()


def nvidia_smi_query() -> list[str]:
    """The command whose answer `parse_devices` reads."""
    return ["nvidia-smi", f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits"]


def memory_gib() -> float:
    """Memory of this machine in GiB."""
    return _gib(Path("/proc/meminfo").read_text(encoding="ascii"), "MemTotal")


def free_memory_gib() -> float:
    """Memory that processes can still take, in GiB: what the kernel calls available, or less where a container's limit says so."""
    free_gib = _gib(Path("/proc/meminfo").read_text(encoding="ascii"), "MemAvailable")
    return min(free_gib, left_gib(_MEMORY_LIMIT, _MEMORY_USED, free_gib))


def left_gib(limit: Path, used: Path, without: float) -> float:
    """GiB up to a container's limit; `without` where there is none."""
    try:
        allowed, taken = limit.read_text(encoding="ascii").strip(), used.read_text(encoding="ascii").strip()
        return without if allowed == "max" else max(0.0, round((int(allowed) - int(taken)) / 2**30, 1))
    except (OSError, ValueError):
        return without


def _nvidia_smi() -> str | None:
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    candidates = [*(f"{folder}/nvidia-smi" for folder in folders if folder), _WSL_NVIDIA_SMI]
    return next((path for path in candidates if Path(path).is_file() and os.access(path, os.X_OK)), None)


def _device(row: Sequence[str]) -> Device:
    index, uuid, name, total, free, capability = row
    known = capability.replace(".", "", 1).isdigit()
    return Device(int(index), uuid, name, int(total), int(free), float(capability) if known else 0.0)


def weakest(devices: Sequence[Device]) -> Gpu | None:
    """The GPU that a plan for all of them must respect: every rank gets the same share of work."""
    if not devices:
        return None
    least = min(devices, key=lambda device: (device.free_mib, device.index))
    return Gpu(
        least.name.removeprefix("NVIDIA ").removeprefix("GeForce "),
        round(least.memory_mib / 1024, 1),
        round(least.free_mib / 1024, 1),
        bf16=all(device.capability >= 8 for device in devices),
        capability=min(device.capability for device in devices) or None,
    )


def _mixed(devices: Sequence[Device]) -> tuple[str, ...]:
    names = sorted({device.name for device in devices})
    if len(names) < 2:
        return ()
    return (f"unlike GPUs ({', '.join(names)}): the plan follows the one with the least free memory",)


def _gib(meminfo: str, name: str) -> float:
    size_kib = re.search(rf"^{name}:\s+(\d+) kB", meminfo, re.MULTILINE)
    return round(int(size_kib[1]) / 2**20, 1) if size_kib else 0.0
