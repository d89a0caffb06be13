"""The page of the compatibility table: every cell, and why it is refused where it is."""

from __future__ import annotations

from collections.abc import Iterator

from launcher.plan import compatibility
from launcher.plan.compatibility import FEATURES, METHODS, OFFLOADS, OPTIMIZER_ROWS, ROWS, STRATEGIES, Cell, Row

_HEAD = """\
<!-- Generated from launcher/plan/compatibility.py by `make golden`; do not edit. -->
# Sharding × method × offload

`works`: a test trains it on CPU ranks, kills it, goes on, goes on on another number of ranks, and loads the result without
launcher (`make test-sharding`). `needs GPU`: `tests/gpu` runs it where there is one. A number leads to the reason for a refusal.
"""
_RESUME = """\
## Going on

The same number of ranks goes on to the bit, under every strategy.

| strategy | ranks | on another number of ranks | by |
|---|---|---|---|
"""
_BY = {
    "ddp": "each rank reads the whole checkpoint",
    "fsdp2": "torch's distributed checkpoint, in parts",
    "fsdp2 hybrid": "torch's distributed checkpoint; also as plain fsdp2, and back",
    "zero1": "DeepSpeed's universal checkpoint, converted by rank 0 into a copy",
    "zero2": "DeepSpeed's universal checkpoint, converted by rank 0 into a copy",
    "zero3": "",
}


def page() -> str:
    """The page as Markdown."""
    refused = [row for row in ROWS if row.verdict != "works"]
    lines = [_HEAD, f"| strategy | offload | {' | '.join(METHODS)} |", "|---|---|" + "---|" * len(METHODS)]
    for strategy in STRATEGIES:
        for offload in OFFLOADS:
            words = [_word(Cell(strategy, offload, method), refused) for method in METHODS]
            lines.append(f"| {strategy} | {offload} | {' | '.join(words)} |")
    return (
        "\n".join(
            [*lines, "", "## Reasons", "", *_reasons(refused), "", _RESUME + "\n".join(_resume()), "", *_others()]
        )
        + "\n"
    )


def _word(cell: Cell, refused: list[Row]) -> str:
    row = compatibility.row(cell)
    return compatibility.verdict(cell) + (f" [{refused.index(row) + 1}]" if row else "")


def _reasons(refused: list[Row]) -> Iterator[str]:
    for number, row in enumerate(refused, 1):
        hint = f" Instead: {row.hint}." if row.hint else ""
        yield f"{number}. `{row.key}`: {row.reason}.{hint} ({row.source})"


def _others() -> Iterator[str]:
    yield "## Optimizers and adapters that a strategy cannot run"
    yield ""
    yield "All others of `training.optim` and `peft` run under it."
    yield ""
    yield "| strategy | what | why |"
    yield "|---|---|---|"
    for row in OPTIMIZER_ROWS:
        yield f"| {', '.join(row.strategies)} | `{'`, `'.join(sorted(row.names))}` | {row.reason} ({row.source}) |"
    for each in FEATURES:
        reason = each.reason.format(strategy=" and ".join(each.strategies))
        yield f"| {', '.join(each.strategies)} | {each.name} (`{each.key}`) | {reason} ({each.source}) |"


def _resume() -> Iterator[str]:
    for strategy in STRATEGIES:
        why = compatibility.elsewhere(strategy)
        fewest = compatibility.fewest_ranks(strategy)
        yield f"| {strategy} | {fewest} and more | {f'refused: {why}' if why else 'works'} | {_BY[strategy]} |"
