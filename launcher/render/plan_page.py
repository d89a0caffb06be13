"""`plan.html`: a plan on one page, complete in itself: verdict, memory, time, batch, data, choices with their reasons."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from launcher.plan.setups import longest
from launcher.plan.types import Plan
from launcher.render import chosen_text, fit_text, plan_data_text, plan_text
from launcher.render.command import plan_line
from launcher.render.data_page import environment
from launcher.render.fit_page import KINDS, Fit, fit
from launcher.text import visible


@dataclass(frozen=True)
class Page:
    """All that the template shows, as text and drawings."""

    name: str
    subtitle: str
    verdict: str
    kind: str
    sentence: str
    fit: Fit | None
    warnings: tuple[str, ...]
    batch: list[tuple[str, str]]
    data: list[str]
    choices: list[tuple[str, str, str, list[str]]]
    """Key, value, reason, what was looked at in its place."""
    next_line: tuple[str, str]
    """What to type next, and what to know about it."""


def html(
    plan: Plan,
    *,
    next_line: str | None = None,
    on: str | None = None,
    prepared: Mapping[str, Any] | None = None,
) -> str:
    """The page as text.

    Args:
        plan: what was decided.
        next_line: the `launcher run` line, as the reader would type it.
        on: hardware that is not here (`--on`), as it was typed.
        prepared: `data.json`, where `prepare` has made the data by this plan.
    """
    page = _page(plan, next_line, on, prepared)
    return visible(environment().get_template("plan.html.j2").render(page=page))


def _page(plan: Plan, next_line: str | None, on: str | None, prepared: Mapping[str, Any] | None) -> Page:
    found = plan.prediction
    look = plan_line(next_line, on=on) if next_line else None
    stops = found is not None and found.verdict == "does not fit"
    return Page(
        name=plan.name,
        subtitle=plan_text.described_as(plan),
        verdict=found.verdict if found else "not predicted",
        kind=KINDS[found.verdict] if found else "open",
        sentence=fit_text.verdict(plan, found)[1][0],
        fit=fit(plan, found, look) if found else None,
        warnings=(*plan.warnings, *((prepared or {}).get("warnings") or ())),
        batch=list(_batch(plan)),
        data=plan_data_text.lines(plan, prepared),
        choices=[
            (each.key, chosen_text.decided(plan, each), each.reason, list(chosen_text.alternatives(each, found)))
            for each in plan.decisions
        ],
        next_line=fit_text.instead(found, look)
        if found and stops
        else (next_line or f"launcher run {plan.name}", plan_text.AGAIN),
    )


def _batch(plan: Plan) -> Iterator[tuple[str, str]]:
    """The product, factor by factor."""
    batch = plan.batch
    rows = "packed rows" if plan.data.packing else "rows"
    yield f"{rows} per device and pass", f"{batch.per_device:,}"
    yield "× passes per step (accumulation)", f"{batch.accumulation:,}"
    yield f"× {'GPUs' if plan.device == 'cuda' else 'processes'}", f"{batch.world_size:,}"
    yield f"= {rows} per step", f"{batch.global_size:,}"
    most = "" if plan.data.packing else "at most "
    length = longest(plan)
    yield f"× {length:,} tokens = tokens per step", f"{most}{batch.global_size * length:,}"
