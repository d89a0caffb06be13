"""`launcher plan --advise` as people read it: GPUs by rows, how many by columns."""

from __future__ import annotations

import shlex
from typing import Any

from launcher.plan.advise import COUNTS, Advice, Place
from launcher.predict.prediction import Prediction
from launcher.render import command
from launcher.text import duration, gib, table


def advice_text(advice: Advice, name: str, run: str) -> str:
    """A line for each kind of GPU on which it fits, the fastest first, and what is missing where there is none.

    Args:
        advice: what was looked at.
        name: the recipe's.
        run: the `launcher run` line of the recipe, from which the next line to type is made.
    """
    fitting = advice.fitting
    if not fitting:
        return "\n".join([f"{name} fits on no GPU of the catalogue, one to eight in a node", *_missing(advice)]) + "\n"
    kinds = dict.fromkeys(place.gpu for place in fitting)
    rows = [["GPU", *(f"× {count}" for count in COUNTS)]]
    rows += [[kind, *(_cell(_at(advice, kind, count)) for count in COUNTS)] for kind in kinds]
    lines = [f"{name}   where it fits: strategy, memory on each GPU, time", *table(rows).splitlines()]
    without = [kind for kind in dict.fromkeys(place.gpu for place in advice.places) if kind not in kinds]
    if without:
        lines.append(f"not on {', '.join(without)}")
    if advice.opened:
        lines.append(f"left open for this: {', '.join(advice.opened)}")
    line = command.plan_line(command.without(run, advice.sets), on=f"{fitting[0].gpu}x{fitting[0].count}")
    opened = "".join(f" --set {shlex.quote(each)}" for each in advice.sets)
    lines.append(f"NEXT      {line}{opened}")
    return "\n".join(lines) + "\n"


def advice_json(advice: Advice) -> dict[str, Any]:
    """The same as plain values."""
    return {
        "opened": list(advice.opened),
        "places": [_values(place) for place in advice.places],
        "fixes": [{"sets": list(fix.sets), "memory": fix.memory, "reason": fix.reason} for fix in advice.fixes],
    }


def _at(advice: Advice, gpu: str, count: int) -> Place:
    return next(place for place in advice.places if (place.gpu, place.count) == (gpu, count))


def _cell(place: Place) -> str:
    found, plan = place.prediction, place.plan
    if not place.fits or found is None or plan is None:
        return "-"
    moved = f"+{plan.offload}" if plan.offload != "none" else ""
    words = [f"{plan.strategy}{moved}", gib(found.memory.total), *_time(found)]
    return f"{' '.join(words)}{' tight' if found.verdict == 'tight' else ''}"


def _time(found: Prediction) -> list[str]:
    """Of all steps; of one, where nobody knows yet how many they are."""
    if found.run_s is not None:
        return [duration(found.run_s)]
    return [f"{found.time.step_s:.3g} s/step"] if found.time else []


def _missing(advice: Advice) -> list[str]:
    nearest = advice.nearest
    if nearest is None or nearest.prediction is None:
        return ["it can be planned on none of them: `launcher plan RECIPE --on GPU` says why"]
    found = nearest.prediction
    needs = f"needs {gib(found.memory.total)} of {gib(found.capacity)} on each"
    lines = [f"nearest: {nearest.count} × {nearest.gpu}, {gib(-found.margin)} short: {needs}"]
    return [
        *lines,
        *(f"there with {' '.join(f'--set {each}' for each in fix.sets)}: {gib(fix.memory)}" for fix in advice.fixes),
    ]


def _values(place: Place) -> dict[str, Any]:
    found, plan = place.prediction, place.plan
    known = {"gpu": place.gpu, "count": place.count, "verdict": found.verdict if found else None}
    if found is None or plan is None:
        return known
    return known | {
        "strategy": plan.strategy,
        "offload": plan.offload,
        "per_device": plan.batch.per_device,
        "activation_checkpointing": plan.recipe["training"]["activation_checkpointing"],
        "optim": plan.trainer["optim"],
        "memory": found.memory.total,
        "capacity": found.capacity,
        "step_s": found.time.step_s if found.time else None,
        "run_s": found.run_s,
        "gpu_hours": found.gpu_hours,
        "cost": found.cost,
    }
