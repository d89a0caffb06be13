"""Reads one source: encodes its rows, counts what happened, keeps the faulty ones with place and reason."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from launcher.errors import DataError
from launcher.plan.types import DataPlan, LossOn, SourcePlan
from launcher.recipe.formats import Format
from launcher.worker.data.encode import Encoder, Question
from launcher.worker.data.examples import BadRowError, example, sniff
from launcher.worker.data.rows import Rows
from launcher.worker.data.sources import Raw, read

Progress = Callable[[str], None]
_MOST_BAD_ROWS_LISTED = 1000
_SECONDS_BETWEEN_LINES = 5.0


@dataclass(frozen=True)
class Bad:
    """A row that cannot be used."""

    source: str
    place: str
    reason: str


@dataclass
class Collected:
    """The rows of one source and what was counted while reading it."""

    label: str
    rows: Rows = field(default_factory=Rows)
    truncated: list[bool] = field(default_factory=list)
    questions: list[Question | None] = field(default_factory=list)
    """For each row what to ask, where the set is generated from."""
    bad: list[Bad] = field(default_factory=list)

    def take(self, numbers: list[int]) -> Collected:
        """A part of the rows, with its counts."""
        return Collected(
            self.label,
            self.rows.take(numbers),
            [self.truncated[number] for number in numbers],
            [self.questions[number] for number in numbers],
        )

    def facts(self) -> dict[str, int]:
        """Counts for `data.json`."""
        return {
            "rows": len(self.rows),
            "tokens": len(self.rows.ids),
            "truncated": sum(self.truncated),
            "dropped": len(self.bad),
        }


def loss_rule(plan: DataPlan, layout: Format) -> LossOn:
    """What is trained in rows of one format.

    Raises:
        DataError: the recipe asks for something this format cannot give.
    """
    if plan.loss_on == "auto":
        return layout.default_loss_on
    if plan.loss_on not in layout.allowed_loss_on:
        raise DataError(
            f"`data.loss_on: {plan.loss_on}` is not possible for rows of format `{layout.name}`",
            hint=f"write one of: {', '.join(layout.allowed_loss_on)}",
        )
    return plan.loss_on


def collect(
    source: SourcePlan,
    files: tuple[Path, ...] | None,
    encoder: Encoder,
    plan: DataPlan,
    progress: Progress,
    *,
    ask: bool = False,
) -> Collected:
    """Encode every row of a source. Faulty rows are collected, not raised: `check` decides.

    Raises:
        DataError: the source is empty, or its columns fit no format.
        EnvironmentFault: it cannot be read at all.
    """
    rows = read(source, files)
    first = next(rows, None)
    if first is None:
        raise DataError(f"{_where(source, files)}: no rows (source `{source.label}`)")
    found = Collected(source.label)
    if first.fault:
        found.bad.append(Bad(source.label, first.place, first.fault))
        first = next((row for row in rows if _usable(row, found)), None)
        if first is None:
            return found
    layout = sniff(source, first)
    # Where bad rows are dropped, the rest must still be read.
    most_bad = _MOST_BAD_ROWS_LISTED if plan.on_bad_row == "stop" else math.inf
    rule = loss_rule(plan, layout)
    _encode_all(chain([first], rows), layout, source, encoder, rule, found, progress, ask=ask, most_bad=most_bad)
    return found


def _usable(row: Raw, found: Collected) -> bool:
    if row.fault:
        found.bad.append(Bad(found.label, row.place, row.fault))
    return not row.fault


def _encode_all(
    rows: Iterator[Raw],
    layout: Format,
    source: SourcePlan,
    encoder: Encoder,
    loss_on: LossOn,
    found: Collected,
    progress: Progress,
    *,
    ask: bool,
    most_bad: float,
) -> None:
    said = time.monotonic()
    for row in rows:
        try:
            taken = example(row, layout, source.columns)
            encoded = encoder.encode(taken, loss_on)
            question = encoder.question(taken) if ask else None
        except BadRowError as fault:
            found.bad.append(Bad(source.label, row.place, str(fault)))
            if len(found.bad) >= most_bad:
                break
            continue
        except DataError as fault:
            raise DataError(f"{row.place}: {fault.message}", hint=fault.hint) from None
        found.rows.add(encoded)
        found.truncated.append(encoded.truncated)
        found.questions.append(question)
        if time.monotonic() - said > _SECONDS_BETWEEN_LINES:
            said = time.monotonic()
            progress(f"{source.label}: {len(found.rows)} rows")


def _where(source: SourcePlan, files: tuple[Path, ...] | None) -> str:
    return str(source.path) if files is None else ", ".join(str(file) for file in files) or str(source.path)


def check(found: Collected, plan: DataPlan, report: Path) -> None:
    """Write the faulty rows to `report` (JSON lines) and stop where the recipe says so.

    Raises:
        DataError: `on_bad_row: stop` and a row is bad; or more than `max_bad_fraction` of the source is; or nothing is left.
    """
    if found.bad:
        with report.open("a", encoding="utf-8") as file:
            file.writelines(
                json.dumps({"source": bad.source, "place": bad.place, "reason": bad.reason}, ensure_ascii=False) + "\n"
                for bad in found.bad
            )
    total = len(found.bad) + len(found.rows)
    if found.bad and plan.on_bad_row == "stop":
        raise DataError(_first(found, report), hint="correct the row, or write `data.on_bad_row: drop`")
    if len(found.bad) > plan.max_bad_fraction * total:
        share = len(found.bad) / total
        raise DataError(
            f"{_first(found, report)}: {share:.1%} of source `{found.label}`, `max_bad_fraction` is {plan.max_bad_fraction:.1%}",
            hint="correct the rows; raise `data.max_bad_fraction` only if losing them is meant",
        )
    if not len(found.rows):
        raise DataError(f"{_first(found, report)}: no row of source `{found.label}` is left")


def _first(found: Collected, report: Path) -> str:
    bad = found.bad[0]
    more = f" (and {len(found.bad) - 1} more, see {report.name})" if len(found.bad) > 1 else ""
    return f"{bad.place}: {bad.reason}{more}"
