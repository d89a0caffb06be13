"""Where a run may take place."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from launcher.cluster.profile import Profile, Queue
from launcher.errors import Place, RecipeError
from launcher.predict.calibration import Calibration

_DRIVER_GIB, _DRIVER_PART = 0.25, 0.01
"""What a driver keeps of a GPU that nobody uses: a quarter of a GiB and one part in a hundred. Against the capacity that torch
names in public out-of-memory reports it is a little too much: 0.50 for 0.31–0.38 (RTX 4090), 0.65 for 0.41–0.50 (A100-40GB),
1.05 for 0.75 (A100-80GB), 0.40 for 0.25 (T4)."""


@dataclass(frozen=True)
class Gpu:
    """One kind of GPU as found on a node. Memory in GiB; `free_gib` is what a job can really take."""

    name: str
    memory_gib: float
    free_gib: float
    bf16: bool = True
    capability: float | None = None
    """NVIDIA's compute capability; None where it is not known."""

    @property
    def idle_gib(self) -> float:
        """What a job can take where nothing else runs."""
        return usable_gib(self.memory_gib)


def usable_gib(memory_gib: float) -> float:
    """Of a GPU's total, what a job can take: without what the driver keeps."""
    return round(memory_gib * (1 - _DRIVER_PART) - _DRIVER_GIB, 1)


@dataclass(frozen=True)
class Cluster:
    """Hardware facts that enter a plan. No model facts. A count of 0 CPUs means: not known."""

    name: str
    gpu: Gpu | None
    gpus_per_node: int
    cpus_per_node: int
    memory_gib: float
    nodes: int | None = 1
    """Most nodes of one job; None where a profile does not say."""
    wsl: bool = False
    paths: dict[str, str] = field(default_factory=dict)
    """Folders of this site by name (`data`, `models`, `cache`, `runs`), for `${name}` in a recipe's path keys."""
    here: bool = True
    """False for hardware that was only named (`--on`): it can be planned for, not run on."""
    visible: str | None = None
    """Value for CUDA_VISIBLE_DEVICES when `--gpus` chose among the GPUs; None leaves it as it is."""
    free_memory_gib: float | None = None
    """Of a node's memory, what is free now; None where nobody looked."""
    notes: tuple[str, ...] = ()
    """What was odd when the hardware was looked at; the plan repeats it as warnings."""

    site: Site | None = None
    """The SLURM site and queue it belongs to; None for this machine and for hardware that is only named."""
    inside: bool = False
    """It is the allocation that this process runs in."""
    calibration: Calibration | None = None
    """What runs on its GPU (or, without one, on this machine's processor) have taught; None where nothing was learned."""


@dataclass(frozen=True)
class Site:
    """A cluster profile and the queue of it that was chosen."""

    name: str
    profile: Profile
    queue_name: str
    account: str | None = None
    """Account to charge: `--account`, else the queue's, else the profile's."""
    source: str = ""
    """The profile's file, for messages."""
    places: dict[str, Place] = field(default_factory=dict)
    """Dotted key → where the profile says it, for errors."""

    @property
    def queue(self) -> Queue:
        """The chosen queue."""
        return self.profile.queues[self.queue_name]

    @property
    def gpus_per_node(self) -> int:
        """GPUs of a node of this queue."""
        own = 0 if self.queue.gpu == "none" else self.queue.gpus_per_node
        return self.profile.gpus_per_node if own is None else own

    @property
    def cpus_per_node(self) -> int:
        """Cores of a node of this queue."""
        return self.queue.cpus_per_node or self.profile.cpus_per_node

    @property
    def memory_gib_per_node(self) -> float:
        """Memory of a node of this queue in GiB."""
        return self.queue.memory_gib_per_node or self.profile.memory_gib_per_node

    @property
    def gres(self) -> str | None:
        """GPU type as the site's SLURM calls it, for the nodes of the queue; None asks for GPUs of no type."""
        return self.queue.gres or (self.profile.gres if self.queue.gpu is None else None)

    def for_stage(self, stage: str) -> Site:
        """The site with the queue of a stage: prepare and export may have one of cheaper nodes."""
        name = self.profile.stages.queue if stage in ("prepare", "export") else None
        if name is None or name == self.queue_name:
            return self
        return replace(self, queue_name=name, account=self.profile.queues[name].account or self.account)

    @property
    def label(self) -> str:
        """`alpha:gpu`."""
        return f"{self.name}:{self.queue_name}"

    def error(self, message: str, *, key: str, hint: str | None = None) -> RecipeError:
        """A fault of a key of the profile, at the line that says it."""
        return RecipeError(message, key=key, hint=hint, place=self.places.get(key, Place(self.source)))
