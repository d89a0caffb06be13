"""`launcher run` inside an allocation of SLURM: on all of its nodes, in the foreground."""

from __future__ import annotations

import contextlib
import os
import sys

from launcher.cluster.schema import Site
from launcher.errors import EnvironmentFault, Exit
from launcher.executors.slurm import client, tracker
from launcher.executors.slurm import slice as turn
from launcher.executors.slurm.allocation import Allocation, own_id
from launcher.executors.stages import View
from launcher.plan import codec
from launcher.render import sbatch
from launcher.runs.files import write_text
from launcher.runs.paths import RunDir


def run(run_dir: RunDir, site: Site, view: View) -> Exit | None:
    """Run or continue a run here. A batch script's job is queued again where that helps; an interactive one never.

    Args:
        run_dir: the run.
        site: the allocation as a site.
        view: shows what happens.

    Returns:
        The exit code; None when another process is running it.

    Raises:
        LauncherError: a stage failed.
    """
    turn.listen()
    _refuse_over(own_id(os.environ))
    run_dir = RunDir(run_dir.root.resolve())
    plan = codec.loads(run_dir.plan.read_text(encoding="utf-8"))
    write_text(run_dir.script("node.sh"), sbatch.node_script(plan, site, run_dir, sys.executable))
    # In a step of the job, such as `srun --pty bash`, another step has to share its nodes.
    overlap = ["--overlap"] if os.environ.get("SLURM_STEP_ID") else []
    cpus = [f"--cpus-per-task={site.cpus_per_node}"]
    step = [*sbatch.srun(plan), *overlap, *cpus, "bash", str(run_dir.script("node.sh"))]
    batch = os.environ.get("ENVIRONMENT") == "BATCH"
    host = Allocation(run_dir, os.environ, step, None, view.note, preemptible=batch)
    os.environ.pop("SLURM_EXPORT_ENV", None)
    stages = tuple(job.stage for job in plan.jobs)
    again = host.restarts > 0
    return turn.take(
        run_dir, host, view, stages, requeues=batch, further=again, anew=not again and host.was_asked_for_since(run_dir)
    )


def _refuse_over(job_id: str) -> None:
    """Variables of a job that has ended stay in a shell that outlives it, in `tmux` or `screen`."""
    with contextlib.suppress(client.Unreachable):
        told = client.job(job_id)
        if told is None or tracker.Seen(job_id, told.get("JobState", "")).over:
            raise EnvironmentFault(
                f"this shell says that it is inside job {job_id}, which is over",
                hint="leave the shell, or `unset SLURM_JOB_ID` to run on this machine",
            )
