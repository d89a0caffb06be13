"""Folders that people read and copy: in the repository, or inside the installed package."""

from pathlib import Path
from typing import Literal

_PACKAGE = Path(__file__).parent.parent


def shipped(kind: Literal["recipes", "slurm", "accelerate_configs"]) -> Path:
    """The folder KIND: `launcher/shipped/KIND` of an installed wheel, else the one at the top of the repository."""
    installed = _PACKAGE / "shipped" / kind
    return installed if installed.is_dir() else _PACKAGE.parent / kind
