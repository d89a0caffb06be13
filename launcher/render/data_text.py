"""Prepared data as people read it: what each source gives, what was left out, how it is mixed and packed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from launcher.text import count, counted, duration, table

_INDENT = 10
_LEFT_OUT = (
    ("bad", "bad"),
    ("too_short", "too short"),
    ("too_long", "too long"),
    ("duplicates", "duplicates"),
    ("near_duplicates", "near duplicates"),
    ("contaminated", "in an eval set"),
    ("held_out", "held out"),
)
"""Keys of a source in `data.json`, and what the rows counted there are."""


def data_table(facts: Mapping[str, Any]) -> list[str]:
    """The sources in a table, below it what was left out and what the mixture became.

    Args:
        facts: `data.json`.
    """
    return [*_sources(facts), *_removed(facts), *_ended_by(facts), mixed_line(facts)]


def mixed_line(facts: Mapping[str, Any]) -> str:
    """From rows to steps: `3,609 rows → 652 packed (99.6 % full) → 41 steps/epoch; loss on 61 % of tokens`."""
    train = train_facts(facts)
    packed = f" → {train['rows']:,} packed ({percent(train['fill'], 1)} full)" if train.get("packing") else ""
    rows = sum(part["rows"] for part in mixture(facts).values()) or train.get("rows", 0)
    trained = share(train.get("trained_tokens"), train.get("tokens"))
    steps = counted(facts.get("steps_per_epoch", 0), "step")
    return f"{counted(rows, 'row')}{packed} → {steps}/epoch; loss on {trained} of tokens"


def length_table(facts: Mapping[str, Any]) -> list[str]:
    """Tokens of a row, by source, and what `max_length` cut."""
    head = ["label", "mean", "p50", "p90", "p99", "max", "cut", "tokens cut", "loss on"]
    return table([head, *lengths(facts)], right=frozenset(range(1, 9))).splitlines()


def steps_line(facts: Mapping[str, Any]) -> str:
    """Steps in all and tokens in each."""
    steps, each = facts.get("max_steps", 0), facts.get("tokens_per_step", 0)
    fillers = train_facts(facts).get("fillers", 0)
    filled = f" · {counted(fillers, 'empty row')} to fill the last batch" if fillers else ""
    return f"{counted(steps, 'step')} of about {each:,} tokens{filled}"


def work_line(facts: Mapping[str, Any]) -> str:
    """What was done for it, and what had been done before."""
    work = facts.get("work") or {}
    if work.get("from_cache"):
        return f"taken from the cache in {_seconds(work.get('seconds'))}"
    rows, reused = work.get("tokenized_rows", 0), work.get("reused_rows", 0)
    made = f"{counted(rows, 'row')}, {count(work.get('tokenized_tokens', 0))} tokens in {_seconds(work.get('seconds'))}"
    many = work.get("processes", 1)
    by = f" by {many} process{'es' if many != 1 else ''}"
    return made + by + (f"; {counted(reused, 'row')} tokenised before" if reused else "")


def screen(facts: Mapping[str, Any], *, more: Sequence[tuple[str, Sequence[str]]], following: Sequence[str]) -> str:
    """All of it as titled sections: data, steps, `more`, warnings, and what to type next."""
    sections = [
        ("DATA", data_table(facts)),
        ("STEPS", [steps_line(facts)]),
        *more,
        *(("WARN", [warning]) for warning in facts.get("warnings") or ()),
        ("NEXT", list(following)),
    ]
    return "\n".join(line for title, lines in sections for line in section(title, lines))


def section(title: str, lines: Sequence[str]) -> list[str]:
    """Lines below each other behind a title."""
    return [f"{(title if number == 0 else '').ljust(_INDENT)}{line}".rstrip() for number, line in enumerate(lines)]


def mixture(facts: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    """Label → what a training source gives to one pass."""
    return dict((facts.get("mixture") or {}).get("sources") or {})


def train_facts(facts: Mapping[str, Any]) -> Mapping[str, Any]:
    """The training set in `data.json`."""
    return dict((facts.get("sets") or {}).get("train") or {})


def eval_sets(facts: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    """Label → eval set in `data.json`."""
    sets = facts.get("sets") or {}
    return {name.removeprefix("eval-"): each for name, each in sets.items() if name.startswith("eval-")}


def left_out(source: Mapping[str, Any]) -> list[tuple[str, int]]:
    """What rows of a source were left out for, and how many; nothing that is zero."""
    return [(what, source[key]) for key, what in _LEFT_OUT if source.get(key)]


def percent(value: float | None, digits: int = 0) -> str:
    """A share in percent; what is little, but not nothing, is not shown as nothing, nor almost all as all."""
    if value is None:
        return "-"
    step = 10.0**-digits
    shown = 100 * value
    if 0 < shown < step / 2:
        return f"<{step:.{digits}f} %"
    if 100 - step / 2 <= shown < 100:
        return f">{100 - step:.{digits}f} %"
    return f"{shown:.{digits}f} %"


def share(part: float | None, whole: float | None, digits: int = 0) -> str:
    """`part` of `whole` in percent; `-` where there is no whole."""
    return "-" if part is None or not whole else percent(part / whole, digits)


def epochs(value: float) -> str:
    """How often a pass goes through a source: `1.00`, `0.003`."""
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def _sources(facts: Mapping[str, Any]) -> list[str]:
    lines = [["label", "rows", "tokens", "share (asked)", "epochs", "cut", ""]]
    sources = facts.get("sources") or {}
    for label, part in mixture(facts).items():
        source = sources.get(label) or {}
        asked = "" if part.get("asked") is None else f" ({100 * part['asked']:.3g})"
        lines.append(
            [label, f"{part['rows']:,}", count(part["tokens"]), percent(part["share"], 1) + asked, epochs(part["epochs"]),
             share(source.get("cut", 0), source.get("rows"), 1), _remark(part, source)]
        )  # fmt: skip
    for label, each in eval_sets(facts).items():
        lines.append(
            [label, f"{each.get('rows', 0):,}", count(each.get("tokens", 0)), "measured", "-", "-", "never trained"]
        )
    return table(lines, right=frozenset({1, 2, 4, 5})).splitlines()


def _remark(part: Mapping[str, Any], source: Mapping[str, Any]) -> str:
    lost = source.get("lost_end", 0)
    parts = [
        f"{lost:,} answer{'s' if lost != 1 else ''} without end" if lost else "",
        f"no row more than {part['max_epochs']:g} times" if part["epochs"] >= part["max_epochs"] > 1 else "",
    ]
    return ", ".join(part for part in parts if part)


def _removed(facts: Mapping[str, Any]) -> Iterator[str]:
    for label, source in (facts.get("sources") or {}).items():
        if found := [f"{number:,} {what}" for what, number in left_out(source)]:
            yield f"of {counted(source.get('read', 0), 'row')} of {label}, left out: {', '.join(found)}"


def _ended_by(facts: Mapping[str, Any]) -> Iterator[str]:
    label = (facts.get("mixture") or {}).get("limited_by")
    if label is not None:
        yield f"one pass ends where {label} does"


def lengths(facts: Mapping[str, Any]) -> Iterator[list[str]]:
    """Of each source: label, mean, p50, p90, p99, max, rows cut, tokens cut, share of tokens with loss."""
    for label, source in (facts.get("sources") or {}).items():
        found = source.get("lengths") or {}
        part = mixture(facts).get(label) or {}
        measured = eval_sets(facts).get(label)
        trained = measured or {"trained_tokens": source.get("trained_tokens"), "tokens": part.get("tokens")}
        figures = [f"{found.get(key, 0):,.0f}" for key in ("mean", "p50", "p90", "p99", "max")]
        cut = [f"{source.get('cut', 0):,}", f"{source.get('cut_tokens', 0):,}"]
        yield [label, *figures, *cut, share(trained.get("trained_tokens"), trained.get("tokens"))]


def _seconds(value: float | None) -> str:
    if value is None:
        return "?"
    return f"{value:.1f} s" if value < 60 else duration(value)
