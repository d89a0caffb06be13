"""Submitting a run: its stages as a chain of jobs, each once, whatever happens to SLURM's answer."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from launcher.cluster.codec import site_json, site_of
from launcher.cluster.schema import Site
from launcher.errors import LauncherError, SubmissionError, SubmissionErrors
from launcher.executors import prepared
from launcher.executors.slurm import bad_nodes, checks, client, stage_jobs, tracker
from launcher.plan import codec
from launcher.plan.types import Job, Plan
from launcher.recipe.load import LoadedRecipe
from launcher.render import sbatch
from launcher.runs import secrets_file, state, submissions, versions
from launcher.runs.files import read_json, write_text
from launcher.runs.paths import RunDir
from launcher.runs.submissions import Submission

_JOB_ID = re.compile(r"^(\d+)(;|$)")


def chain(run_dir: RunDir, plan: Plan, site: Site, loaded: LoadedRecipe | None = None) -> tuple[Submission, ...]:
    """Submit what is left of a run, unless it is queued or running already.

    Args:
        run_dir: the run, with its files in place.
        plan: its plan.
        site: where it is to run.
        loaded: the recipe, whose lines errors name; None where a run goes on without one.

    Returns:
        The jobs of the run that are queued or running.

    Raises:
        SubmissionError: SLURM refuses, would never run it, or does not answer.
        EnvironmentFault: the file of secrets is not as it must be.
    """
    run_dir = RunDir(run_dir.root.absolute())  # jobs start in a folder of their own
    if site.profile.secrets:
        secrets_file.read(Path(site.profile.secrets))  # in the job it would be refused, too, but after the wait
    with submissions.hold(run_dir):
        tracker.settle(run_dir)
        if alive := submissions.alive(run_dir):
            return alive
        write_scripts(run_dir, plan, site)
        left = [job for job in plan.jobs if needs_job(run_dir, job, site)]
        check([run_dir], plan, left, site, loaded)
        run_dir.stop_request.unlink(missing_ok=True)
        return tuple(_submitted(run_dir, plan, left, site))


def check(run_dirs: Sequence[RunDir], plan: Plan, left: Sequence[Job], site: Site, loaded: LoadedRecipe | None) -> None:
    """Have SLURM say whether it would take these jobs, those of each queue together; of runs that ask for the same, the first's.

    Raises:
        SubmissionErrors: it would not, or would never start them.
        Unreachable: the controller does not answer.
    """
    faults: list[SubmissionError] = []
    sites = {where.label: where for where in (site.for_stage(job.stage) for job in left)}
    for where in sites.values():
        jobs = [job for job in left if site.for_stage(job.stage).label == where.label]
        try:
            checks.refuse(run_dirs[0], plan, jobs, where, loaded, excluded(run_dirs, plan, where))
        except SubmissionErrors as found:
            faults += found.errors
    if faults:
        raise SubmissionErrors(faults)


def write_scripts(run_dir: RunDir, plan: Plan, site: Site) -> tuple[Path, ...]:
    """Write the batch script and what it needs, into the run directory. A folder that is missing would fail the job without a log."""
    run_dir.job_logs.mkdir(parents=True, exist_ok=True)
    box = prepared.enclosed(run_dir, plan, site)
    texts = sbatch.scripts(plan, site, run_dir, sys.executable, box)
    for path, text in texts.items():
        write_text(path, text)
    # A container, or an interpreter of the profile's, has its own.
    own = site.profile.container is not None or site.profile.python is not None
    versions.record(run_dir, () if own else versions.LIBRARIES, python=not own)
    write_text(run_dir.site, json.dumps(site_json(site), indent=1) + "\n")
    return (*texts, run_dir.site)


def needs_job(run_dir: RunDir, job: Job, site: Site) -> bool:
    """Whether a stage gets a job of its own: not where it is done, and not where it runs in the training's.

    The training's job, with all its nodes, is not needed where it is done and the stages behind it have jobs.
    """
    left, stages = state.left(run_dir), site.profile.stages
    if job.stage != "train":
        return getattr(stages, job.stage) in ("job", "auto") and job.stage in left
    behind = [stage for stage in left if stage in ("evaluate", "export")]
    return "train" in left or not behind or any(getattr(stages, stage) == "train" for stage in behind)


def complete(run_dir: RunDir) -> tuple[Submission, ...]:
    """Submit what is missing behind the jobs of a run: a launcher that was killed while it submitted them left half a chain.

    Returns:
        The jobs that were added.

    Raises:
        As `chain`.
    """
    noted = read_json(run_dir.site)
    run_dir = RunDir(run_dir.root.absolute())
    with submissions.hold(run_dir):
        there = submissions.last_chain(run_dir)
        if not noted or not there or not there[-1].alive or there[-1].job_id is None or there[-1].index is not None:
            return ()  # nothing waits, it is in an array, or somebody has cancelled the last one
        site, plan = site_of(noted), codec.loads(run_dir.plan.read_text(encoding="utf-8"))
        reached = next(place for place, job in enumerate(plan.jobs) if job.stage == there[-1].stage)
        left = [job for job in plan.jobs[reached + 1 :] if needs_job(run_dir, job, site)]
        if there[-1].stage == "train" and there[-1].turn + 1 < _turns(plan, site):
            left.insert(0, plan.jobs[reached])
        return tuple(_submitted(run_dir, plan, left, site, there[-1]))


def _submitted(
    run_dir: RunDir, plan: Plan, left: Sequence[Job], site: Site, behind: Submission | None = None
) -> list[Submission]:
    """Each job waits for the one before it; where one fails, those behind it are cancelled by SLURM."""
    made: list[Submission] = []
    last = behind
    try:
        for stage, turn in _order(plan, left, site, behind):
            kind = "afterany" if last and last.stage == "train" == stage.stage else "afterok"
            after = f"{kind}:{last.job_id}" if last else None
            if stage.stage == "train":
                last = _train(run_dir, plan, site, after, turn)
            else:
                last = _stage(run_dir, plan, stage, site.for_stage(stage.stage), after)
            made.append(last)
    except BaseException:  # Ctrl-C, too: half a chain would run, and nobody would know
        _withdraw(run_dir, made)
        raise
    return made


def _order(plan: Plan, left: Sequence[Job], site: Site, behind: Submission | None) -> Iterator[tuple[Job, int]]:
    """Stages, the training as often as it has turns up front, from the one behind which it goes on."""
    for job in left:
        first = behind.turn + 1 if behind and behind.stage == "train" == job.stage else 0
        yield from ((job, turn) for turn in range(first, _turns(plan, site) if job.stage == "train" else 1))


def _turns(plan: Plan, site: Site) -> int:
    """Jobs of the training: one that queues itself again, or as many up front as may be needed where the site forbids that."""
    return 1 if site.profile.requeue else plan.restart.max_requeues + 1


def _withdraw(run_dir: RunDir, made: Sequence[Submission]) -> None:
    """Take jobs out of the queue as if they had never been; those that SLURM cannot be asked to cancel stay noted."""
    with contextlib.suppress(LauncherError):
        client.cancel([each.job_id for each in made if each.job_id])
        for each in made:
            submissions.ended(run_dir, each, "REFUSED")


def _train(run_dir: RunDir, plan: Plan, site: Site, after: str | None, turn: int) -> Submission:
    asked = submissions.new("train", site.label, turn=turn, after=_ids(after))
    submissions.put(run_dir, asked)
    options = [f"--comment={comment(asked)}", *waiting(after), *excluded([run_dir], plan, site)]
    if not site.profile.requeue:
        options.append(f"--export=NONE,LAUNCHER_TURN={turn}")
    try:
        return _noted(run_dir, asked, sbatch_job(asked, [*options, str(run_dir.script("train.sbatch"))]))
    except client.Unreachable:
        raise  # it may be there all the same: the next command looks
    except LauncherError:
        submissions.ended(run_dir, asked, "REFUSED")
        raise


def sbatch_job(asked: Submission, words: Sequence[str]) -> str:
    """Have sbatch queue a script, with its options before it; without an answer, look whether the job is there all the same.

    Returns:
        Its id; that of the whole array for the element of one.

    Raises:
        SubmissionError: SLURM refuses.
        Unreachable: the controller does not answer.
    """
    try:
        answer = client.call("sbatch", "--parsable", *words)
    except client.Unreachable as error:
        known = tracker.find(asked)
        if known is None:  # for certain
            raise SubmissionError(error.message, hint=error.hint) from None
        return known.partition("_")[0]
    found = _JOB_ID.match(answer.out.strip())
    if answer.code or not found:
        raise SubmissionError(f"sbatch refuses: {answer.error}", hint=f"`sbatch --test-only {words[-1]}` asks again")
    return found[1]


def _noted(run_dir: RunDir, asked: Submission, job_id: str) -> Submission:
    known = replace(asked, job_id=job_id)
    submissions.put(run_dir, known)
    return known


def _stage(run_dir: RunDir, plan: Plan, job: Job, site: Site, after: str | None) -> Submission:
    asked = submissions.new(job.stage, site.label, after=_ids(after))
    submissions.put(run_dir, asked)
    try:
        return _noted(run_dir, asked, stage_jobs.submit(run_dir, plan, job, site, waiting(after), comment(asked)))
    except client.Unreachable:
        raise  # it may be there all the same: the next command looks
    except LauncherError:
        submissions.ended(run_dir, asked, "REFUSED")
        raise


def comment(asked: Submission) -> str:
    """How a job is recognised."""
    return f"launcher:{asked.key}"


def waiting(after: str | None) -> list[str]:
    """Options of a job behind another; one that can never start is cancelled instead of waiting for ever."""
    return [f"--dependency={after}", "--kill-on-invalid-dep=yes"] if after else []


def _ids(after: str | None) -> list[str]:
    return after.split(":")[1:] if after else []


def excluded(run_dirs: Iterable[RunDir], plan: Plan, site: Site) -> list[str]:
    """Nodes that failed these runs, with those of the profile: an option replaces the line of the script."""
    nodes = max(job.nodes for job in plan.jobs)
    bad = bad_nodes.to_exclude(run_dirs, site.queue.partition, nodes)
    names = [*(site.profile.exclude.split(",") if site.profile.exclude else []), *bad]
    return [f"--exclude={','.join(names)}"] if bad else []
