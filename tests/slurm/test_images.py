"""The images: both from one list of files and one script, which installs the project at the tested versions and nothing else."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
IMAGES = ROOT / "slurm" / "containers"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DOCKERFILE, DEFINITION = (IMAGES / "Dockerfile").read_text(), (IMAGES / "launcher.def").read_text()
WITH_THE_OTHERS = {"numpy", "pyarrow"}
"""Pinned, and required by libraries that we name."""
BESIDE = {"python", "-m", "pip", "install", "--no-cache-dir", "-c", "constraints.txt"}


def bare(requirement: str) -> str:
    return re.split(r"[<>=\[;]", requirement)[0].strip()


def installed() -> list[str]:
    """The words of the line that installs."""
    (line,) = [line for line in (IMAGES / "install.sh").read_text().splitlines() if " pip " in line]
    return shlex.split(line)


def extras() -> list[str]:
    (project,) = set(installed()) - BESIDE
    found = re.fullmatch(r"\.\[([a-z,]+)\]", project)
    assert found, project
    return found[1].split(",")


def test_both_images_copy_what_the_package_is_built_from():
    """A folder that the wheel includes and an image lacks would fail after an hour of building."""
    docker = {word for line in re.findall(r"^COPY (.+) \S+$", DOCKERFILE, re.MULTILINE) for word in line.split()}
    section = re.search(r"%files\n(.*?)\n\n", DEFINITION, re.DOTALL)
    assert section
    pairs = [line.split() for line in section[1].splitlines()]
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {"pyproject.toml", "README.md", "LICENSE", "constraints.txt", *wheel["packages"], *wheel["force-include"]}

    assert docker == needed
    assert {name for name, _ in pairs} == needed
    assert all(to == f"/opt/launcher/{name}" for name, to in pairs)
    assert all((ROOT / name).exists() for name in needed)


def test_both_images_begin_alike_and_run_the_same_script():
    """Else they drift apart."""
    docker, definition = (
        re.search(r"^FROM (\S+)$", DOCKERFILE, re.MULTILINE),
        re.search(r"^From: (\S+)$", DEFINITION, re.MULTILINE),
    )

    assert docker and definition
    assert docker[1] == definition[1]
    assert "RUN sh slurm/containers/install.sh" in DOCKERFILE
    assert "sh slurm/containers/install.sh" in DEFINITION
    version = re.search(r"python:(\d+\.\d+)", docker[1])
    assert version
    assert PROJECT["project"]["requires-python"] == f">={version[1]}"


def test_they_install_the_project_at_the_tested_versions_and_nothing_else():
    """No version is written anywhere but in constraints.txt, and each that is written there is used."""
    optional = PROJECT["project"]["optional-dependencies"]
    wanted = {bare(each) for extra in extras() for each in optional[extra]} | {
        bare(each) for each in PROJECT["project"]["dependencies"]
    }
    pins = {bare(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}

    assert set(installed()) >= {"-c", "constraints.txt"}
    assert pins - wanted == WITH_THE_OTHERS
    for text in (DOCKERFILE, DEFINITION, (IMAGES / "install.sh").read_text()):
        assert "==" not in text
        assert text.count("pip install") <= 1
    assert "pip" not in re.sub(r"^#.*$", "", DOCKERFILE + DEFINITION, flags=re.MULTILINE)
