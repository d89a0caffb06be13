"""The process groups of a run, in order."""

from __future__ import annotations

from launcher.cluster.schema import Cluster
from launcher.plan.sharding import Sharding
from launcher.plan.types import Decision, Job, MergeBase
from launcher.plan.world import World
from launcher.runs.stopping import SIGNALS

# Words of an argv that are filled in where it runs.
PYTHON, RUN_DIR, NODE_RANK, RENDEZVOUS = "{python}", "{run_dir}", "{node_rank}", "{rendezvous}"
_RENDEZVOUS_PORT = 29400
_SAVE_S = 600
_MOST_THREADS_BESIDE_A_GPU = 8


def jobs(
    name: str,
    cluster: Cluster,
    world: World,
    sharding: Sharding,
    num_proc: int | None = None,
    time_limit: str | None = None,
) -> tuple[tuple[Job, ...], tuple[Decision, ...]]:
    """`prepare` on the CPU, then `train` under torchrun; and the decisions on their environment."""
    threads, memory = _threads(cluster, world), _memory(cluster)
    # Threads that wait while spinning take the core from those that work: tens of times slower on a shared machine.
    waiting = {"OMP_WAIT_POLICY": "PASSIVE"} if threads.value > 1 else {}
    environment = {"OMP_NUM_THREADS": str(threads.value), **waiting, **{each.key: each.value for each in memory}}
    environment |= {**_visible(cluster), **sharding.environment()}
    prepare = Job(
        "prepare",
        (PYTHON, "-m", "launcher.worker.stage", RUN_DIR, "prepare"),
        {"OMP_NUM_THREADS": "1"} | ({} if num_proc is None else {"LAUNCHER_NUM_PROC": str(num_proc)}),
        nodes=1,
        processes=1,
    )
    train = Job(
        "train",
        (PYTHON, "-m", "launcher.worker.torchrun", *_rendezvous(name, world), "-m", "launcher.worker", RUN_DIR),
        environment,
        nodes=world.nodes,
        processes=world.per_node,
        time_limit_s=None if time_limit is None else seconds(time_limit),
        depends_on=("prepare",),
    )
    return (prepare, train), (threads, *memory)


def export_job(cores: int, base: MergeBase) -> Job:
    """Behind the training: the adapter merged, on the CPU, where a whole model fits more often than on one GPU.

    Args:
        cores: threads to use; 0 where they are not known.
        base: what the adapter is merged into.
    """
    environment = {"OMP_NUM_THREADS": str(max(1, cores)), "CUDA_VISIBLE_DEVICES": ""}
    argv = (PYTHON, "-m", "launcher.worker.stage", RUN_DIR, "export", base)
    return Job("export", argv, environment, nodes=1, processes=1, depends_on=("train",))


def _rendezvous(name: str, world: World) -> tuple[str, ...]:
    # torchrun hands these signals on to the ranks; it would die of any other and leave them behind. It ends ranks that
    # have not left after the time that follows: they may be saving.
    handed_on = ("--signals-to-handle", ",".join(each.name for each in SIGNALS))
    ranks = ("--nproc-per-node", str(world.per_node), *handed_on, "--shutdown-timeout", str(_SAVE_S))
    if world.nodes == 1:
        return ("--standalone", *ranks)
    meeting = ("--rdzv-backend", "c10d", "--rdzv-endpoint", RENDEZVOUS, "--rdzv-id", name)
    return ("--nnodes", str(world.nodes), "--node-rank", NODE_RANK, *meeting, *ranks)


def seconds(time_limit: str) -> int:
    """`HH:MM:SS` or `D-HH:MM:SS` in seconds."""
    days, _, clock = time_limit.rpartition("-")
    hours, minutes, rest = map(int, clock.split(":"))
    return int(days or 0) * 86400 + hours * 3600 + minutes * 60 + rest


def rendezvous(host: str) -> str:
    """Where the nodes of a run meet: the first node's name and a port."""
    return f"{host}:{_RENDEZVOUS_PORT}"


def _visible(cluster: Cluster) -> dict[str, str]:
    """The GPUs that `--gpus` chose, numbered as nvidia-smi numbers them."""
    if cluster.visible is None:
        return {}
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": cluster.visible}


def _memory(cluster: Cluster) -> tuple[Decision, ...]:
    """Blocks that grow instead of new ones; under WSL2 the first allocation was seen to fail with them (pytorch#192330)."""
    if cluster.gpu is None or cluster.wsl:
        return ()
    reason = "batches of other lengths leave fewer holes in GPU memory"
    return (Decision("PYTORCH_ALLOC_CONF", "expandable_segments:True", reason),)


def _threads(cluster: Cluster, world: World) -> Decision:
    if cluster.cpus_per_node == 0:
        return Decision("OMP_NUM_THREADS", 1, f"how many cores `{cluster.name}` has is not known here")
    share = max(1, cluster.cpus_per_node // world.per_node)
    reason = f"{cluster.cpus_per_node} cores / {world.per_node} rank{'s' if world.per_node > 1 else ''}"
    if cluster.gpu is not None and share > _MOST_THREADS_BESIDE_A_GPU:
        return Decision("OMP_NUM_THREADS", _MOST_THREADS_BESIDE_A_GPU, f"{reason}; a GPU does the arithmetic")
    return Decision("OMP_NUM_THREADS", share, reason)
