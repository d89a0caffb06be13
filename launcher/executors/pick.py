"""Which run a command means, made or brought up to date: by the recipe's identity, by `--continue`, or by the run itself."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from launcher.cluster.schema import Cluster
from launcher.errors import EnvironmentFault, UsageError
from launcher.executors import folder, prepared, resplit
from launcher.plan import codec, compatibility
from launcher.plan.make import Planned
from launcher.plan.types import Plan
from launcher.recipe.load import LoadedRecipe
from launcher.render.command import shell_lines
from launcher.runs import cache, checkpoints, choice, drift, lock, names, record, state
from launcher.runs.changes import DATA_FILES, Change, difference, listed
from launcher.runs.choice import Action
from launcher.runs.files import read_json, write_json
from launcher.runs.paths import RunDir


@dataclass(frozen=True)
class Pick:
    """The run to go on with. `differences` (key, old, new) are those to run `differs_from`, or the ones it took over."""

    action: Action
    run_dir: RunDir
    differs_from: RunDir | None = None
    differences: tuple[Change, ...] = ()
    identity: Mapping[str, Any] | None = None
    """What the run was when it was chosen by a recipe; an executor must find it so."""
    loaded: LoadedRecipe | None = None
    """That recipe, whose lines errors can name."""


def by_recipe(runs: Path, planned: Planned) -> Pick:
    """The run of this name and identity: made if there is none, or one in which nothing was trained, brought up to date.

    Raises:
        DataError: something was trained in the run, and its data files have changed since they were prepared.
    """
    plan = planned.plan
    identity = record.plain(plan.identity)
    while True:
        found = choice.choose(runs, plan.name, plan.identity)
        if found.action == "start":
            if not folder.create(found.run_dir, planned):
                continue  # another launcher made it in this moment; look again
            return Pick("start", found.run_dir, found.differs_from, _differences(found.differs_from, plan), identity)
        if found.action == "update":
            changed = _differences(found.run_dir, plan)
            if not _take_over(found.run_dir, planned):
                continue  # another launcher was faster
            return Pick("update", found.run_dir, None, changed, identity)
        if found.action == "continue" and not _update(found.run_dir, planned):
            return Pick("running", found.run_dir)
        return Pick(found.action, found.run_dir, identity=identity)


def by_continue(run_dir: RunDir, planned: Planned, *, allowed: Sequence[str]) -> Pick:
    """An existing run that goes on by a changed recipe, when every change is allowed by name.

    Raises:
        UsageError: changes that nobody allowed.
        DataError: the data files have changed, and `data.files` is not among the allowed.
    """
    known = _known(run_dir)
    changed = difference(known.identity, record.plain(planned.plan.identity))
    refused = [each for each in changed if not any(f"{each[0]}.".startswith(f"{key}.") for key in allowed)]
    if refused:
        flags = " ".join(f"--allow-change {key}" for key, _, _ in refused)
        raise UsageError(
            f"the recipe differs from {run_dir.name}:\n{listed(refused)}", hint=f"to go on all the same: {flags}"
        )
    if DATA_FILES in allowed:
        changed.append((DATA_FILES, "as prepared", "prepared anew"))
    if not _update(run_dir, planned, allowed=changed):
        return Pick("running", run_dir)
    run_dir.done.unlink(missing_ok=True)
    return Pick("continue", run_dir, differences=tuple(changed))


def by_run(run_dir: RunDir, cluster: Cluster, sets: Sequence[str], *, trains: bool = True) -> Pick:
    """An existing run as it stands, perhaps copied from elsewhere; `sets` say where its files are now, or split its batch.

    Raises:
        UsageError: `sets` holds anything but paths of this run and rows per device.
        EnvironmentFault: the run was planned for GPUs that are not here.
    """
    plan = codec.loads(run_dir.plan.read_text(encoding="utf-8"))
    if trains:  # data is prepared and read anywhere
        _check_hardware(run_dir, plan, cluster)
    rows, paths = resplit.asked(sets)
    placed = folder.relocate(plan, prepared.placement(run_dir), paths)
    with lock.hold(run_dir) as taken:
        if not taken:
            return Pick("running", run_dir)
        if run_dir.done.exists():
            return Pick("finished", run_dir)
        _settle(run_dir, placed)
        if paths:
            write_json(run_dir.placement, placed)
        if rows is not None:
            resplit.apply(run_dir, plan, rows, "person")
    return Pick("continue", run_dir)


def commands_per_node(run_dir: RunDir) -> tuple[str, ...]:
    """For a run over several machines, the lines to type on each; empty for a run on this one."""
    plan = codec.loads(run_dir.plan.read_text(encoding="utf-8"))
    if all(job.nodes == 1 for job in plan.jobs):
        return ()
    lines = [f"# {run_dir.name} runs on several machines; type these lines where {run_dir.root.resolve()} is shared:"]
    for job in plan.jobs:
        what = "once" if job.nodes == 1 else "one line on each machine; HOST is the name of the first"
        lines += [f"# {job.stage}: {what}", *shell_lines(job, run_dir.root.resolve(), sys.executable)]
    return tuple(lines)


def _take_over(run_dir: RunDir, planned: Planned) -> bool:
    """Give a run in which nothing was trained another plan and identity; False when it is not free any more."""
    with lock.hold(run_dir) as taken:
        if not taken or not choice.reusable(run_dir):
            return False
        _forget_drift(run_dir, planned.placement)
        folder.update(run_dir, planned)
        record.write(run_dir, replace(_known(run_dir), identity=record.plain(planned.plan.identity), split=None))
        return True


def _forget_drift(run_dir: RunDir, placed: drift.Placement) -> None:
    """Have the data made anew where nothing was trained on the old."""
    facts = read_json(run_dir.data_facts) or {}
    if drift.changes(facts.get("files") or {}, placed, cache.of_run(run_dir).sha256):
        record.write(run_dir, replace(_known(run_dir), prepared=None))


def _settle(run_dir: RunDir, placed: drift.Placement) -> None:
    """Data files that have changed are prepared anew, unless something was trained on them."""
    if state.trained(run_dir):
        prepared.refuse_drift(run_dir, placed)
    else:
        _forget_drift(run_dir, placed)


def _update(run_dir: RunDir, planned: Planned, *, allowed: Sequence[Change] = ()) -> bool:
    with lock.hold(run_dir) as taken:
        if taken:
            _check_sharding(run_dir, planned.plan)
            if any(key == DATA_FILES for key, _, _ in allowed):
                run_dir.data_facts.unlink(missing_ok=True)
            _settle(run_dir, planned.placement)
            known = _known(run_dir)
            folder.update(run_dir, resplit.kept(planned, known) if known.split else resplit.steady(planned, run_dir))
            if allowed:
                step = max((step for step, _ in checkpoints.folders(run_dir)), default=0)
                record.write(run_dir, record.allow(_known(run_dir), planned.plan.identity, allowed, step=step))
        return taken


def _check_sharding(run_dir: RunDir, plan: Plan) -> None:
    """A checkpoint goes on under its own strategy, and under some on its own number of ranks; said before anything is started.

    Raises:
        UsageError: the newest one does not go on as planned.
    """
    newest = checkpoints.newest(run_dir, contents=False).checkpoint
    if newest is None:
        return
    then = newest.manifest
    found = compatibility.refusal(then["strategy"], then["world_size"], plan.strategy, plan.batch.world_size)
    if found:
        raise UsageError(f"{newest.path.name} of {run_dir.name} {found[0]}", hint=found[1])


def _differences(other: RunDir | None, plan: Plan) -> tuple[Change, ...]:
    return tuple(difference(_known(other).identity, record.plain(plan.identity))) if other else ()


def _known(run_dir: RunDir) -> record.Record:
    known = record.read(run_dir)
    if known is None:
        raise UsageError(f"{run_dir.root} is not a run: run.json is missing or damaged")
    return known


def _check_hardware(run_dir: RunDir, plan: Plan, cluster: Cluster) -> None:
    needed = max(job.processes for job in plan.jobs) if plan.device == "cuda" else 0
    if needed > cluster.gpus_per_node:
        raise EnvironmentFault(
            f"{run_dir.name} is planned for {needed} GPUs, this machine has {cluster.gpus_per_node}",
            hint=f"run its recipe here: it plans anew and continues the same run (`launcher run RECIPE --runs {names.short(run_dir.root.parent)}`)",
        )
