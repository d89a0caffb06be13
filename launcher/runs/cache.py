"""The data cache: tokenised sources and finished preparations, found by the hash of all that they depend on.

It lies beside the run directories (`RUNS/.cache`, or LAUNCHER_CACHE), so that a run links to it instead of copying.
Any part of it may be deleted at any time: what is missing is made again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from launcher.runs.files import sha256_file, write_text
from launcher.runs.paths import RunDir

_SETTLED_S = 2.0
"""A file changed more recently than this may change again within the same time stamp."""


@dataclass(frozen=True)
class Cache:
    """One cache folder."""

    root: Path

    def source(self, key: str) -> Path:
        """Tokenised rows of one source; `facts.json` in it says that they are complete."""
        return self.root / "sources" / key

    def prepared(self, key: str) -> Path:
        """A finished preparation; it is there as a whole or not at all."""
        return self.root / "prepared" / key

    @contextlib.contextmanager
    def lock(self, key: str, waiting: Callable[[], None]) -> Iterator[None]:
        """Hold the right to make what belongs to `key`; `waiting` is called once when another process holds it.

        In a cache that cannot be written nothing is made, and reading needs no lock.
        """
        path = self.root / "locks" / key
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("w")
        except OSError as fault:
            if fault.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
                raise
            yield
            return
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                waiting()
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def sha256(self, path: Path) -> str:
        """sha256 of a file's bytes; of a file whose size, times and inode are as before, what was found then.

        Raises:
            OSError: the file cannot be read.
        """
        status = path.stat()
        stamp = f"{path.resolve()}\0{status.st_size}\0{status.st_mtime_ns}\0{status.st_ctime_ns}\0{status.st_ino}"
        noted = self.root / "files" / hashlib.sha256(stamp.encode(errors="surrogateescape")).hexdigest()
        with contextlib.suppress(OSError):
            return noted.read_text(encoding="ascii").strip()
        found = sha256_file(path)
        if time.time() - status.st_ctime > _SETTLED_S:
            with contextlib.suppress(OSError):
                write_text(noted, found)
        return found


def of_run(run_dir: RunDir) -> Cache:
    """The cache that a run uses."""
    named = os.environ.get("LAUNCHER_CACHE")
    return Cache(Path(named).expanduser().absolute() if named else run_dir.root.parent.absolute() / ".cache")


def link_tree(source: Path, target: Path) -> None:
    """Give `target` the files of `source` as further names of the same files; copies where the file system has none.

    Raises:
        OSError: the files cannot be written.
    """
    shutil.copytree(source, target, copy_function=_link, dirs_exist_ok=True)


def _link(source: str, target: str) -> None:
    Path(target).unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
