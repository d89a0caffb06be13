"""The process groups of a run, in order."""

from __future__ import annotations

import signal

from launcher.cluster.schema import Cluster
from launcher.plan.sharding import Sharding
from launcher.plan.types import Decision, Job, MergeBase
from launcher.plan.world import World
from launcher.runs.stopping import SIGNALS

# Words of an argv that are filled in where it runs.
PYTHON, RUN_DIR, NODE_RANK, HEAD, PORT, MEETING = (
    "{python}", "{run_dir}", "{node_rank}", "{head}", "{port}", "{meeting}",
)  # fmt: skip
RENDEZVOUS_PORT = 29400
_SAVE_S = 600
_MOST_THREADS_BESIDE_A_GPU = 8


def jobs(
    cluster: Cluster,
    world: World,
    sharding: Sharding,
    num_proc: int | None = None,
    time_limit: str | None = None,
) -> tuple[tuple[Job, ...], tuple[Decision, ...]]:
    """`prepare` on the CPU, then `train` under torchrun; and the decisions on their environment."""
    threads, memory = _threads(cluster, world), _memory(cluster)
    environment = {**_environment(threads, memory), **_visible(cluster), **sharding.environment()}
    limit = time_limit or (cluster.site.queue.max_time if cluster.site and not cluster.inside else None)
    prepare = Job(
        "prepare",
        (PYTHON, "-m", "launcher.worker.stage", RUN_DIR, "prepare"),
        {"OMP_NUM_THREADS": "1"} | ({} if num_proc is None else {"LAUNCHER_NUM_PROC": str(num_proc)}),
        nodes=1,
        processes=1,
    )
    train = Job(
        "train",
        (PYTHON, "-m", "launcher.worker.torchrun", *_torchrun(cluster, world), "-m", "launcher.worker", RUN_DIR),
        environment,
        nodes=world.nodes,
        processes=world.per_node,
        time_limit_s=None if limit is None else seconds(limit),
        depends_on=("prepare",),
        requeue=cluster.site is not None and cluster.site.profile.requeue,
    )
    return (prepare, train), (threads, *memory)


def evaluate_job(cluster: Cluster) -> Job:
    """Behind the training: the result measured by one process on one node, with one GPU where it was trained on some."""
    environment = {**_environment(_threads(cluster, World(1, 1)), _memory(cluster)), **_visible(cluster)}
    argv = (PYTHON, "-m", "launcher.worker.stage", RUN_DIR, "evaluate")
    return Job("evaluate", argv, environment, nodes=1, processes=1, depends_on=("train",))


def export_job(cores: int, base: MergeBase, after: str = "train") -> Job:
    """At the end: the adapter merged, on the CPU, where a whole model fits more often than on one GPU.

    Args:
        cores: threads to use; 0 where they are not known.
        base: what the adapter is merged into.
        after: the stage before it.
    """
    environment = {"OMP_NUM_THREADS": str(max(1, cores)), "CUDA_VISIBLE_DEVICES": ""}
    argv = (PYTHON, "-m", "launcher.worker.stage", RUN_DIR, "export", base)
    return Job("export", argv, environment, nodes=1, processes=1, depends_on=(after,))


def _torchrun(cluster: Cluster, world: World) -> tuple[str, ...]:
    # torchrun hands these signals on to the ranks; it would die of any other and leave them behind. It ends ranks that
    # have not left after the time that follows: they may be saving. SLURM's USR1 reaches the ranks without it.
    by_scheduler = (signal.SIGUSR1, signal.SIGUSR2) if cluster.site else ()
    handed_on = ("--signals-to-handle", ",".join(each.name for each in SIGNALS if each not in by_scheduler))
    ranks = ("--nproc-per-node", str(world.per_node), *handed_on, "--shutdown-timeout", str(_SAVE_S))
    if world.nodes == 1:
        return ("--standalone", *ranks)
    # The static rendezvous: it numbers the nodes as asked, which c10d does not, and its id keeps strangers out.
    meeting = ("--master-addr", HEAD, "--master-port", PORT, "--rdzv-id", MEETING)
    return ("--nnodes", str(world.nodes), "--node-rank", NODE_RANK, *meeting, *ranks)


def seconds(time_limit: str) -> int:
    """`HH:MM:SS` or `D-HH:MM:SS` in seconds."""
    days, _, clock = time_limit.rpartition("-")
    hours, minutes, rest = map(int, clock.split(":"))
    return int(days or 0) * 86400 + hours * 3600 + minutes * 60 + rest


def clock(time_s: int) -> str:
    """Seconds as SLURM writes a time: `HH:MM:SS` or `D-HH:MM:SS`."""
    days, rest = divmod(time_s, 86400)
    text = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days}-{text}" if days else text


def _environment(threads: Decision, memory: tuple[Decision, ...]) -> dict[str, str]:
    # Threads that wait while spinning take the core from those that work: tens of times slower on a shared machine.
    waiting = {"OMP_WAIT_POLICY": "PASSIVE"} if threads.value > 1 else {}
    return {"OMP_NUM_THREADS": str(threads.value), **waiting, **{each.key: each.value for each in memory}}


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
