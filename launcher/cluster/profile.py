"""A cluster profile: what `slurm/clusters/NAME.yaml`, or a file of one's own, says about a site."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from launcher.recipe.patterns import (
    BIND,
    CONSTRAINT,
    CURRENCY,
    FOLDER,
    IMAGE,
    INTERFACE,
    INTERPRETER,
    LABEL,
    LIST,
    LITERAL,
    MODULE,
    ONE_LINE,
    TIME_LIMIT,
    WORD,
)
from launcher.recipe.section import Section

Line = Annotated[str, Field(pattern=ONE_LINE)]
Variables = dict[str, Annotated[str, Field(pattern=LITERAL)]]


class Queue(Section):
    """One way to ask for nodes: a partition with the account, the limits and the nodes that belong to it."""

    partition: str | None = Field(None, pattern=LIST)
    """SLURM partition (or a list, `a,b`). Default: the site's."""

    account: str | None = Field(None, pattern=WORD)
    """Account to charge. Default: the profile's."""

    qos: str | None = Field(None, pattern=WORD)
    """Quality of service."""

    reservation: str | None = Field(None, pattern=LIST)
    """Reservation to run in."""

    constraint: str | None = Field(None, pattern=CONSTRAINT)
    """Node features, as `sbatch --constraint` takes them."""

    max_time: str | None = Field(None, pattern=TIME_LIMIT)
    """Longest job, `HH:MM:SS` or `D-HH:MM:SS`. It is also what a job asks for when the recipe says nothing."""

    max_nodes: int | None = Field(None, ge=1, le=100_000)
    """Most nodes of one job."""

    preemptible: bool = False
    """Jobs may be ended for others at any time, and get another turn."""

    debug: bool = False
    """A queue for short tries: `run --smoke` goes there."""

    gpu: str | None = Field(None, pattern=WORD)
    """GPU of its nodes, where it is not the profile's; `none` for nodes without."""

    gpus_per_node: int | None = Field(None, ge=0, le=64)
    """GPUs of a node, where it is not the profile's."""

    gres: str | None = Field(None, pattern=WORD)
    """GPU type as SLURM calls it, where `gpu` is not the profile's."""

    cpus_per_node: int | None = Field(None, ge=1, le=4096)
    """CPUs of a node, where it is not the profile's."""

    memory_gib_per_node: float | None = Field(None, gt=0, le=1_000_000)
    """Memory of a node in GiB, where it is not the profile's."""

    directives: tuple[Line, ...] = ()
    """Further `sbatch` options as they are, `--exclusive`; what the plan decides is refused by name."""


class Paths(Section):
    """Folders that every node of the site sees, for `${data}`, `${models}`, `${cache}` and `${runs}` in recipes."""

    data: str | None = Field(None, pattern=FOLDER)
    """Data sets."""

    models: str | None = Field(None, pattern=FOLDER)
    """Models."""

    cache: str | None = Field(None, pattern=FOLDER)
    """What is fetched from the hub (`HF_HOME`) and made from data; shared by the runs, and by people who want to."""

    runs: str | None = Field(None, pattern=FOLDER)
    """Run directories; `--runs` and LAUNCHER_RUNS come first."""


class Container(Section):
    """The container that ranks and stages run in."""

    runtime: Literal["apptainer", "pyxis"]
    """`apptainer`: the command is `apptainer exec`; `pyxis`: SLURM's own option `srun --container-image` (Enroot)."""

    image: str = Field(pattern=IMAGE)
    """File or image name: `/shared/images/launcher.sif`, `registry#name:tag` (Enroot's notation)."""

    binds: tuple[Annotated[str, Field(pattern=BIND)], ...] = ()
    """Further folders to bind, `/from` or `/from:/to`; the run, the data, the models and the cache are bound anyway."""

    python: str = Field("python", pattern=INTERPRETER)
    """Interpreter inside."""


class Network(Section):
    """What ranks on different nodes talk through."""

    interface: str | None = Field(None, pattern=INTERFACE)
    """Interface for NCCL and gloo, `ib0`, or NCCL's notation `=ib0`, `^lo,docker`. Default: all but `lo` and `docker`."""

    env: Variables = Field(default_factory=dict)
    """Further variables, `NCCL_IB_HCA: mlx5`."""


