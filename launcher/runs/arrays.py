"""The folder of an array of SLURM: one batch script for many runs, and a link to each of them by its index."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher.runs.paths import RunDir

_HIDDEN = ".arrays"


@dataclass(frozen=True)
class ArrayDir:
    """Every path of one array."""

    root: Path

    @property
    def script(self) -> Path:
        """The batch script, which goes on with that of the run."""
        return self.root / "train.sbatch"

    @property
    def links(self) -> Path:
        """A link to the run directory of each element, named by its index."""
        return self.root / "runs"

    @property
    def submitit(self) -> Path:
        """What submitit keeps of the stages beside the training."""
        return self.root / "submitit"

    def log(self, stage: str) -> str:
        """Where SLURM writes what an element prints: through its link, in the run; `%A` and `%a` are SLURM's."""
        return f"{RunDir(self.links / '%a').job_logs}/{stage}-%A_%a.log"


def create(runs: Path, name: str, key: str, elements: Sequence[RunDir]) -> ArrayDir:
    """Make the folder of an array, with its links.

    Args:
        runs: the folder of the run directories.
        name: of the array, for people.
        key: of its submission, which makes the folder unique.
        elements: its runs, in the order of their indices.

    Raises:
        OSError: it cannot be written.
    """
    array = ArrayDir(runs / _HIDDEN / f"{name}-{key[:8]}")
    array.links.mkdir(parents=True)
    for index, run_dir in enumerate(elements):
        (array.links / str(index)).symlink_to(os.path.relpath(run_dir.root, array.links))
    return array
