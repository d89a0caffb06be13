"""The process groups of a run, in order."""

from __future__ import annotations

from launcher.cluster.schema import Cluster
from launcher.plan.presets import Preset
from launcher.plan.types import Decision, Job
from launcher.plan.world import World

# Words of an argv that are filled in where it runs.
PYTHON, RUN_DIR, NODE_RANK, RENDEZVOUS = "{python}", "{run_dir}", "{node_rank}", "{rendezvous}"
_RENDEZVOUS_PORT = 29400
_SAVE_S = 600
_MOST_THREADS_BESIDE_A_GPU = 8


def jobs(
    name: str, cluster: Cluster, world: World, preset: Preset, num_proc: int | None = None
) -> tuple[tuple[Job, ...], Decision]:
    """`prepare` on the CPU, then `train` under torchrun; and the decision on threads."""
    threads = _threads(cluster, world)
    shared = preset.environment if world.size > 1 else {}
    # Threads that wait while spinning take the core from those that work: tens of times slower on a shared machine.
    waiting = {"OMP_WAIT_POLICY": "PASSIVE"} if threads.value > 1 else {}
    environment = {"OMP_NUM_THREADS": str(threads.value), **waiting, **_visible(cluster), **shared}
    prepare = Job(
        "prepare",
        (PYTHON, "-m", "launcher.worker.stage", RUN_DIR, "prepare"),
        {"OMP_NUM_THREADS": "1"} | ({} if num_proc is None else {"LAUNCHER_NUM_PROC": str(num_proc)}),
        nodes=1,
        processes=1,
    )
    train = Job(
        "train",
        (PYTHON, "-m", "torch.distributed.run", *_rendezvous(name, world), "-m", "launcher.worker", RUN_DIR),
        environment,
        nodes=world.nodes,
        processes=world.per_node,
        depends_on=("prepare",),
    )
    return (prepare, train), threads


def _rendezvous(name: str, world: World) -> tuple[str, ...]:
    # torchrun ends ranks that have not left after this time; they may be saving.
    ranks = ("--nproc-per-node", str(world.per_node), "--shutdown-timeout", str(_SAVE_S))
    if world.nodes == 1:
        return ("--standalone", *ranks)
    meeting = ("--rdzv-backend", "c10d", "--rdzv-endpoint", RENDEZVOUS, "--rdzv-id", name)
    return ("--nnodes", str(world.nodes), "--node-rank", NODE_RANK, *meeting, *ranks)


def rendezvous(host: str) -> str:
    """Where the nodes of a run meet: the first node's name and a port."""
    return f"{host}:{_RENDEZVOUS_PORT}"


def _visible(cluster: Cluster) -> dict[str, str]:
    """The GPUs that `--gpus` chose, numbered as nvidia-smi numbers them."""
    if cluster.visible is None:
        return {}
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": cluster.visible}


def _threads(cluster: Cluster, world: World) -> Decision:
    if cluster.cpus_per_node == 0:
        return Decision("OMP_NUM_THREADS", 1, f"how many cores `{cluster.name}` has is not known here")
    share = max(1, cluster.cpus_per_node // world.per_node)
    reason = f"{cluster.cpus_per_node} cores / {world.per_node} rank{'s' if world.per_node > 1 else ''}"
    if cluster.gpu is not None and share > _MOST_THREADS_BESIDE_A_GPU:
        return Decision("OMP_NUM_THREADS", _MOST_THREADS_BESIDE_A_GPU, f"{reason}; a GPU does the arithmetic")
    return Decision("OMP_NUM_THREADS", share, reason)
