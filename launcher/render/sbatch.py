"""A plan and a site as SLURM scripts: the batch script of the training, and what each of its nodes does."""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.cluster import hub
from launcher.cluster.schema import Site
from launcher.errors import UsageError
from launcher.plan.jobs import HEAD, MEETING, NODE_RANK, PORT, PYTHON, RUN_DIR, clock, seconds
from launcher.plan.types import Job, Plan
from launcher.recipe.shipped import shipped
from launcher.render.container import Enclosure
from launcher.runs import secrets_file
from launcher.runs.paths import RunDir
from launcher.text import quote

if TYPE_CHECKING:
    from jinja2 import Environment, Template

_SAFE_PATH = re.compile(r"/[A-Za-z0-9_./@:+=,~-]*")
"""What sbatch takes in `--output`, where `%` and `\\` mean something and a blank ends the value."""
_COLUMN = 46
STAGE_S = 2 * 3600
"""Time limit in seconds of a stage beside the training, where its queue has no shorter one."""
_SPARE_MEMORY = 0.97
"""Of a node's memory, a job of the whole node asks for a little less: SLURM refuses a megabyte too much."""

Directive = tuple[str, str]
"""An option of sbatch, and why it is there."""


def scripts(
    plan: Plan, site: Site, run_dir: RunDir, python: str, enclosure: Enclosure | None = None
) -> dict[Path, str]:
    """Path → text of the scripts of a run.

    Args:
        plan: its plan, made for the site.
        site: profile and queue.
        run_dir: the run, where all nodes see it.
        python: the interpreter for jobs that the profile does not name.
        enclosure: the container of the nodes; None where they do without.

    Raises:
        UsageError: the run's folder has a name that SLURM takes for something else.
    """
    _check_path(run_dir)
    train = next(job for job in plan.jobs if job.stage == "train")
    return {
        run_dir.script("train.sbatch"): template("train.sbatch.j2").render(
            name=plan.name,
            what=f"train, {plan.hardware}",
            where=site.label,
            directives=list(directives(plan, train, site, run_dir)),
            run=str(run_dir.root),
            python=site.profile.python or python,
            setup=[*preamble(site), *(enclosure.exports() if enclosure else ())],
            slice_options="" if site.profile.requeue else ' --turn "${LAUNCHER_TURN:-0}"',
            srun=_step(plan, enclosure),
        ),
        run_dir.script("node.sh"): node_script(plan, site, run_dir, python),
    }


def node_script(plan: Plan, site: Site, run_dir: RunDir, python: str) -> str:
    """What each node does, started by srun. Arguments and errors are those of `scripts`."""
    _check_path(run_dir)
    train = next(job for job in plan.jobs if job.stage == "train")
    return template("node.sh.j2").render(
        run=str(run_dir.root),
        python=inside(site, python),
        env=list(node_environment(site, train).items()),
        scratch=_in_shell(site.profile.scratch),
        compiles=plan.offload != "none",
        torchrun=_with_variables(train),
    )


def directives(plan: Plan, job: Job, site: Site, run_dir: RunDir) -> Iterator[Directive]:
    """The `#SBATCH` options of a job, in the order a person looks for them."""
    queue, profile = site.queue, site.profile
    yield f"--job-name={plan.name}", ""
    yield from _optional(partition=queue.partition, account=site.account, qos=queue.qos)
    yield from _optional(reservation=queue.reservation, constraint=queue.constraint, exclude=profile.exclude)
    yield f"--nodes={job.nodes}", ""
    yield "--ntasks-per-node=1", "one task on each node: torchrun, which starts the ranks"
    yield from resources(plan, job, site)
    if limit := time_limit_s(job, site):
        yield f"--time={clock(limit)}", ""
    yield f"--signal=B:USR1@{profile.stop_lead_s}", "seconds before the limit, to this shell only"
    yield "--requeue" if profile.requeue else "--no-requeue", "" if profile.requeue else "this site forbids it"
    yield "--open-mode=append", "a requeued job adds to its log"
    yield f"--output={run_dir.job_logs}/{job.stage}-%j.log", ""
    yield "--export=NONE", "nothing of the submitter's environment gets into the job's record"
    for each in (*profile.directives, *queue.directives):
        yield each, "of the profile"


def time_limit_s(job: Job, site: Site) -> int | None:
    """Seconds that a job asks for; None leaves it to the partition."""
    if job.time_limit_s or job.stage == "train":
        return job.time_limit_s
    longest = site.queue.max_time
    return min(STAGE_S, seconds(longest)) if longest else STAGE_S


def resources(plan: Plan, job: Job, site: Site) -> Iterator[Directive]:
    """GPUs, cores and memory of one node of a job: a share of the node as large as its share of the GPUs."""
    gpus = job.processes if plan.device == "cuda" and job.stage in ("train", "evaluate") else 0
    share = min(1.0, gpus / site.gpus_per_node) if gpus and site.gpus_per_node else 1.0
    if gpus:
        kind = f"{site.gres}:" if site.gres else ""
        yield f"--gpus-per-node={kind}{gpus}", ""
    yield f"--cpus-per-task={max(1, int(site.cpus_per_node * share))}", ""
    yield f"--mem={int(site.memory_gib_per_node * 1024 * share * _SPARE_MEMORY)}M", "of each node"


