"""Words and numbers for people: did-you-mean, units, tables. A leaf: imports nothing of ours."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


def did_you_mean(word: str, choices: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """The choice nearest to `word`, or None when nothing is near."""
    found = difflib.get_close_matches(word, list(choices), n=1, cutoff=cutoff)
    return found[0] if found else None


def count(number: float) -> str:
    """A count, short: 12345 → `12.3k`, 2500000 → `2.50M`."""
    for limit, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= limit:
            value = number / limit
            return f"{value:.0f}{unit}" if value >= 100 else f"{value:.3g}{unit}"
    return f"{number:g}"


def gib(size_bytes: float) -> str:
    """Bytes as GiB or MiB: `15.6 GiB`, `3.2 MiB`."""
    size_gib = size_bytes / 2**30
    return f"{size_gib:.1f} GiB" if size_gib >= 0.1 else f"{size_bytes / 2**20:.1f} MiB"


def duration(seconds: float) -> str:
    """A time span in its two largest units: `58 min`, `25 h 24 min`, `12 s`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min" if whole >= 600 else f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def table(rows: Sequence[Sequence[str]], *, right: frozenset[int] = frozenset()) -> str:
    """Rows as aligned columns, two blanks apart; columns in `right` are right-aligned."""
    widths = [max(len(row[i]) for row in rows if i < len(row)) for i in range(max(map(len, rows)))]
    lines = (
        "  ".join(cell.rjust(widths[i]) if i in right else cell.ljust(widths[i]) for i, cell in enumerate(row))
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)
