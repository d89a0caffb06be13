"""The plan as people read it: verdict, data, batch, choices with reasons, warnings, what to type next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from launcher.cluster.schema import Site
from launcher.plan.types import Plan, SourceEstimate, SourcePlan
from launcher.render.command import shell_lines
from launcher.render.data_text import data_table, epochs, percent
from launcher.render.jobs_text import jobs_table
from launcher.text import count, duration, table

_INDENT = 10


AGAIN = "again after any stop: the same line"


def plan_text(
    plan: Plan,
    *,
    next_line: str | None = None,
    note: str = AGAIN,
    run_dir: str | None = None,
    prepared: Mapping[str, Any] | None = None,
    site: Site | None = None,
) -> str:
    """The plan for the terminal and for `plan.md`.

    Args:
        plan: what was decided.
        next_line: the command to type next, as the reader would type it.
        note: what to know about that command.
        run_dir: where the run takes place, for the exact commands; default `runs/NAME`.
        prepared: `data.json`, where `prepare` has made the data by this plan.
        site: the SLURM site that it is for.
    """
    sections = [
        _section("FIT", ["memory is not predicted yet: the first step shows whether it fits"]),
        _section("DATA", _data(plan, prepared)),
        _section("BATCH", _batch(plan)),
        _section("CHOSEN", _chosen(plan)),
        *(_section("WARN", [warning]) for warning in (*plan.warnings, *((prepared or {}).get("warnings") or ()))),
        _section("SAVE", [_save(plan), *([] if site else _limit(plan))]),
        *([_section("JOBS", jobs_table(plan, site))] if site else []),
        _section("NEXT", [f"{next_line}     {note}"] if site and next_line else _next(plan, next_line, note)),
        *([] if site else [_section("EXACTLY", list(_exactly(plan, run_dir or f"runs/{plan.name}")))]),
    ]
    return "\n".join([_headline(plan), *(line for section in sections for line in section)]) + "\n"


def _section(title: str, lines: list[str]) -> list[str]:
    return [f"{(title if number == 0 else '').ljust(_INDENT)}{line}".rstrip() for number, line in enumerate(lines)]


def _headline(plan: Plan) -> str:
    model = plan.model.name or f"{plan.model.architecture} from its configuration"
    size = f" ({count(plan.model.parameters)} parameters)" if plan.model.parameters else ""
    return f"{plan.name}   {plan.task} · {model}{size} · {_method(plan)} · {_spread(plan)}{plan.hardware}"


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


def _data(plan: Plan, prepared: Mapping[str, Any] | None) -> list[str]:
    if prepared:
        return [*data_table(prepared), *_template(prepared)]
    known = {each.label: each for each in plan.estimate.sources}
    mixed = any(each.asked is not None for each in known.values()) or plan.data.mixture.temperature is not None
    lines = [
        [
            source.label,
            _rows(known.get(source.label)),
            *(_mixed(known.get(source.label)) if mixed else ()),
            _origin(source),
        ]
        for source in plan.data.sources
    ]
    blank = ["", "", ""] if mixed else [""]
    lines += [[source.label, *blank, _measured(source, plan)] for source in plan.data.eval_sources]
    return [*table(lines, right=frozenset({1})).splitlines(), _amount(plan)]


def _mixed(source: SourceEstimate | None) -> list[str]:
    """Share that is asked, and how often a pass goes through the source."""
    if source is None or source.asked is None:
        return ["by size", ""]
    passes = "" if source.epochs is None else f"~{epochs(source.epochs)} epochs"
    return [percent(source.asked, 1), passes]


def _template(prepared: Mapping[str, Any]) -> list[str]:
    """How the assistant's part of conversations was found."""
    ways = {
        "markers": "answers are marked by the chat template itself",
        "training": "answers are marked by TRL's training copy of this chat template; its text differs from what the model sees in use",
        "prefixes": "answers are told apart by the generation prompt before them: the chat template marks none",
    }
    how = (prepared.get("template") or {}).get("how")
    return [ways[how]] if how in ways else []


def _rows(source: SourceEstimate | None) -> str:
    if source is None or source.rows is None:
        return "rows ?"
    return f"{'' if source.exact else '~'}{source.rows:,} rows"


def _origin(source: SourcePlan) -> str:
    split = f"split {source.split}" if source.split != "train" else None
    limit = f"first {source.max_rows:,} rows" if source.max_rows else None
    return ", ".join(part for part in (source.path, source.name, split, source.format, limit) if part)


def _measured(source: SourcePlan, plan: Plan) -> str:
    if source.held_out_from is None:
        return f"{_origin(source)} · measured, not trained"
    share = f"{source.fraction * 100:g} % of " if source.fraction else ""
    return f"{share}{source.held_out_from}, seed {plan.data.mixture.seed} · measured, not trained"


def _amount(plan: Plan) -> str:
    expected, about = plan.estimate, "" if plan.estimate.exact else "~"
    kind = "packed rows" if plan.data.packing else "rows"
    if expected.rows is None:
        amount = f"{kind} are counted by `prepare`"
        steps = f" → {expected.steps:,} steps (max_steps)" if expected.steps else ", and so are the steps"
    else:
        tokens = f", {about}{count(expected.tokens)} tokens" if expected.tokens else ""
        amount = f"{about}{expected.rows:,} {kind}{tokens} per epoch"
        asked = plan.trainer["max_steps"] > 0
        steps = f" → {'' if asked else about}{expected.steps:,} steps" if expected.steps else ""
    return f"{amount}{steps}; loss on {_loss(plan)}"


def _loss(plan: Plan) -> str:
    names = {"assistant": "the assistant's turns", "completion": "the completion", "all": "all tokens"}
    return names.get(plan.data.loss_on, "what each format trains")


def _batch(plan: Plan) -> list[str]:
    batch = plan.batch
    one, many = ("GPU", "GPUs") if plan.device == "cuda" else ("process", "processes")
    ranks = one if batch.world_size == 1 else many
    product = f"{batch.global_size} = {batch.per_device} per device × {batch.accumulation} accumulation"
    most = f"{'' if plan.data.packing else 'at most '}{batch.global_size * plan.data.max_length:,} tokens per step"
    return [f"{product} × {batch.world_size} {ranks}     {most}"]


def _chosen(plan: Plan) -> list[str]:
    rows = [[decision.key.rpartition(".")[2], _value(decision.value), decision.reason] for decision in plan.decisions]
    return table(rows).splitlines()


def _value(value: Any) -> str:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)


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


def _next(plan: Plan, line: str | None, note: str) -> list[str]:
    if any(job.nodes > 1 for job in plan.jobs):
        return ["type each line below on its node, with HOST the name of the first; all share the run directory"]
    return [f"{line or 'launcher run ' + plan.name}     {note}"]


def _exactly(plan: Plan, run_dir: str) -> Iterator[str]:
    for job in plan.jobs:
        yield from shell_lines(job, run_dir, "python")