def srun(plan: Plan) -> list[str]:
    """The step of a training: one task per node, which ends everywhere when it fails anywhere."""
    train = next(job for job in plan.jobs if job.stage == "train")
    nodes = [f"--nodes={train.nodes}", "--ntasks-per-node=1", "--cpu-bind=cores"]
    return ["srun", *nodes, "--kill-on-bad-exit=1", "--wait=60"]


def _step(plan: Plan, enclosure: Enclosure | None) -> str:
    """All that stands in front of the command that each node runs."""
    if enclosure is None:
        return shlex.join(srun(plan))
    return _folded([shlex.quote(word) for word in enclosure.step(srun(plan), ())])


def node_environment(site: Site, job: Job) -> dict[str, str]:
    """Variables of the ranks of a job: the plan's, and the site's for the network and the hub."""
    found = interfaces(site) if job.nodes > 1 else {}
    return {**found, **hub.environment(site), **site.profile.network.env, **job.env}


def interfaces(site: Site) -> dict[str, str]:
    """What NCCL and gloo talk through. gloo wants the name of one interface; NCCL takes what to leave out."""
    named = site.profile.network.interface
    if named is None:
        return {"NCCL_SOCKET_IFNAME": "^lo,docker"}
    plain = named.lstrip("=")
    return {"NCCL_SOCKET_IFNAME": named} | ({} if named.startswith("^") else {"GLOO_SOCKET_IFNAME": plain})


def inside(site: Site, python: str) -> str:
    """The interpreter of the ranks: the container's, the profile's, or the submitter's."""
    profile = site.profile
    return profile.container.python if profile.container else profile.python or python


def preamble(site: Site) -> list[str]:
    """Shell lines that every job begins with: modules, the profile's own lines, its variables, where its secrets lie."""
    modules = [f"module load {shlex.join(site.profile.modules)}"] if site.profile.modules else []
    secrets = {secrets_file.PATH: site.profile.secrets} if site.profile.secrets else {}
    values = {**hub.environment(site), **site.profile.env, **secrets}
    variables = [f"export {name}={shlex.quote(value)}" for name, value in values.items()]
    return [*modules, *site.profile.setup, *variables]


def option(flag: str) -> tuple[str, str | bool]:
    """`--name=value` as a name and its value; True for one without."""
    name, equals, value = flag.removeprefix("--").partition("=")
    return name, value if equals else True


def _in_shell(folder: str | None) -> str | None:
    """A folder of the nodes for double quotes, which leave its variables to the node's shell; one that is not set is empty."""
    if folder is None:
        return None
    return re.sub(r"\$\{?(\w+)\}?", r"${\1:-}", re.sub(r"^~(?=/)", "$HOME", folder))


def _optional(**options: str | None) -> Iterator[Directive]:
    for name, value in options.items():
        if value is not None:
            yield f"--{name}={value}", ""


def _with_variables(job: Job) -> str:
    """The job's command, its words as the variables that hold them on a node."""
    words = {
        PYTHON: '"$PYTHON"',
        RUN_DIR: '"$RUN"',
        NODE_RANK: '"$SLURM_NODEID"',
        HEAD: '"$MASTER_ADDR"',
        PORT: '"$MASTER_PORT"',
        MEETING: '"$LAUNCHER_MEETING"',
    }
    return _folded([words.get(each, shlex.quote(each)) for each in job.argv])


def _folded(words: Sequence[str]) -> str:
    """Words on lines of their own where an option, a module or a command within begins."""
    lines: list[str] = []
    for word in words:
        if not lines or word.startswith("-") or word in ("apptainer", "env"):
            lines.append(word)
        else:
            lines[-1] += f" {word}"
    return " \\\n  ".join(lines)


def _check_path(run_dir: RunDir) -> None:
    if not _SAFE_PATH.fullmatch(str(run_dir.root)):
        raise UsageError(
            f"{quote(str(run_dir.root))}: SLURM reads blanks and `%` in the path of a log as something else",
            hint="choose a folder of letters, digits and `_./@:+=,~-` with `--runs DIR`",
        )


def template(name: str) -> Template:
    """One of the templates that are shipped in `slurm/templates`."""
    return _environment().get_template(name)


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    found = Environment(
        loader=FileSystemLoader(shipped("slurm") / "templates"), undefined=StrictUndefined, autoescape=False,  # noqa: S701 - shell, not HTML
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    found.filters["q"] = lambda value: shlex.quote(str(value))
    found.filters["column"] = lambda flag, why: f"{flag.ljust(_COLUMN - 1)} # {why}" if why else flag
    return found
