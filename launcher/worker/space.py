"""Storage that refuses: why, on which mount; and space kept free for the next checkpoint."""

from __future__ import annotations

import ctypes
import errno
import os
from dataclasses import dataclass
from pathlib import Path

from launcher.runs.attempts import Cause
from launcher.text import gib
from launcher.worker.faults import FORBIDDEN, disk_full

_MARGIN = 1.2
"""A checkpoint may be larger than the last one: the log of all steps grows."""
_FILES = 64
"""Inodes that a checkpoint needs at most beside one for each of its files."""
_REFUSALS = {
    errno.EROFS: "is read-only",
    errno.EACCES: "does not let this user write",
    errno.EPERM: "does not let this user write",
    errno.EIO: "has an I/O error",
    errno.ESTALE: "has lost its server's file handle (ESTALE)",
    errno.ENOENT: "lost a folder that was being written to",
    errno.ENOTDIR: "has a file where a folder should be",
    errno.EMFILE: "cannot be opened: too many open files",
    errno.ENODEV: "is gone",
    errno.ETIMEDOUT: "does not answer",
}


@dataclass(frozen=True)
class Trouble:
    """Why something could not be saved: one sentence, the mount it is about, and what it means for a run that ends with it."""

    sentence: str
    mount: str
    cause: Cause = "infrastructure"


def trouble(error: BaseException, folder: Path) -> Trouble | None:
    """What storage did to cause `error`; None when storage is not the cause.

    Args:
        error: what was raised while writing.
        folder: where it was being written.
    """
    mount = mount_of(folder)
    if disk_full(error, folder):
        return Trouble(_no_space(mount), mount, "disk_full")
    if isinstance(error, OSError) and error.errno in _REFUSALS:
        cause: Cause = "environment" if error.errno in FORBIDDEN else "infrastructure"
        return Trouble(f"{mount} {_REFUSALS[error.errno]}: {error.filename or folder}", mount, cause)
    return None


def mount_of(path: Path) -> str:
    """The mount point of the file system that `path` is on, or would be on."""
    here = next(each for each in (path.absolute(), *path.absolute().parents) if each.exists())
    return str(next(each for each in (here, *here.parents) if each.is_mount()))


def _no_space(mount: str) -> str:
    facts = os.statvfs(mount)
    if facts.f_files and not facts.f_favail:
        return f"{mount} has no inodes left ({facts.f_files:,} in all)"
    return f"{mount} is full ({gib(facts.f_bavail * facts.f_frsize)} free)"


class Reserve:
    """A file that holds the space of the next checkpoint, given back in the moment before it is written.

    A run thus knows a whole interval in advance that its next save will fail, and other writers cannot take the space
    of the last one. File systems without `fallocate` only get the look at what is free.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def release(self) -> None:
        """Give the space back."""
        self._path.unlink(missing_ok=True)

    def take(self, checkpoint_bytes: int, files: int) -> Trouble | None:
        """Hold the space of a checkpoint like the last one, with a margin.

        Args:
            checkpoint_bytes: size of the last checkpoint.
            files: number of its files.

        Returns:
            What stands in the way; None when the space is held, or cannot be held here and is free.
        """
        wanted = int(checkpoint_bytes * _MARGIN)
        facts = os.statvfs(self._path.parent)
        mount = mount_of(self._path.parent)
        if facts.f_files and facts.f_favail < files + _FILES:
            sentence = f"{mount} has {facts.f_favail:,} inodes left, the next checkpoint needs about {files + _FILES}"
            return Trouble(sentence, mount, "disk_full")
        try:
            _allocate(self._path, wanted)
        except OSError as error:
            self.release()
            if error.errno in (errno.EOPNOTSUPP, errno.ENOSYS) and facts.f_bavail * facts.f_frsize >= wanted:
                return None
            free = gib(facts.f_bavail * facts.f_frsize)
            return Trouble(f"{mount} has {free} free, the next checkpoint needs {gib(wanted)}", mount, "disk_full")
        return None


def _allocate(path: Path, wanted: int) -> None:
    """fallocate(2) itself: what Python offers writes zeros where the file system cannot do it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        offset = ctypes.c_int64
        if libc.fallocate(descriptor, 0, offset(0), offset(max(1, wanted))):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(descriptor)
