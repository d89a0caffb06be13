"""Screens of `launcher plan` that stand in pages: `python -m tests.plan.screens` types their commands and writes what comes.

A screen is a comment and a block: `<!-- screen FITS TIME -->` keeps these sections, `<!-- screen 7 -->` so many lines.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from collections.abc import Iterator
from unittest import mock

from launcher.cli import output
from launcher.cli.main import main as launcher
from tests.plan import fits

PAGES = (fits.ROOT / "README.md", fits.ROOT / "docs" / "planner.md")
SCREEN = re.compile(
    r"(<!-- screen (?P<what>[A-Z0-9 ]+) -->\n```console\n\$ launcher (?P<line>plan .*)\n)(?P<shown>(?:.*\n)*?)```\n"
)
_TITLE = re.compile(r"[A-Z][A-Z ]* ")
_WIDTH = 118


def main() -> None:
    """Renew the pages."""
    with fits.anywhere():
        for page in PAGES:
            page.write_text(renewed(page.read_text(encoding="utf-8")), encoding="utf-8")


def renewed(text: str) -> str:
    """A page with its screens as the commands print them now."""
    return SCREEN.sub(lambda found: f"{found[1]}{shown(found['line'], found['what'])}```\n", text)


def shown(line: str, what: str) -> str:
    """What a command prints, as far as the page wants it; an ellipsis stands for the rest."""
    answer = io.StringIO()
    wide = mock.patch.object(output, "width", return_value=_WIDTH)
    with contextlib.chdir(fits.ROOT), wide, contextlib.redirect_stdout(answer):
        launcher(shlex.split(line))
    lines = answer.getvalue().splitlines()
    kept = [*lines[: int(what)], "…", *lines[-2:]] if what.isdecimal() else list(_sections(lines, what))
    return "".join(f"{each}\n" for each in kept)


def _sections(lines: list[str], wanted: str) -> Iterator[str]:
    keep, left_out = True, False
    for each in lines:
        if title := _TITLE.match(each):
            keep = f" {title[0].strip()} " in f" {wanted} "
        if keep:
            yield from (["…"] if left_out else [])
            yield each
        left_out = not keep


if __name__ == "__main__":
    main()
