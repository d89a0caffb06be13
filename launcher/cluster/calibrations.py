"""What `launcher calibrate` has learned, one file per kind of device: `~/.config/launcher/calibration/DEVICE.yaml`.

A file holds what each run measured beside what the formulas had predicted for it, never the figures made of that: those are
made when it is read, so that a run counts once and one that is taken out is forgotten.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path

from pydantic import Field, ValidationError

from launcher.catalog.gpus import gpu, is_gpu
from launcher.cluster.profiles import own_folder
from launcher.cluster.schema import Cluster
from launcher.errors import Place, RecipeError, RecipeErrors
from launcher.predict.calibration import Calibration, Point, learn
from launcher.recipe import yaml
from launcher.recipe.nodes import Table
from launcher.recipe.patterns import ONE_LINE
from launcher.recipe.schema_walk import values
from launcher.recipe.section import Section
from launcher.runs.files import write_text
from launcher.runs.machine import processor
from launcher.version import VERSION

MOST_RUNS = 50
"""The newest of them; a file is read each time something is planned."""
_ANEW = "`launcher calibrate` writes it from the runs; delete it to plan by the formulas alone"


class _Run(Section):
    """One run: what it measured, beside what the formulas had predicted for it."""

    run: str = Field(pattern=ONE_LINE)
    name: str = Field(pattern=ONE_LINE)
    precision: str = Field(pattern=ONE_LINE)
    step_s: float | None = Field(None, gt=0)
    predicted_s: float | None = Field(None, gt=0)
    flops: float | None = Field(None, gt=0)
    allocated: int | None = Field(None, ge=0)
    reserved: int | None = Field(None, ge=0)
    outside: int | None = Field(None, ge=0)
    counted: int | None = Field(None, ge=0)
    dynamic: int | None = Field(None, ge=0)


class _File(Section):
    """One kind of device."""

    device: str = Field(pattern=ONE_LINE)
    launcher: str = Field(pattern=ONE_LINE)
    runs: tuple[_Run, ...] = ()


def folder() -> Path:
    """Beside the cluster profiles of one's own: `~/.config/launcher/calibration`."""
    return own_folder().parent / "calibration"


def path_of(device: str) -> Path:
    """The file of one kind of device, whether or not it is there."""
    return folder() / f"{re.sub(r'[^A-Za-z0-9._-]+', '-', device).strip('-.')}.yaml"


def device_of(name: str) -> str:
    """A device as it is called here: a GPU by the catalogue's name where it is known."""
    return gpu(name).name if is_gpu(name) else name.removeprefix("NVIDIA ").removeprefix("GeForce ")


def device_in(cluster: Cluster) -> str | None:
    """What a cluster computes on; None where its processor is not this machine's, and not known."""
    if cluster.gpu is not None:
        return device_of(cluster.gpu.name)
    return processor() if cluster.here and cluster.site is None else None


def attached(cluster: Cluster) -> Cluster:
    """The cluster with what its runs have taught, where there is a file.

    Raises:
        RecipeErrors: the file is damaged; each fault with its line.
    """
    device = device_in(cluster)
    points, note = known(device) if device else ((), None)
    noted = replace(cluster, notes=(*cluster.notes, note)) if note else cluster
    return replace(noted, calibration=learn(device, points)) if device and points else noted


def known(device: str) -> tuple[tuple[Point, ...], str | None]:
    """The runs in a device's file; and what is to be known about the file, in one sentence.

    Raises:
        RecipeErrors: the file is damaged; each fault with its line.
    """
    path = path_of(device)
    if not path.is_file():
        return (), None
    found = _read(path)
    if found.launcher != VERSION:
        said = f"{path} is by launcher {found.launcher}, whose formulas may be others: not used; `launcher calibrate` renews it"
        return (), said
    return tuple(Point(**each.model_dump()) for each in found.runs), None


def read(device: str) -> Calibration | None:
    """What the runs on a device have taught; None without a file.

    Raises:
        RecipeErrors: the file is damaged; each fault with its line.
    """
    points, _ = known(device)
    return learn(device, points) if points else None


def write(device: str, points: Sequence[Point]) -> Path:
    """Replace the file of a device; of more than 50 runs the newest stay. Returns where it is."""
    path = path_of(device)
    path.parent.mkdir(parents=True, exist_ok=True)
    head = [
        "# What runs on this device measured, beside what the formulas predicted for them; `launcher calibrate` writes it.",
        "# A line that is taken out is forgotten. Bytes of one rank, seconds of one step.",
        f"device: {json.dumps(device)}",
        f"launcher: {json.dumps(VERSION)}",
        "runs:",
    ]
    write_text(path, "\n".join([*head, *map(_line, points[-MOST_RUNS:])]) + "\n")
    return path


def _line(point: Point) -> str:
    told = {name: value for name, value in asdict(point).items() if value is not None}
    return "  - {" + ", ".join(f"{name}: {json.dumps(told[name])}" for name in _ORDER if name in told) + "}"


_ORDER = tuple(each.name for each in fields(Point))


def _read(path: Path) -> _File:
    shown = str(path)
    try:
        tree = yaml.read_text(yaml.decode(path.read_bytes(), shown), shown, start=_ANEW)
    except OSError as error:
        raise RecipeErrors([RecipeError(f"cannot be read: {error.strerror}", place=Place(shown))]) from None
    except RecipeError as error:
        raise RecipeErrors([error]) from None
    if not isinstance(tree, Table):
        raise RecipeErrors([RecipeError("a calibration is a mapping", place=tree.place, hint=_ANEW)])
    try:
        return _File.model_validate_json(json.dumps(values(tree, _File)))
    except ValidationError as error:
        from launcher.recipe import faults

        wrong = dict(faults.from_pydantic(error, tree, _File)).values()
        for each in wrong:
            each.hint = each.hint or _ANEW
        raise RecipeErrors(list(wrong)) from None
