"""Submitting many runs at once: those that ask for the same are one array, whose elements are requeued, stopped and read alone."""

from __future__ import annotations

import contextlib
import itertools
import resource
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from launcher.cluster.schema import Site
from launcher.errors import LauncherError
from launcher.executors.slurm import array_limits, client, stage_jobs, submit
from launcher.plan.types import Job, Plan
from launcher.recipe.load import LoadedRecipe
from launcher.render import sbatch_array
from launcher.runs import arrays, submissions
from launcher.runs.arrays import ArrayDir
from launcher.runs.files import write_text
from launcher.runs.paths import RunDir
from launcher.runs.submissions import Submission

_OTHER_FILES = 64
"""Open at a time beside the locks of an array's runs."""


@dataclass(frozen=True)
class Wanted:
    """A run to submit, its files in place, and the recipe whose lines errors name."""

    run_dir: RunDir
    plan: Plan
    loaded: LoadedRecipe | None = None


@dataclass(frozen=True)
class Array:
    """What was submitted together: for each stage, in order, the jobs of all runs."""

    run_dirs: tuple[RunDir, ...]
    jobs: tuple[tuple[Submission, ...], ...]
    folder: ArrayDir | None = None
    """None for a run that was submitted alone, because no other asks for the same."""


@dataclass(frozen=True)
class _Group:
    """Runs that may be one array: they ask for the same, in the same stages."""

    runs: tuple[Wanted, ...]
    left: tuple[Job, ...]

    @property
    def run_dirs(self) -> tuple[RunDir, ...]:
        """Their directories."""
        return tuple(each.run_dir for each in self.runs)

    def parts(self, most: int) -> Iterator[_Group]:
        """The same in groups of so many runs."""
        for start in range(0, len(self.runs), most):
            yield replace(self, runs=self.runs[start : start + most])


@dataclass(frozen=True)
class _Stage:
    """An array by its number, and its elements."""

    job_id: str
    jobs: tuple[Submission, ...]


def submit_all(wanted: Sequence[Wanted], site: Site, throttle: int | None = None) -> Iterator[Array]:
    """Submit runs; one that is queued or running by then is passed over. Nothing is queued before all of them are checked.

    Args:
        wanted: the runs.
        site: where they are to run.
        throttle: how many of an array may run at a time; None for all.

    Raises:
        SubmissionError: SLURM refuses, would never run one of them, or does not answer.
    """
    groups = _groups([replace(each, run_dir=RunDir(each.run_dir.root.absolute())) for each in wanted], site)
    for group in groups:
        for each in group.runs:
            with submissions.hold(each.run_dir):
                submit.write_scripts(each.run_dir, each.plan, site)
        submit.check(group.run_dirs, group.runs[0].plan, group.left, site, group.runs[0].loaded)
    most = array_limits.refuse(sum(len(group.runs) * len(group.left) for group in groups), site)
    for group in groups:
        for part in group.parts(min(most, _locks())):
            yield from _submitted(part, site, throttle)


def _groups(wanted: Iterable[Wanted], site: Site) -> list[_Group]:
    found: dict[tuple[object, ...], _Group] = {}
    for each in wanted:
        left = tuple(job for job in each.plan.jobs if submit.needs_job(each.run_dir, job, site))
        asks = tuple(
            (job.stage, *sbatch_array.same(each.plan, job, site.for_stage(job.stage), each.run_dir)) for job in left
        )
        known = found.get(asks, _Group((), left))
        found[asks] = replace(known, runs=(*known.runs, each))
    return list(found.values())


def _submitted(group: _Group, site: Site, throttle: int | None) -> list[Array]:
    """One array, while nobody else can submit its runs; a single run is none."""
    with ExitStack() as held:
        for run_dir in sorted(group.run_dirs, key=lambda each: each.root):
            held.enter_context(submissions.hold(run_dir))
        group = replace(group, runs=tuple(each for each in group.runs if not submissions.alive(each.run_dir)))
        if len(group.runs) > 1:
            return [_array(group, site, throttle)]
    chains = ((each.run_dir, submit.chain(each.run_dir, each.plan, site, each.loaded)) for each in group.runs)
    return [Array((run_dir,), tuple((job,) for job in chain)) for run_dir, chain in chains]


def _array(group: _Group, site: Site, throttle: int | None) -> Array:
    """The stages one after the other, each run's behind its own; where one fails, those behind it are cancelled by SLURM."""
    plan, run_dirs = group.runs[0].plan, group.run_dirs
    name = _common([each.name for each in run_dirs])
    folder = arrays.create(run_dirs[0].root.parent, name, submissions.new("train", site.label).key, run_dirs)
    write_text(folder.script, sbatch_array.script(folder, name, plan, site, run_dirs, throttle))
    for run_dir in run_dirs:
        run_dir.stop_request.unlink(missing_ok=True)
    made: list[_Stage] = []
    try:
        for job in group.left:
            made.append(_stage(group, job, site, folder, name, made[-1].job_id if made else None, throttle))
    except BaseException:  # Ctrl-C, too
        with contextlib.suppress(LauncherError):
            client.cancel([each.job_id for each in made])
            for stage in made:
                _note(run_dirs, [replace(each, over="REFUSED") for each in stage.jobs])
        raise
    return Array(run_dirs, tuple(each.jobs for each in made), folder)


def _stage(
    group: _Group, job: Job, site: Site, folder: ArrayDir, name: str, before: str | None, throttle: int | None
) -> _Stage:
    """One stage of all runs."""
    first, run_dirs = group.runs[0], group.run_dirs
    one = submissions.new(job.stage, site.for_stage(job.stage).label)
    asked = [
        replace(one, index=index, after=(f"{before}_{index}",) if before else ()) for index in range(len(run_dirs))
    ]
    _note(run_dirs, asked)
    words = [f"--comment={submit.comment(one)}", *submit.waiting(f"aftercorr:{before}" if before else None)]
    try:
        if job.stage == "train":
            bad = submit.excluded(run_dirs, first.plan, site)
            number = submit.sbatch_job(asked[0], [*words, *bad, str(folder.script)])
        else:
            where = site.for_stage(job.stage)
            options = stage_jobs.parameters(first.run_dir, first.plan, job, where)
            options |= {"job_name": f"{name}-{job.stage}", "array_parallelism": throttle or len(run_dirs)}
            number = stage_jobs.submit_array(folder, run_dirs, job, where, options, words)
    except client.Unreachable:
        raise  # it may be there all the same: the next command looks
    except LauncherError:
        _note(run_dirs, [replace(each, over="REFUSED") for each in asked])
        raise
    known = tuple(replace(each, job_id=f"{number}_{each.index}") for each in asked)
    _note(run_dirs, known)
    return _Stage(number, known)


def _common(names: Sequence[str]) -> str:
    """The words that names begin with alike: `tiny-lr` of `tiny-lr-1e-4` and `tiny-lr-2e-4`."""
    words = zip(*(each.split("-") for each in names), strict=False)
    return "-".join(each[0] for each in itertools.takewhile(lambda each: len(set(each)) == 1, words)) or "array"


def _note(run_dirs: Iterable[RunDir], jobs: Iterable[Submission]) -> None:
    for run_dir, each in zip(run_dirs, jobs, strict=True):
        submissions.put(run_dir, each)


def _locks() -> int:
    """How many runs may be locked at a time: each takes a file, and the usual limit of 1024 is raised as far as it goes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return max(2, soft - _OTHER_FILES)
