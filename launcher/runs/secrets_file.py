"""The file of secrets: `NAME=VALUE` lines that the processes of a job read themselves.

So no value stands in a script, in a command, or in the environment that a scheduler keeps with a job. What they write
about themselves names a value instead of showing it (`hide`).
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path

from launcher.errors import EnvironmentFault
from launcher.text import redact

PATH = "LAUNCHER_SECRETS"
"""Variable with the path of the file."""
NAMES = "LAUNCHER_SECRET_NAMES"
"""Variable with the names that were read from it, for processes that start as children of this one."""

_LINE = re.compile(r"(?:export\s+)?(?P<name>[A-Za-z_][A-Za-z0-9_]{0,127})=(?P<value>.*)")
_BY_NAME = re.compile(r"(^|_)(TOKEN|API_?KEY|SECRET|SECRET_KEY|ACCESS_KEY|PASSWORD|PASSWD)$", re.IGNORECASE)
_MOST_BYTES = 64 * 1024
_SHORTEST = 6
"""A shorter value is no secret, and would be found in the middle of words."""


def read(path: Path) -> dict[str, str]:
    """Name → value of each line; empty lines and `#` comments are passed over, quotes around a value are not part of it.

    Raises:
        EnvironmentFault: it is not there, is not the user's own and only theirs, or has lines of another shape. Values are
            never shown.
    """
    try:
        with open(path, "rb", opener=_at_once) as file:
            _check(path, os.fstat(file.fileno()))
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        hint = f"write it, NAME=VALUE lines, then `chmod 600 {path}`; or remove `secrets` from the profile"
        raise EnvironmentFault(f"{path}: the file of secrets cannot be read: {error.strerror}", hint=hint) from None
    return _values(path, data)


def load(environ: MutableMapping[str, str] = os.environ) -> None:
    """Put what the file holds into the environment of this process, where it is named; variables that are set stay.

    Raises:
        EnvironmentFault: as `read`.
    """
    path = environ.get(PATH)
    if not path:
        return
    found = read(Path(path))
    for name, value in found.items():
        environ.setdefault(name, value)
    environ[NAMES] = ",".join(found)


def hide(text: str, environ: Mapping[str, str] = os.environ) -> str:
    """The text with secrets replaced by their names: those of the file, those in variables that sound like one.

    What looks like a credential by its first letters is cut short, too.
    """
    for value, name in _known(environ):
        if value in text:
            text = text.replace(value, f"<{name}>")
    return redact(text)


def _known(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Each value, plain and as JSON writes it, the longest first: one may be part of another."""
    listed = set((environ.get(NAMES) or "").split(","))
    found = {
        form: name
        for name, value in environ.items()
        if len(value) >= _SHORTEST and (name in listed or _BY_NAME.search(name))
        for form in (value, json.dumps(value, ensure_ascii=False)[1:-1])
    }
    yield from sorted(found.items(), key=lambda each: -len(each[0]))


def _at_once(path: str, flags: int) -> int:
    """Of a pipe, without waiting for who writes into it."""
    return os.open(path, flags | os.O_NONBLOCK)


def _check(path: Path, facts: os.stat_result) -> None:
    if not stat.S_ISREG(facts.st_mode):
        raise EnvironmentFault(f"{path}: the file of secrets is not a plain file", hint="name a file in `secrets`")
    if facts.st_uid != os.geteuid():
        hint = "copy it to a file of your own, `~/.config/launcher/secrets.env`, and `chmod 600` that one"
        raise EnvironmentFault(f"{path}: the file of secrets belongs to somebody else", hint=hint)
    if facts.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise EnvironmentFault(f"{path}: others may read the file of secrets", hint=f"chmod 600 {path}")


def _values(path: Path, data: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    faults = [f"{path}: more than {_MOST_BYTES // 1024} KiB"] if len(data) > _MOST_BYTES else []
    for number, line in enumerate(data.decode(errors="replace").splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        entry = _LINE.fullmatch(line.strip())
        value = _unquoted(entry["value"].strip()) if entry else ""
        if entry is None or not value or "\0" in value:
            faults.append(f"{path}:{number}: no NAME=VALUE" + (f" ({entry['name']})" if entry else ""))
        elif entry["name"] in found:
            faults.append(f"{path}:{number}: {entry['name']} stands there twice")
        else:
            found[entry["name"]] = value
    if faults:
        hint = "write `NAME=VALUE`, one a line: HF_TOKEN, WANDB_API_KEY, …; `#` begins a comment"
        raise EnvironmentFault("\n".join(faults), hint=hint)
    return found


def _unquoted(value: str) -> str:
    same = len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'"
    return value[1:-1] if same else value
