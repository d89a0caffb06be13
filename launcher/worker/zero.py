"""DeepSpeed before the model is loaded: nothing is compiled, and ZeRO-3 knows how many ranks there are."""

from __future__ import annotations

from launcher.errors import EnvironmentFault
from launcher.plan.sharding import ZERO
from launcher.worker.job import Job

SHARED_MEMORY = "deepspeed_shm_comm"


def check_installed(job: Job) -> None:
    """Look for the package before transformers does, and have it compile nothing.

    Raises:
        EnvironmentFault: it is not installed.
    """
    if job.plan.strategy not in ZERO:
        return
    try:
        import deepspeed
    except ImportError as fault:
        hint = "install it: `pip install 'finetune-launcher[zero]'`, or write `sharding: {strategy: fsdp2}`"
        raise EnvironmentFault(f"`{job.plan.strategy}` needs DeepSpeed: {fault}", hint=hint) from None
    if job.plan.device == "cpu":
        # It would be compiled when the first run of a machine starts, for a minute and a half; gloo does the same.
        deepspeed.ops.__compatible_ops__[SHARED_MEMORY] = False


def get_ready(job: Job) -> None:
    """Have the ranks of a CPU meet over gloo. Call it when the trainer's arguments are made and before the model is."""
    if job.plan.strategy not in ZERO or job.plan.device != "cpu":
        return
    import deepspeed

    # accelerate leaves this to DeepSpeed on CPUs, which does it when the weights of ZeRO-3 are there already.
    deepspeed.init_distributed(dist_backend="gloo", auto_mpi_discovery=False)