class Stages(Section):
    """Where the stages around the training run."""

    prepare: Literal["job", "login", "train"] = "train"
    """`job`: a job of its own in `queue`; `login`: at once, where the command is typed; `train`: first in the training job."""

    evaluate: Literal["train", "job", "auto"] = "train"
    """The last evaluation. `train`: by the ranks that trained; `job`: a job of its own on one node; `auto`: by the ranks where the time that is left allows, else by that job."""

    export: Literal["train", "job", "auto"] = "auto"
    """The merge that `export.merge` asks for: at the end of the training job, in a job of its own, or whichever the time allows."""

    queue: str | None = Field(None, pattern=LABEL)
    """Queue of prepare and export jobs: one with cheap nodes. Default: that of the training."""


class Profile(Section):
    """A site: its nodes, its queues, its folders, and what its jobs need."""

    description: str = Field("", pattern=ONE_LINE)
    """One line for people."""

    gpu: str | None = Field(None, pattern=WORD)
    """GPU of the nodes by a name of the catalogue (`A100-40GB`, `H100`); left out for nodes without."""

    gpus_per_node: int = Field(0, ge=0, le=64)
    """GPUs of a node."""

    gres: str | None = Field(None, pattern=WORD)
    """GPU type as the site's SLURM calls it (`a100` in `gpu:a100:4`); left out, GPUs are asked for without a type."""

    cpus_per_node: int = Field(ge=1, le=4096)
    """CPUs of a node, as SLURM counts them (`CPUTot`)."""

    memory_gib_per_node: float = Field(gt=0, le=1_000_000)
    """Memory of a node in GiB, as SLURM counts it (`RealMemory`)."""

    queues: dict[str, Queue] = Field(min_length=1)
    """Queue by name; the first is the default. `--cluster NAME:QUEUE` chooses another."""

    account: str | None = Field(None, pattern=WORD)
    """Account to charge; `--account` comes first."""

    paths: Paths = Paths()
    """Folders of the site."""

    scratch: str | None = Field(None, pattern=FOLDER)
    """Fast folder of each node's own (`/tmp`, `$TMPDIR`); the model is copied there once per node. Left out, it is read where it is."""

    python: str | None = Field(None, pattern=INTERPRETER)
    """Interpreter for jobs. Default: the one that submits."""

    modules: tuple[Annotated[str, Field(pattern=MODULE)], ...] = ()
    """Modules to load, `cuda/12.8`."""

    setup: tuple[Line, ...] = ()
    """Shell lines that run at the start of every job, as they stand: this file is yours, and trusted as your shell is."""

    env: Variables = Field(default_factory=dict)
    """Variables for every job; no secrets."""

    secrets: str | None = Field(None, pattern=FOLDER)
    """File of `NAME=VALUE` lines (HF_TOKEN, WANDB_API_KEY), readable by you alone, that jobs read themselves. Default: ~/.config/launcher/secrets.env where it exists."""

    container: Container | None = None
    """Run ranks and stages in a container."""

    network: Network = Network()
    """Interfaces and NCCL's variables."""

    stages: Stages = Stages()
    """Where prepare, evaluate and export run."""

    internet: bool = False
    """Compute nodes reach the hub. Without, jobs run with the hub offline, and `launcher fetch` brings what they need."""

    requeue: bool = True
    """The site lets jobs requeue themselves. Without, as many jobs are queued up front as may be needed."""

    stop_lead_s: int = Field(120, ge=30, le=7200)
    """Seconds before the time limit at which SLURM asks a job to save and leave. It looks every 30 s or so, so not less than a minute is safe."""

    exclude: str | None = Field(None, pattern=LIST)
    """Nodes to stay away from, in SLURM's notation."""

    directives: tuple[Line, ...] = ()
    """Further `sbatch` options of every job, as they are; what the plan decides is refused by name."""

    price_per_gpu_hour: float | None = Field(None, ge=0, le=10_000)
    """What an hour of one GPU costs, in `currency`."""

    currency: str = Field("EUR", pattern=CURRENCY)
    """Currency of the price."""
