"""Prepared data as tables and drawings: what the report and the page of `inspect` both show."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from launcher.render import data_text
from launcher.render.bars import Bin, Share, histogram, shares
from launcher.render.inspect_text import TEMPLATES, visible
from launcher.runs.files import read_json
from launcher.runs.paths import RunDir
from launcher.text import count

_LISTED = 20
"""Rows that were left out are listed up to this many, of each kind."""
_COLOURS = 6
_WIDE, _NARROW = 1000, 340


@dataclass(frozen=True)
class Plot:
    """One drawing for wide and one for narrow screens, with what to know about it."""

    title: str
    wide: Markup
    narrow: Markup
    note: str = ""


@dataclass(frozen=True)
class Data:
    """What is known of a run's data."""

    headline: str
    steps: str
    sources: list[list[str]]
    """Label, rows, tokens, share, asked, epochs, tokens trained."""
    mix: Plot | None
    fill: Plot | None
    lengths: list[list[str]]
    """Label, mean, p50, p90, p99, max, rows cut, tokens cut."""
    plots: list[Plot]
    left_out: list[tuple[str, int, str]]
    """Label, rows read, what was left out."""
    removed: list[tuple[str, str, str, str]]
    """Source, place, reason, the row it repeats: the first of them."""
    removed_in_all: int
    template: str
    notes: list[str]
    warnings: list[str]


def environment() -> Environment:
    """Templates of this folder. Whatever a page shows is escaped."""
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )


def data(run_dir: RunDir) -> Data | None:
    """What `prepare` left; None before it has, or when an older launcher did."""
    facts = read_json(run_dir.data_facts) or {}
    if not data_text.mixture(facts):
        return None
    removed = list(_removed(run_dir))
    limited_by = facts["mixture"].get("limited_by")
    return Data(
        headline=data_text.mixed_line(facts),
        steps=data_text.steps_line(facts),
        sources=list(_sources(facts)),
        mix=_mix(facts),
        fill=_fill(facts),
        lengths=[[*row[:8]] for row in data_text.lengths(facts)],
        plots=list(_plots(facts)),
        left_out=[
            (label, source.get("read", 0), ", ".join(f"{number:,} {what}" for what, number in found))
            for label, source in facts["sources"].items()
            if (found := data_text.left_out(source))
        ],
        removed=removed,
        removed_in_all=_in_all(facts),
        template=TEMPLATES.get((facts.get("template") or {}).get("how", ""), ""),
        notes=[f"One pass ends where {limited_by} does."] if limited_by is not None else [],
        warnings=[str(each) for each in facts.get("warnings") or ()],
    )


def _sources(facts: Mapping[str, Any]) -> Iterator[list[str]]:
    for label, part in data_text.mixture(facts).items():
        source = facts["sources"].get(label) or {}
        asked = "" if part.get("asked") is None else data_text.percent(part["asked"], 1)
        trained = data_text.share(source.get("trained_tokens"), part["tokens"])
        yield [label, f"{part['rows']:,}", f"{part['tokens']:,}", data_text.percent(part["share"], 1), asked,
               data_text.epochs(part["epochs"]), trained]  # fmt: skip
    for label, each in data_text.eval_sets(facts).items():
        trained = data_text.share(each.get("trained_tokens"), each.get("tokens"))
        yield [label, f"{each.get('rows', 0):,}", f"{each.get('tokens', 0):,}", "measured", "", "", trained]


def _mix(facts: Mapping[str, Any]) -> Plot | None:
    parts = data_text.mixture(facts)
    if len(parts) < 2:
        return None
    unit = facts["mixture"].get("unit", "tokens")
    rows = [
        Share(label, part["share"], part.get("asked"), _figures(part), number % _COLOURS)
        for number, (label, part) in enumerate(parts.items())
    ]
    asked = any(part.get("asked") is not None for part in parts.values())
    note = "The mark is what was asked for." if asked else "No weights were given: every row is taken once."
    title = f"Share of {unit}"
    wide, narrow = (shares(rows, label=title, width=width) for width in (_WIDE, _NARROW))
    return Plot(title, wide, narrow, note)


def _figures(part: Mapping[str, Any]) -> str:
    got = data_text.percent(part["share"], 1)
    return got if part.get("asked") is None else f"{got}, asked {data_text.percent(part['asked'], 1)}"


def _fill(facts: Mapping[str, Any]) -> Plot | None:
    train = data_text.train_facts(facts)
    if not train.get("packing"):
        return None
    capacity = train["rows"] * train["max_length"]
    words = f"{data_text.percent(train['fill'], 1)} of {count(capacity)} tokens"
    row = Share(f"{train['rows']:,} rows of {train['max_length']:,}", train["fill"], None, words, 2)
    cut = f"{train.get('split_sequences', 0):,} rows were split, {train.get('cut_tokens', 0):,} tokens cut off."
    wide, narrow = (shares([row], label="Room that is filled", width=width) for width in (_WIDE, _NARROW))
    return Plot("Packing", wide, narrow, f"Strategy {train['packing']}. {cut}")


def _plots(facts: Mapping[str, Any]) -> Iterator[Plot]:
    limit = data_text.train_facts(facts).get("max_length")
    for label, source in facts["sources"].items():
        bins: list[Bin] = [(left, right, many) for left, right, many in source.get("histogram") or ()]
        if bins:
            wide, narrow = (
                histogram(bins, x="tokens", y="rows", limit=limit, width=width, height=220) for width in (490, _NARROW)
            )
            more = _beyond(int(bins[-1][1]), (source.get("lengths") or {}).get("max", 0), limit)
            yield Plot(label, wide, narrow, more)


def _beyond(end: int, longest: int, limit: int | None) -> str:
    """What the plot does not show to its right."""
    if longest > end:
        return f"The last bar holds all that is longer, up to {longest:,} tokens."
    return f"max_length {limit:,} is beyond the right end: nothing is cut." if limit is not None and limit > end else ""


def _removed(run_dir: RunDir) -> Iterator[tuple[str, str, str, str]]:
    for path in (run_dir.bad_rows, run_dir.removed_rows):
        for line in _lines(path):
            yield tuple(visible(str(line.get(key) or "")) for key in ("source", "place", "reason", "of"))  # type: ignore[misc]


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8") as file:
            for line in islice(file, _LISTED):
                yield dict(json.loads(line))
    except (OSError, ValueError):
        return


def _in_all(facts: Mapping[str, Any]) -> int:
    listed = ("bad", "duplicates", "near_duplicates", "contaminated")
    return sum(source.get(key) or 0 for source in facts["sources"].values() for key in listed)
