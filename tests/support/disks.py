"""Small disks of their own for tests: filled, out of inodes, read-only, and mended again."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Disk:
    """A mounted tmpfs."""

    path: Path

    def remount(self, options: str) -> None:
        """Change it while it is in use: `ro`, `rw`, `size=…`. Raises when something is being written this moment."""
        subprocess.run(["mount", "-o", f"remount,{options}", str(self.path)], check=True, capture_output=True)

    def fill(self) -> Path:
        """Take what is free; returns the file that holds it."""
        filler = self.path / "filler"
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(b"\0" * 4096):
                pass
        return filler

    def take_inodes(self) -> Path:
        """Use up the inodes; returns the folder of the files that hold them."""
        folder = self.path / "files"
        folder.mkdir()
        with suppress(OSError):
            for number in range(100_000):
                (folder / str(number)).touch()
        return folder


@contextmanager
def mounted(path: Path, options: str) -> Iterator[Disk]:
    """A tmpfs at `path`; skips the test where nobody may mount one."""
    path.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tests", str(path)], check=False, capture_output=True)
    if done.returncode:
        pytest.skip("this host lets nobody mount a small disk")
    try:
        yield Disk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=False, capture_output=True)
