"""`inspect.html`: the data of a run on one page, complete in itself: figures, plots, and rows with what is trained marked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from launcher.errors import EnvironmentFault
from launcher.render import data_page, data_text, inspect_text
from launcher.render.data_page import Data
from launcher.render.inspect_text import visible
from launcher.runs import names
from launcher.runs.files import read_json
from launcher.runs.paths import RunDir
from launcher.text import count


@dataclass(frozen=True)
class Example:
    """One example of a row: what stands at its border (empty where the row is one example), and its text in pieces."""

    border: str
    pieces: list[tuple[bool, str]]


@dataclass(frozen=True)
class Row:
    """One row to read."""

    title: str
    examples: list[Example]


@dataclass(frozen=True)
class Page:
    """All that the template shows."""

    name: str
    verdict: tuple[str, str]
    """A word, and the kind that chooses its colour."""
    sentence: str
    figures: list[tuple[str, str]]
    data: Data
    groups: dict[str, list[Row]]
    notes: list[str]
    commands: list[tuple[str, str]]


def html(run_dir: RunDir, found: Mapping[str, Any]) -> str:
    """The page as text.

    Args:
        run_dir: a run whose data is prepared.
        found: rows, as `launcher.worker.data.look` finds them.

    Raises:
        EnvironmentFault: the data was prepared by a launcher that knew less.
    """
    found_data = data_page.data(run_dir)
    if found_data is None:
        raise EnvironmentFault(f"{run_dir.data_facts} has no figures of the mixture", hint="remove it and prepare anew")
    page = _page(run_dir, found_data, found)
    return data_page.environment().get_template("inspect.html.j2").render(page=page)


def _page(run_dir: RunDir, data: Data, found: Mapping[str, Any]) -> Page:
    facts = read_json(run_dir.data_facts) or {}
    groups: dict[str, list[Row]] = {}
    for row in found["rows"]:
        groups.setdefault(_group(row), []).append(Row(inspect_text.title(row), list(_examples(row))))
    many = len(data.warnings)
    warned = (f"{many} warning{'s' if many != 1 else ''}", "open")
    name = names.typed(run_dir)
    return Page(
        name=run_dir.name,
        verdict=warned if many else ("ready", "good"),
        sentence=data.headline,
        figures=list(_figures(facts)),
        data=data,
        groups=groups,
        notes=list(found["notes"]),
        commands=[
            (f"launcher run {name}", "train on it"),
            (f"launcher inspect {name} --source LABEL --rows 20", "read more rows"),
        ],
    )


def _group(row: Mapping[str, Any]) -> str:
    label = row["source"] or "training rows"
    return f"{label} (measured, never trained)" if row["set"] != "train" else str(label)


def _examples(row: Mapping[str, Any]) -> Iterator[Example]:
    for number, example in enumerate(row["examples"]):
        border = inspect_text.border(number, example, len(row["examples"])) if len(row["examples"]) > 1 else ""
        yield Example(border, [(bool(trained), visible(text)) for trained, text in example["segments"]])


def _figures(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    train = data_text.train_facts(facts)
    yield "rows", f"{sum(part['rows'] for part in data_text.mixture(facts).values()):,}"
    if train.get("packing"):
        yield "packed rows (full)", f"{train['rows']:,} ({data_text.percent(train['fill'], 1)})"
    yield "tokens per epoch", count(train["tokens"])
    yield (
        "trained tokens",
        f"{count(train['trained_tokens'])} ({data_text.share(train['trained_tokens'], train['tokens'])})",
    )
    yield "steps (per epoch)", f"{facts.get('max_steps', 0):,} ({facts.get('steps_per_epoch', 0):,})"
    yield "tokens per step", f"{facts.get('tokens_per_step', 0):,}"
