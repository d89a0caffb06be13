"""Words and numbers for people: did-you-mean, units, tables. A leaf: imports nothing of ours."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

SECRET = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{20,}|sk-(?=[A-Za-z_-]*[0-9])[A-Za-z0-9_-]{20,}|AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{20,}"
    r"|github_pat_[A-Za-z0-9_]{20,}|glpat-[A-Za-z0-9_-]{16,}|xox[abprs]-[A-Za-z0-9-]{10,})"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)
"""Literal credentials, by the prefixes their issuers give them."""


def redact(text: str) -> str:
    """The text with every literal credential cut to its first three characters."""
    return SECRET.sub(lambda found: f"{found.group()[:3]}…", text)


def visible(text: str) -> str:
    """The text with control characters, which would steer a terminal, as escapes; lines and tabs stay."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def quote(text: str, *, width: int = 60) -> str:
    """A value as shown in a message: in backticks, on one line, shortened, without credentials."""
    safe = redact(text).encode("unicode_escape").decode("ascii") if not text.isprintable() else redact(text)
    return f"`{safe[: width - 1]}…`" if len(safe) > width else f"`{safe}`"


def did_you_mean(word: str, choices: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """The choice nearest to `word`, or None when nothing is near.

    Nearness is 1 - (edits / length of the longer word), where an edit adds, drops, changes or swaps letters
    (Damerau, 1964); a shared beginning breaks ties, and a choice that `word` merely shortens counts as near.
    """
    ranked = sorted(((_nearness(word.lower(), each.lower()), each) for each in choices), key=lambda pair: -pair[0])
    return ranked[0][1] if ranked and ranked[0][0] >= cutoff else None


def nearest_of(word: str, choices: Iterable[str], listed: str) -> str:
    """A hint: the nearest choice, when one is near, before the sentence that lists them."""
    near = did_you_mean(word, choices)
    return f"did you mean `{near}`? {listed[0].upper()}{listed[1:]}" if near else listed


def _nearness(word: str, choice: str) -> float:
    plain_word, plain_choice = (re.sub(r"[-_ .]", "", each) for each in (word, choice))
    if plain_word == plain_choice:
        return 1.0
    longest = max(len(word), len(choice), 1)
    shared = 0
    while shared < min(len(word), len(choice)) and word[shared] == choice[shared]:
        shared += 1
    score = 1 - edits(word, choice) / longest
    if min(len(plain_word), len(plain_choice)) >= 4 and (
        plain_choice.startswith(plain_word) or plain_word.startswith(plain_choice)
    ):
        score = max(score, 0.7)
    return min(score + 0.05 * shared / longest, 0.99)


def edits(one: str, two: str) -> int:
    """Fewest letters to add, drop, change or swap with their neighbour to turn `one` into `two`."""
    before: list[int] = []
    above = list(range(len(two) + 1))
    for i, letter in enumerate(one):
        row = [i + 1]
        for j, other in enumerate(two):
            best = min(above[j + 1] + 1, row[j] + 1, above[j] + (letter != other))
            if i and j and letter == two[j - 1] and one[i - 1] == other:
                best = min(best, before[j - 1] + 1)
            row.append(best)
        before, above = above, row
    return above[-1]


def count(number: float) -> str:
    """A count, short: 12345 → `12.3k`, 2500000 → `2.50M`."""
    for limit, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= limit:
            value = number / limit
            return f"{value:.0f}{unit}" if value >= 100 else f"{value:.3g}{unit}"
    return f"{number:.3g}"


def flops(number: float) -> str:
    """Floating-point operations: `485 GFLOP`, `3.25 TFLOP`."""
    short = count(number)
    prefix = {"T": "T", "B": "G", "M": "M", "k": "k"}.get(short[-1], "")
    return f"{short.rstrip('TBMk')} {prefix}FLOP"


def counted(number: int, word: str) -> str:
    """A number with its word: `1 row`, `2,500 rows`."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"


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
