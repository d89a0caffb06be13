"""A job that a person submitted with `sbatch RUN/slurm/train.sbatch`: noted like any other once it runs, and not before."""

from __future__ import annotations

import contextlib
from dataclasses import replace

from launcher.cluster.schema import Site
from launcher.errors import LauncherError
from launcher.executors.slurm import client
from launcher.runs import lock, submissions
from launcher.runs.paths import RunDir


def adopt(run_dir: RunDir, job_id: str, site: Site | None) -> None:
    """Note the job around this process, unless `launcher run` has submitted it: `status`, `stop` and `run` find it between turns, too."""
    if lock.held(run_dir) or any(each.job_id == job_id for each in submissions.read(run_dir)):
        return
    with contextlib.suppress(LauncherError, OSError):  # it runs all the same
        told = client.job(job_id) or {}
        if told.get("Comment", "").startswith("launcher:"):
            return  # its submitter is about to note it
        asked = submissions.new("train", site.label if site else "by hand")
        if client.call("scontrol", "update", f"JobId={job_id}", f"Comment=launcher:{asked.key}").code == 0:
            with submissions.hold(run_dir):
                submissions.put(run_dir, replace(asked, job_id=job_id))
