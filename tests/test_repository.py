"""The repository keeps what it promises: versions agree, links lead somewhere, no shell is ever used."""

import re
import tomllib
from pathlib import Path

from launcher.version import VERSION

ROOT = Path(__file__).parent.parent


def tracked(pattern: str) -> list[Path]:
    hidden = {".venv", ".git", "runs", "build", "dist", "node_modules"}
    return [path for path in ROOT.rglob(pattern) if not hidden & set(path.relative_to(ROOT).parts)]


def test_the_version_is_written_alike_in_both_places():
    """`launcher --version` reads a constant, so that start-up does not search the installed packages."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert project["version"] == VERSION


def test_exact_pins_agree_with_the_constraints_file():
    """The extras pin what was tested; a constraint that says otherwise would make them impossible to install."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    constraints = set((ROOT / "constraints.txt").read_text().split())
    pins = {entry for entries in extras.values() for entry in entries if "==" in entry}
    named = {line.split("==")[0] for line in constraints if "==" in line}

    assert {pin for pin in pins if pin.split("==")[0] in named} <= constraints


def test_links_between_pages_lead_to_files():
    """A page that moved leaves dead links behind."""
    links = [
        (page, to) for page in tracked("*.md") for to in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    ]
    inside = [(page, to) for page, to in links if not re.match(r"[a-z]+:", to)]
    dead = [f"{page.relative_to(ROOT)}: {to}" for page, to in inside if not (page.parent / to).exists()]

    assert dead == []


def test_no_code_of_ours_goes_through_a_shell():
    """A value from a recipe that reaches a shell is code execution."""
    forbidden = re.compile(r"shell\s*=\s*True|os\.system\(|os\.popen\(|subprocess\.getoutput|(?<!\.)\b(?:eval|exec)\(")
    found = [path.name for path in tracked("*.py") if "launcher" in path.parts and forbidden.search(path.read_text())]

    assert found == []


def test_no_call_of_ours_trusts_remote_code_by_itself():
    """Running a model's own Python is the user's decision; a literal True in our code would take it from them."""
    found = [
        p.name for p in (ROOT / "launcher").rglob("*.py") if re.search(r"trust_remote_code\s*=\s*True", p.read_text())
    ]

    assert found == []
