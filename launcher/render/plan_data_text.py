"""The data of a plan as lines: sources, rows, shares, and what a pass over them amounts to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from launcher.plan.types import Plan, SourceEstimate, SourcePlan
from launcher.render.data_text import data_table, epochs, percent
from launcher.text import count, table


def lines(plan: Plan, prepared: Mapping[str, Any] | None) -> list[str]:
    """Counted where `prepare` has made the data, else estimated.

    Args:
        plan: what was decided.
        prepared: `data.json` of this plan's data, where there is one.
    """
    if prepared:
        return [*data_table(prepared), *_template(prepared)]
    known = {each.label: each for each in plan.estimate.sources}
    mixed = any(each.asked is not None for each in known.values()) or plan.data.mixture.temperature is not None
    rows = [
        [
            source.label,
            _rows(known.get(source.label)),
            *(_mixed(known.get(source.label)) if mixed else ()),
            _origin(source),
        ]
        for source in plan.data.sources
    ]
    blank = ["", "", ""] if mixed else [""]
    rows += [[source.label, *blank, _measured(source, plan)] for source in plan.data.eval_sources]
    return [*table(rows, right=frozenset({1})).splitlines(), _amount(plan)]


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
