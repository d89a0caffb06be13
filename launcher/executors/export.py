"""Exporting a finished run: the stage `export` on its own, in the run's last attempt."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from launcher.errors import Exit, UsageError
from launcher.executors import folder, prepared
from launcher.executors.interrupts import Interrupts
from launcher.executors.stages import Stages, View
from launcher.plan import codec, merging
from launcher.plan.jobs import export_job
from launcher.plan.types import MergeBase, Plan
from launcher.runs import attempts, lock, names, record, state
from launcher.runs.attempts import Attempt
from launcher.runs.files import write_json
from launcher.runs.paths import RunDir
from launcher.runs.state import State


def export(run_dir: RunDir, view: View, *, base: str | None = None, sets: Sequence[str] = ()) -> Exit:
    """Merge the adapter of a finished run into its base, whether or not the recipe asked for it.

    Args:
        run_dir: the run; its state stays as it is.
        view: shows what happens.
        base: `quantized` or `original`; None: what the plan chose.
        sets: `KEY=PATH` of what lies elsewhere by now.

    Returns:
        `DONE`, or `SAVED_AND_STOPPED` when somebody stopped it.

    Raises:
        UsageError: the run is not finished, is running, or cannot be merged like this.
        LauncherError: the stage failed.
    """
    known = record.read(run_dir)
    if known is None:
        raise UsageError(f"{run_dir.root} is not a run: run.json is missing or damaged")
    plan = codec.loads(run_dir.plan.read_text(encoding="utf-8"))
    found = state.derive(run_dir)
    with lock.hold(run_dir) as taken:
        if not taken:
            hint = f"`launcher status {names.typed(run_dir)}` shows what it does"
            raise UsageError(f"{run_dir.name} is running", hint=hint)
        _refuse_unfinished(run_dir, found)
        chosen = _base(run_dir, plan, base)
        _settle(run_dir, plan, sets)
        with Interrupts(run_dir) as interrupts:
            run_dir.stop_request.unlink(missing_ok=True)
            stages = Stages(
                run_dir, plan, known, _attempt(run_dir), view, interrupts, wanted=("export",), began=time.time()
            )
            ended = stages.one(export_job(os.cpu_count() or 0, chosen))
    if ended.error:
        raise ended.error
    return Exit.SAVED_AND_STOPPED if ended.cause == "stopped" else Exit.DONE


def _refuse_unfinished(run_dir: RunDir, found: State) -> None:
    over = run_dir.done.exists() and run_dir.model.exists()  # a copied run may have left its events behind
    if not over and not state.complete(run_dir):
        goes_on = f"`launcher run {names.typed(run_dir)}` goes on to the end"
        why = f" ({found.reason})" if found.reason else ""
        raise UsageError(f"{run_dir.name} is not finished: it is {found.name}{why}", hint=goes_on)


def _base(run_dir: RunDir, plan: Plan, asked: str | None) -> MergeBase:
    chosen = merging.base_for(asked or plan.export.base or "auto", plan.method)
    fault = merging.fault(plan, chosen)
    if fault is None and chosen is not None:
        return chosen
    message, right = fault or ("nothing to merge", "")
    message = message.replace("RUN/model", names.short(run_dir.model))
    if right:
        hint = f"`launcher export {names.typed(run_dir)} --merge-base {right}`"
        raise UsageError(f"--merge-base {chosen}: {message}", hint=hint)
    hint = f"load {names.short(run_dir.model)} with transformers" if chosen is None else "use the adapter with peft"
    raise UsageError(message, hint=hint)


def _settle(run_dir: RunDir, plan: Plan, sets: Sequence[str]) -> None:
    """Where its files are now; that the base is there, and the one it was trained on."""
    placed = folder.relocate(plan, prepared.placement(run_dir), tuple(sets))
    if sets:
        write_json(run_dir.placement, placed)
    prepared.check_placement(run_dir, data=False, verb="export")
    prepared.refuse_other_model(run_dir, placed)


def _attempt(run_dir: RunDir) -> Attempt:
    """The last one, where this stage leaves its note and log; of a copy without attempts, a new one."""
    numbers = attempts.numbers(run_dir)
    found = attempts.read(run_dir, numbers[-1]) if numbers else None
    if found is None:
        found = attempts.end(run_dir, attempts.begin(run_dir), Exit.DONE)
    run_dir.logs(found.number).mkdir(parents=True, exist_ok=True)
    return found
