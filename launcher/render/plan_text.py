"""The plan as people read it: verdict, time, data, batch, memory, choices with reasons, warnings, what to type next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from launcher.cluster.schema import Site
from launcher.plan.setups import longest
from launcher.plan.types import Plan
from launcher.predict.prediction import Prediction
from launcher.render import chosen_text, fit_text, plan_data_text
from launcher.render.columns import described, room, section, wrapped
from launcher.render.command import plan_line, shell_lines
from launcher.render.jobs_text import jobs_table
from launcher.text import count, duration, visible

AGAIN = "again after any stop: the same line"


def plan_text(
    plan: Plan,
    *,
    next_line: str | None = None,
    note: str = AGAIN,
    run_dir: str | None = None,
    prepared: Mapping[str, Any] | None = None,
    site: Site | None = None,
    on: str | None = None,
    width: int | None = None,
) -> str:
    """The plan for the terminal and for `plan.md`.

    Args:
        plan: what was decided.
        next_line: the command to type next, as the reader would type it.
        note: what to know about that command.
        run_dir: where the run takes place, for the exact commands; default `runs/NAME`.
        prepared: `data.json`, where `prepare` has made the data by this plan.
        site: the SLURM site that it is for.
        on: hardware that is not here (`--on`), as it was typed.
        width: columns of the terminal; None breaks no line.
    """
    found = plan.prediction
    look_line = plan_line(next_line, on=on) if next_line else None
    warnings = (*plan.warnings, *((prepared or {}).get("warnings") or ()))
    sections = [
        *_fit(plan, found, look_line, width, site.profile.stop_lead_s if site else None),
        section("DATA", wrapped(plan_data_text.lines(plan, prepared), width)),
        section("BATCH", wrapped(_batch(plan), width)),
        *_memory(plan, found, width),
        section("CHOSEN", described(chosen_text.rows(plan, found), width)),
        *(section("WARN", wrapped([warning], width)) for warning in warnings),
        section("SAVE", wrapped([_save(plan), *([] if site else _limit(plan))], width)),
        *([section("DISK", wrapped(fit_text.disk(found), width))] if found else []),
        *([section("JOBS", jobs_table(plan, site))] if site else []),
        section("NEXT", _next(plan, found, next_line, look_line, note, several=site is None)),
        *([] if site else [section("EXACTLY", list(_exactly(plan, run_dir or f"runs/{plan.name}")))]),
    ]
    head = wrapped([f"{plan.name}   {described_as(plan)}"], None if width is None else width + 10)
    return visible("\n".join([*head, *(line for lines in sections for line in lines)])) + "\n"


def _fit(
    plan: Plan, found: Prediction | None, look_line: str | None, width: int | None, lead_s: float | None
) -> Iterator[list[str]]:
    """Whether it fits, what would make it fit, how long it takes."""
    title, lines = fit_text.verdict(plan, found)
    yield section(title, wrapped(lines, width, title))
    if found is None:
        return
    if found.verdict != "fits":
        title = "FIX" if found.verdict == "does not fit" else "SAFER"
        yield section(title, fit_text.fixes(found, look_line, width))
    yield section("TIME", wrapped(fit_text.time(plan, found, lead_s), width))


def _memory(plan: Plan, found: Prediction | None, width: int | None) -> Iterator[list[str]]:
    if found is not None:
        yield section("MEMORY", wrapped(fit_text.memory(plan, found, room(width)), width))
        yield section("HOST", wrapped(fit_text.host(found), width))


def described_as(plan: Plan) -> str:
    """Task, model, method, sharding and hardware on one line."""
    model = plan.model.name or f"{plan.model.architecture} from its configuration"
    size = f" ({count(plan.model.parameters)} parameters)" if plan.model.parameters else ""
    return f"{plan.task} · {model}{size} · {_method(plan)} · {_spread(plan)}{plan.hardware}"


def _spread(plan: Plan) -> str:
    """How the model is shared out; nothing for a process of its own."""
    if plan.strategy == "ddp" and plan.batch.world_size == 1:
        return ""
    group = f" in groups of {plan.shard_group}" if plan.shard_group else ""
    moved = f", {plan.offload} in host memory" if plan.offload != "none" else ""
    return f"{plan.strategy}{group}{moved} · "


def _method(plan: Plan) -> str:
    if plan.method == "full":
        return f"full, {plan.model.dtype}"
    base = {"lora": f", {plan.model.dtype}", "qlora": " on a 4-bit base", "int8": " on an int8 base"}[plan.method]
    if plan.peft is None:
        return f"adapter {plan.model.adapter}{base}"
    rank = f"r{plan.peft['r']}"
    if plan.method != "qlora":
        return f"LoRA {rank}{base}"
    if plan.quantization is None:
        return f"QLoRA {rank}, {plan.model.dtype}"
    double = "+dq" if plan.quantization["bnb_4bit_use_double_quant"] else ""
    return f"QLoRA {plan.quantization['bnb_4bit_quant_type']}{double} {rank}"


def _batch(plan: Plan) -> list[str]:
    batch = plan.batch
    one, many = ("GPU", "GPUs") if plan.device == "cuda" else ("process", "processes")
    ranks = one if batch.world_size == 1 else many
    product = f"{batch.global_size} = {batch.per_device} per device × {batch.accumulation} accumulation"
    most = f"{'' if plan.data.packing else 'at most '}{batch.global_size * longest(plan):,} tokens per step"
    return [f"{product} × {batch.world_size} {ranks}     {most}"]


def _save(plan: Plan) -> str:
    best = f", and the best by {plan.checkpoint.keep_best}" if plan.checkpoint.keep_best else ""
    every = f", and those at every {plan.checkpoint.keep_every} steps" if plan.checkpoint.keep_every else ""
    return (
        f"every {plan.checkpoint.save_steps} steps and at the end; the newest {plan.checkpoint.keep} stay{best}{every}"
    )


def _limit(plan: Plan) -> list[str]:
    """What happens before the time is up."""
    limit_s = next((job.time_limit_s for job in plan.jobs if job.time_limit_s is not None), None)
    if limit_s is None:
        return []
    return [f"leaves, saved, before {duration(limit_s)} are over (launch.time_limit); the same line goes on from there"]


def _next(
    plan: Plan, found: Prediction | None, line: str | None, look_line: str | None, note: str, *, several: bool
) -> list[str]:
    """What to type: the run; where it does not fit, the plan that would."""
    if found is not None and found.verdict == "does not fit":
        return ["     ".join(fit_text.instead(found, look_line))]
    if several and any(job.nodes > 1 for job in plan.jobs):
        return ["type each line below on its node, with HOST the name of the first; all share the run directory"]
    return [f"{line or 'launcher run ' + plan.name}     {note}"]


def _exactly(plan: Plan, run_dir: str) -> Iterator[str]:
    for job in plan.jobs:
        yield from shell_lines(job, run_dir, "python")
