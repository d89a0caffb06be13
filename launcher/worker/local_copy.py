"""`python -m launcher.worker.local_copy RUN SCRATCH [-- COMMAND …]`: the model on a node's own disk, once per node.

Ranks that read the same file of a shared file system at once read it as slowly as that allows. This copies the model's
folder to the node's scratch, or finds the copy that another job has made, and becomes COMMAND with LAUNCHER_LOCAL_MODEL
set to it; without COMMAND it prints the folder. Where there is no room, the model is read from where it is.

A copy is in use while a process holds a shared lock on its `.lock`: COMMAND does as long as it lives, however it ends.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from launcher.errors import EnvironmentFault, LauncherError
from launcher.plan import hub_cache, pins
from launcher.plan.hub_cache import FileFacts
from launcher.plan.model_files import fingerprint
from launcher.text import gib
from launcher.worker import job
from launcher.worker.job import LOCAL_MODEL, Job

_NEEDED = (".safetensors", ".json", ".jinja", ".txt", ".model", ".tiktoken", ".py")
_AT_ONCE = 8
_SPARE_BYTES = 1 << 30
"""Left free: other jobs of the node write to its scratch too."""


@dataclass(frozen=True)
class Model:
    """A model's folder on the shared file system, and its files by name; `hash` is empty where no lock file says it."""

    folder: Path
    files: dict[str, FileFacts]

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(each.size for each in self.files.values())

    @property
    def key(self) -> str:
        """Name of its copy: another model, or the same with other weights, has another."""
        named = hashlib.sha256(f"{self.folder.resolve()}\0{fingerprint(self.folder)}".encode())
        return named.hexdigest()[:20]


def model_of(found: Job) -> Model | None:
    """The model that a run loads; None where it is built from a configuration, or not on this machine."""
    placed, pin = found.placed("model"), pins.read(found.run_dir.hub).get("model")
    if placed is None:
        folder = pin.folder(hub_cache.hub_cache()) if pin else None
        return Model(folder, pin.files) if pin and folder and folder.is_dir() else None
    paths = [path for path in Path(placed).glob("*") if path.is_file() and path.suffix in _NEEDED]
    return Model(Path(placed), {path.name: FileFacts(path.stat().st_size, "") for path in paths}) if paths else None


@contextlib.contextmanager
def held(model: Model, scratch: Path) -> Iterator[Path | None]:
    """The model's copy in `scratch`, kept there while the context, or a process that this one became, lasts.

    None: there is no room.

    Raises:
        EnvironmentFault: a file of the model is not what the lock file says.
        OSError: the scratch folder cannot be used.
    """
    root = scratch / f"launcher-models-{os.getuid()}"
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    if root.stat().st_uid != os.getuid():
        raise PermissionError(errno.EPERM, "it belongs to somebody else", str(root))
    with _locked(root / f"{model.key}.lock", fcntl.LOCK_SH):
        with _locked(root / "copying.lock", fcntl.LOCK_EX):
            there = _complete(root / model.key) or _copied(model, root)
        yield root / model.key if there else None


@contextlib.contextmanager
def _locked(path: Path, how: int) -> Iterator[None]:
    """A lock that ends with the last process that has the descriptor."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.set_inheritable(descriptor, True)  # noqa: FBT003
        fcntl.flock(descriptor, how)
        os.utime(path)
        yield
    finally:
        os.close(descriptor)


def _complete(copy: Path) -> bool:
    return copy.is_dir()  # it got this name when every file had been compared


def _copied(model: Model, root: Path) -> bool:
    """Copy into a draft, compare, rename. False: there is no room. Only one process of the node is here at a time."""
    for left in root.glob("*.draft"):
        shutil.rmtree(left, ignore_errors=True)
    if not _room(model.size, root):
        return False
    draft = root / f"{model.key}.draft"
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(lambda name: _copy(model, name, draft), model.files))
    draft.rename(root / model.key)
    return True


def _copy(model: Model, name: str, draft: Path) -> None:
    target, facts = draft / name, model.files[name]
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(model.folder / name, target)
    if fault := hub_cache.file_fault(target, facts, hashes=bool(facts.hash)):
        hint = "`launcher fetch RECIPE --check` brings it again" if facts.hash else "it changes while it is read"
        raise EnvironmentFault(f"{model.folder / name} {fault}", hint=hint)


def _room(size: int, root: Path) -> bool:
    """Whether there is room for so many bytes, if need be after copies that nobody uses have gone, oldest first."""
    copies = sorted((path for path in root.iterdir() if path.is_dir()), key=lambda path: _last_used(path, root))
    for copy in copies:
        if shutil.disk_usage(root).free >= size + _SPARE_BYTES:
            return True
        _remove_unused(copy)
    return shutil.disk_usage(root).free >= size + _SPARE_BYTES


def _last_used(copy: Path, root: Path) -> float:
    lock = root / f"{copy.name}.lock"
    return lock.stat().st_mtime if lock.exists() else 0.0


def _remove_unused(copy: Path) -> None:
    descriptor = os.open(copy.with_name(f"{copy.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        draft = copy.rename(copy.with_name(f"{copy.name}.draft"))  # gone in one step; a rest is swept by the next copy
        shutil.rmtree(draft, ignore_errors=True)
    except BlockingIOError:
        pass  # in use
    finally:
        os.close(descriptor)


def main(root: str, scratch: str, *command: str) -> int:
    """Make or find the copy, then become the command. Returns only without one, or when it cannot be started."""
    run = command[1:] if command[:1] == ("--",) else command
    try:
        found = model_of(job.load(Path(root)))
        if found is None:
            return _become(run, None)
        with held(found, Path(os.path.expandvars(scratch))) as copy:
            if copy is None:
                _say(f"no room for the model ({gib(found.size)}) in {scratch}: it is read from {found.folder}")
            return _become(run, copy)
    except LauncherError as fault:
        _say(f"error: {fault}")
        _say(f"hint:  {fault.hint}" if fault.hint else "")
        return int(fault.exit_code)
    except OSError as fault:
        _say(f"the model is not copied to {scratch} ({fault}): it is read from where it is")
        return _become(run, None)


def _become(command: Sequence[str], copy: Path | None) -> int:
    if copy is not None:
        os.environ[LOCAL_MODEL] = str(copy)
    if command:
        os.execvp(command[0], list(command))  # noqa: S606
    sys.stdout.write(f"{copy or ''}\n")
    return 0


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
