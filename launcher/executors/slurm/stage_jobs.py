"""The stages beside the training as jobs of their own, through submitit, which carries the run's path and nothing else."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from launcher.cluster.schema import Site
from launcher.errors import EnvironmentFault, SubmissionError
from launcher.executors.slurm import client
from launcher.executors.slurm.stage import run_stage
from launcher.plan.types import Job, Plan
from launcher.render import sbatch
from launcher.runs.arrays import ArrayDir
from launcher.runs.paths import RunDir


def submit(run_dir: RunDir, plan: Plan, job: Job, site: Site, waiting: Sequence[str], comment: str) -> str:
    """Submit one stage. Returns the job's id.

    Raises:
        SubmissionError: SLURM refuses.
        EnvironmentFault: submitit is not installed.
    """
    options = _with(parameters(run_dir, plan, job, site), (*waiting, f"--comment={comment}"))
    executor = _executor(run_dir.slurm / "submitit", site, options)
    with _refusals(job.stage):
        return str(executor.submit(run_stage, str(run_dir.root), job.stage).job_id)


def submit_array(
    array: ArrayDir, run_dirs: Sequence[RunDir], job: Job, site: Site, options: dict[str, Any], words: Sequence[str]
) -> str:
    """Submit one stage of two or more runs as an array. Returns its id.

    Args:
        array: its folder.
        run_dirs: the runs, in the order of their indices.
        job: the stage.
        site: profile and queue.
        options: `parameters` of one of the runs; the others ask for the same.
        words: further options of sbatch; they come first.

    Raises:
        SubmissionError: SLURM refuses.
        EnvironmentFault: submitit is not installed.
    """
    executor = _executor(array.submitit, site, _with(options, (*words, f"--output={array.log(job.stage)}")))
    with _refusals(job.stage):
        paths = [str(each.root) for each in run_dirs]
        jobs = executor.map_array(run_stage, paths, [job.stage] * len(paths))
        return str(jobs[0].job_id).partition("_")[0]


def _executor(folder: Path, site: Site, options: dict[str, Any]) -> Any:
    try:
        from submitit.slurm.slurm import SlurmExecutor
    except ImportError:
        raise EnvironmentFault(
            "submitit is not installed, which submits the stages beside the training",
            hint="`pip install submitit`, or `stages: {prepare: train, evaluate: train, export: train}` in the profile",
        ) from None
    executor = SlurmExecutor(folder=folder, python=site.profile.python or sys.executable)
    executor.update_parameters(**options)
    return executor


def _with(options: dict[str, Any], words: Iterable[str]) -> dict[str, Any]:
    flags = dict(sbatch.option(word) for word in words)
    return {**options, "additional_parameters": {**options["additional_parameters"], **flags}}


@contextmanager
def _refusals(stage: str) -> Iterator[None]:
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    try:
        with client.without_defaults():
            yield
    except (FailedJobError, FailedSubmissionError, RuntimeError) as error:
        if client.is_away(str(error)):
            raise client.Unreachable("slurmctld does not answer", hint=client.LATER) from None
        raise SubmissionError(f"sbatch refuses the job of `{stage}`: {' '.join(str(error).split())}") from None


def parameters(run_dir: RunDir, plan: Plan, job: Job, site: Site) -> dict[str, Any]:
    """Submitit's parameters: the options of our own scripts, by name."""
    flags = dict(sbatch.option(flag) for flag, _ in sbatch.directives(plan, job, site, run_dir))
    own = {"ntasks-per-node", "job-name", "nodes", "time", "signal", "open-mode", "requeue", "no-requeue"}
    return {
        "job_name": f"{plan.name}-{job.stage}",
        "nodes": 1,
        "ntasks_per_node": 1,
        "time": max(1, (sbatch.time_limit_s(job, site) or sbatch.STAGE_S) // 60),
        "use_srun": False,
        "setup": [*sbatch.preamble(site), "unset SLURM_EXPORT_ENV"],
        "signal_delay_s": site.profile.stop_lead_s,
        "stderr_to_stdout": True,
        "additional_parameters": {name: value for name, value in flags.items() if name not in own},
    }
