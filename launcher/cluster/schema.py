"""Where a run may take place."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Gpu:
    """One kind of GPU as found on a node. Memory in GiB; `free_gib` is what a job can really take."""

    name: str
    memory_gib: float
    free_gib: float
    bf16: bool = True
    capability: float | None = None
    """NVIDIA's compute capability; None where it is not known."""


@dataclass(frozen=True)
class Cluster:
    """Hardware facts that enter a plan. No model facts. A count of 0 CPUs means: not known."""

    name: str
    gpu: Gpu | None
    gpus_per_node: int
    cpus_per_node: int
    memory_gib: float
    nodes: int = 1
    wsl: bool = False
    paths: dict[str, str] = field(default_factory=dict)
    """Folders of this site by name (`data`, `models`, `cache`, `runs`), for `${name}` in a recipe's path keys."""
    here: bool = True
    """False for hardware that was only named (`--on`): it can be planned for, not run on."""
    visible: str | None = None
    """Value for CUDA_VISIBLE_DEVICES when `--gpus` chose among the GPUs; None leaves it as it is."""
    notes: tuple[str, ...] = ()
    """What was odd when the hardware was looked at; the plan repeats it as warnings."""
