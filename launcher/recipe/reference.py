"""The reference pages in `docs/reference`: `python -m launcher.recipe.reference` writes them, a test keeps them current."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic.fields import FieldInfo

from launcher.recipe import dialects, docs, trainer
from launcher.recipe.defaults import DIFFERENCES
from launcher.recipe.describe import entry_of, item_section_of, keys_of, section_of
from launcher.recipe.dialect import Row
from launcher.recipe.ownership import OWNED
from launcher.recipe.schema import Recipe
from launcher.recipe.section import Section

FOLDER = Path(__file__).parent.parent.parent / "docs" / "reference"
_MADE = "<!-- Made by `python -m launcher.recipe.reference` from the schema; edit the docstrings there. -->"


def pages() -> dict[str, str]:
    """File name → text of every page."""
    return {
        "recipe.md": _recipe(),
        "defaults.md": _defaults(),
        "other-tools.md": _dialects(),
        "recipe.schema.json": _schema(),
    }


def _schema() -> str:
    from launcher.recipe.json_schema import schema

    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


def _recipe() -> str:
    parts = [
        "# Every key of a recipe",
        _MADE,
        "`launcher explain KEY` prints the same on the command line.",
        section_table("The top", Recipe, ""),
    ]
    for key, field in keys_of(Recipe).items():
        section = section_of(field.annotation)
        if section:
            parts.append(section_table(f"`{key}`", section, f"{key}."))
            parts += inner(section, f"{key}.")
        if key == "training":
            parts += [_passed_on(), _owned()]
    return "\n\n".join(parts) + "\n"


def inner(section: type[Section], prefix: str) -> list[str]:
    """The tables of all sections in a section; items of lists as `[]`, entries by name as `NAME`."""
    parts = []
    for key, field in keys_of(section).items():
        below, suffix = _held(field)
        if below:
            name = f"{prefix}{key}{suffix}"
            parts += [section_table(f"`{name}`", below, f"{name}."), *inner(below, f"{name}.")]
    return parts


def _held(field: FieldInfo) -> tuple[type[Section] | None, str]:
    """The section that a key holds, and what stands for one of several."""
    if items := item_section_of(field.annotation):
        return items, "[]"
    entry = entry_of(field.annotation)
    if entry and (named := section_of(entry.annotation)):
        return named, ".NAME"
    return section_of(field.annotation), ""


def section_table(title: str, section: type[Section], prefix: str) -> str:
    """One section as a heading, its docstring and a table of its keys."""
    texts = docs.field_docs(section)
    rows = [_row(key, field, texts[key]) for key, field in keys_of(section).items()]
    summary = " ".join((section.__doc__ or "").split("\n\n")[0].split())
    level = "##" if prefix.count(".") < 2 else "###"
    return "\n".join(
        [f"{level} {title}", "", summary, "", "| key | what | accepts | default |", "|---|---|---|---|", *rows]
    )


def _row(key: str, field: FieldInfo, text: str) -> str:
    accepts = "see below" if _held(field)[0] else docs.accepted(field)
    return f"| `{key}` | {cell(text)} | {cell(accepts)} | {cell(docs.default_words(field))} |"


def cell(text: str) -> str:
    """The text as it stands in a table."""
    return text.replace("|", "\\|")


def _passed_on() -> str:
    version = trainer.schema()["versions"]["trl"]
    lines = [
        "### Passed on to SFTConfig",
        "",
        f"Names, types and defaults of TRL {version}; they reach the trainer as they are.",
        "",
        "| key | accepts | default |",
        "|---|---|---|",
    ]
    return "\n".join(
        [
            *lines,
            *(f"| `{name}` | {field.expects()} | `{field.default!r}` |" for name, field in trainer.passed_on().items()),
        ]
    )


def _owned() -> str:
    lines = ["### Names of SFTConfig that another section owns", "", "| name | owner | instead |", "|---|---|---|"]
    return "\n".join(
        [
            *lines,
            *(
                f"| `{name}` | {owner} | {cell(text)} |"
                for owner, names in OWNED.items()
                for name, text in names.items()
            ),
        ]
    )


def _defaults() -> str:
    lines = [
        "# Defaults that differ from the library's",
        "",
        _MADE,
        "",
        "| key | here | library | there | why |",
        "|---|---|---|---|---|",
        *(
            f"| `{each.key}` | `{each.ours}` | {each.library} | `{each.theirs}` | {each.reason} |"
            for each in DIFFERENCES
        ),
    ]
    return "\n".join(lines) + "\n"


def _dialects() -> str:
    lines = [
        "# Names of other tools",
        "",
        _MADE,
        "",
        "`launcher validate` prints the line to write, and `launcher validate --fix` writes it.",
        "",
        "| name | of | write |",
        "|---|---|---|",
        *(f"| `{name}` | {row.tools} | {cell(_instead(row))} |" for name, row in sorted(dialects.ROWS.items())),
        "",
        "In an item of `data.datasets`:",
        "",
        "| name | of | write |",
        "|---|---|---|",
        *(f"| `{name}` | {row.tools} | {cell(_instead(row))} |" for name, row in sorted(dialects.ITEM_ROWS.items())),
    ]
    return "\n".join(lines) + "\n"


def _instead(row: Row) -> str:
    found = []
    for write in (row.write, row.item):
        if isinstance(write, dict):
            found += [f"{value}: `{line}`" for value, line in write.items()]
        elif write:
            found.append(f"`{write}`" + (" in the item" if write == row.item else ""))
    return "; ".join([*found, *([row.note] if row.note else [])])


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
