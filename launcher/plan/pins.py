"""The hub's repositories that a run takes: at which commit, and which files of them, with their hashes.

As text this is the lock file beside a recipe (`launcher.plan.lock_file`), and `hub.json` of a run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from launcher.errors import EnvironmentFault
from launcher.plan.hub_cache import COMMIT, FileFacts, Kind, faults, hub_cache, snapshot
from launcher.runs.paths import RunDir
from launcher.text import quote

VERSION = 1


@dataclass(frozen=True)
class Want:
    """A hub repository that a recipe names. `asked`: what else decides which of its files are needed."""

    kind: Kind
    repo: str
    revision: str
    asked: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Pin(Want):
    """A repository at one commit: its files, and of a data set the files of each split that is read."""

    commit: str = ""
    files: dict[str, FileFacts] = field(default_factory=dict)
    splits: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(each.size for each in self.files.values())

    def folder(self, cache: Path) -> Path:
        """Its snapshot in the hub's cache."""
        return snapshot(cache, self.kind, self.repo, self.commit)


Pins = dict[str, Pin]
"""`model`, `tokenizer`, `adapter`, `data.LABEL` → the repository."""


@dataclass(frozen=True)
class Missing:
    """A file of the hub that a run needs and that is not as it should be."""

    key: str
    repo: str
    file: str
    fault: str

    def __str__(self) -> str:
        return f"{self.key}: {self.file} of `{self.repo}` {self.fault}"


def read(path: Path) -> Pins:
    """What a lock file, or a run's `hub.json`, says; nothing where there is none.

    Raises:
        EnvironmentFault: it cannot be read, or another version wrote it.
    """
    try:
        return loads(path.read_text(encoding="utf-8"), path)
    except FileNotFoundError:
        return {}
    except OSError as fault:
        raise EnvironmentFault(f"{path} cannot be read: {fault.strerror}") from None


def loads(text: str, path: Path | str) -> Pins:
    """Pins from their text; `path` is for messages.

    Raises:
        EnvironmentFault: it is something else, or another version wrote it.
    """
    try:
        values = json.loads(text)
    except ValueError as fault:
        raise EnvironmentFault(f"{path} is not JSON ({fault})", hint=_WRITE_AGAIN) from None
    version = values.get("lock") if isinstance(values, dict) else None
    if version != VERSION:
        raise EnvironmentFault(f"{path} has version {version!r}, this launcher reads {VERSION}", hint=_WRITE_AGAIN)
    try:
        return {str(key): _pin(each) for key, each in values["pins"].items()}
    except (LookupError, TypeError, ValueError, AttributeError) as fault:
        raise EnvironmentFault(f"{path} is damaged ({fault})", hint=_WRITE_AGAIN) from None


_WRITE_AGAIN = "delete it; `launcher fetch` writes it again, with the commits that branches and tags stand at then"


def _pin(values: Mapping[str, Any]) -> Pin:
    files = {name: FileFacts(int(facts["size"]), str(facts["hash"])) for name, facts in values["files"].items()}
    for name in files:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ValueError(f"the file name {quote(name)}")
    if values["kind"] not in ("model", "dataset") or not COMMIT.fullmatch(values["commit"]):
        raise ValueError(f"the commit {quote(str(values['commit']))}")
    splits = {split: tuple(names) for split, names in values.get("splits", {}).items()}
    named = (values["kind"], values["repo"], values["revision"], dict(values.get("asked", {})))
    return Pin(*named, values["commit"], files, splits)


def dumps(pins: Pins) -> str:
    """Pins as text. It depends on the recipe and the hub alone, so that it can be kept under version control."""
    values = {key: {name: value for name, value in asdict(pin).items() if value} for key, pin in sorted(pins.items())}
    return json.dumps({"lock": VERSION, "pins": values}, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def is_current(pin: Pin, want: Want) -> bool:
    """Whether a pin answers what is wanted."""
    named = (pin.kind, pin.repo, pin.asked) == (want.kind, want.repo, want.asked)
    return named and want.revision in (pin.revision, pin.commit)


def missing(pins: Pins, cache: Path | None = None, *, hashes: bool = False) -> list[Missing]:
    """Files that are not in the hub's cache as they should be. Looks at sizes; reads every byte with `hashes`."""
    where = cache or hub_cache()
    return [
        Missing(key, pin.repo, name, fault)
        for key, pin in pins.items()
        for name, fault in faults(pin.folder(where), pin.files, hashes=hashes)
    ]


def missing_of_run(run_dir: RunDir) -> list[Missing]:
    """The same for a run, by its `hub.json`; cheap enough for the start of every job."""
    return missing(read(run_dir.hub))
