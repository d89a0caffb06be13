"""`launcher inspect RECIPE|RUN`: read the rows that will be trained."""

from __future__ import annotations

import json
import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from launcher.cli import choosing, screens
from launcher.cli.look import look
from launcher.cluster.load import load_cluster
from launcher.errors import Exit, UsageError
from launcher.executors import sample
from launcher.executors.pick import Pick
from launcher.render import data_text, inspect_text
from launcher.render.inspect_text import Piece
from launcher.runs import names
from launcher.runs.files import read_json, write_text

_STYLES = {"title": "bold", "border": "cyan", "trained": "bold green", "masked": "dim", "note": "yellow"}


def run(args: Namespace) -> int:
    """Prepare the data when that is needed, then show some rows of each source and what they amount to."""
    return choosing.go(args, load_cluster("local", on=args.on), lambda picked: _go(picked, args))


def _go(picked: Pick, args: Namespace) -> Exit:
    run_dir = picked.run_dir
    if args.html and Path(args.html).is_dir():
        raise UsageError(f"{args.html} is a folder", hint=f"name a file: `--html {Path(args.html) / 'inspect.html'}`")
    code = choosing.make_data(picked)
    if code is None or code != Exit.DONE:
        print(screens.run_screen(look(run_dir)))
        return code or Exit.DONE
    found = sample.rows(run_dir, number=args.rows, source=args.source)
    facts = read_json(run_dir.data_facts) or {}
    if args.json:
        print(json.dumps({"run": str(run_dir.root), "data": facts, **found}, indent=1, ensure_ascii=False))
    elif args.html is not None:
        from launcher.render.inspect_page import html

        page = Path(args.html) if args.html else run_dir.inspect_page
        write_text(page, html(run_dir, found))
        print(names.short(page))
    else:
        _show(list(inspect_text.pieces(found, full=args.full)))
        following = screens.trains(picked.action, args, run_dir)
        print(data_text.screen(facts, more=inspect_text.figures(facts), following=[following]))
    return code


def _show(parts: Sequence[Piece]) -> None:
    """The rows in colour on a terminal; anywhere else with marks that can be copied and searched."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        print(inspect_text.plain([("note", "trained tokens stand in ⟦ ⟧\n\n"), *parts]), end="")
        return
    from rich.console import Console
    from rich.text import Text

    shown = Text("trained tokens are bold and green\n\n", style="dim")
    for kind, text in parts:
        shown.append(text, style=f"not dim {_STYLES[kind]}" if kind != "masked" else "dim")
    Console(highlight=False).print(shown, soft_wrap=True, end="")
