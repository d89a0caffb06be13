"""A batch script as a reader sees it: its `#SBATCH` options, the lines of its own shell, and those that run on every node."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from launcher.cluster.directives import SHORT

LAUNCHES = re.compile(r"\btorchrun\b|torch\.distributed\.run\b|launcher\.worker\.torchrun\b|\baccelerate launch\b")
_STEP = re.compile(r"(?:^|[\s;&|(!])srun\s")
_STARTS = re.compile(r"\b(?:ba)?sh\s+[\"']?\S*?(?P<name>[\w.-]+\.sh)\b")
_BACKGROUND = re.compile(r"(?<![&>|])&(?![&>\d])\s*(?:$|\w|\))")


@dataclass(frozen=True)
class Line:
    """A command line without its comment, continued lines joined; `number` is that of its first line, from 1."""

    number: int
    text: str
    source: str = ""
    """The file, where it is not the batch script itself."""

    @property
    def is_step(self) -> bool:
        """It starts something with srun."""
        return _STEP.search(self.text) is not None

    @property
    def waits(self) -> bool:
        """The shell waits for it: it is not put into the background."""
        return _BACKGROUND.search(self.text) is None

    def expands(self, name: str) -> bool:
        """The shell that reads the line replaces `$name`: it stands in no single quotes and behind no backslash."""
        return any(re.match(rf"\$\{{?{name}\b", self.text[at:]) for at in _active(self.text))


@dataclass(frozen=True)
class Option:
    """An `#SBATCH` option; `value` is empty where it has none."""

    value: str
    number: int


@dataclass(frozen=True)
class Script:
    """A batch script and the scripts that its steps start, as far as they lie beside it."""

    text: str
    beside: Mapping[str, str] = field(default_factory=dict)
    """Name → text of the shell scripts in its folder."""

    @cached_property
    def raw(self) -> list[str]:
        """Its lines."""
        return self.text.splitlines()

    @cached_property
    def batch(self) -> list[Line]:
        """The commands of the batch shell."""
        return list(_commands(self.raw))

    @cached_property
    def options(self) -> dict[str, Option]:
        """Long name → option, of those that sbatch takes: before the first command. The last of a name holds."""
        end = self.batch[0].number if self.batch else len(self.raw) + 1
        return dict(each for number, line in enumerate(self.raw[: end - 1], 1) for each in _options(line, number))

    @cached_property
    def late(self) -> list[int]:
        """Lines with options behind the first command, which sbatch does not read."""
        first = self.batch[0].number if self.batch else len(self.raw) + 1
        return [number for number, line in enumerate(self.raw, 1) if number > first and line.startswith("#SBATCH")]

    @cached_property
    def steps(self) -> list[Line]:
        """The lines with srun."""
        return [line for line in self.batch if line.is_step]

    @cached_property
    def on_nodes(self) -> list[Line]:
        """What runs once for each task: the steps, and the scripts that they start."""
        names = [found["name"] for line in self.steps for found in _STARTS.finditer(line.text)]
        inner = [
            each for name in dict.fromkeys(names) if name in self.beside
            for each in _commands(self.beside[name].splitlines(), name)
        ]  # fmt: skip
        return [*self.steps, *inner]

    @cached_property
    def everywhere(self) -> list[Line]:
        """All commands, each once."""
        return [*self.batch, *(line for line in self.on_nodes if line.source)]

    @property
    def nodes(self) -> int:
        """Nodes asked for; the least of a range, 1 where nothing is said."""
        found = re.match(r"\d+", self.value("nodes"))
        return int(found[0]) if found else 1

    def value(self, name: str) -> str:
        """The value of an option; empty without one."""
        return self.options[name].value if name in self.options else ""

    def said(self, pattern: str, lines: list[Line] | None = None) -> Line | None:
        """The first line that matches."""
        chosen = self.everywhere if lines is None else lines
        return next((line for line in chosen if re.search(pattern, line.text)), None)

    def traps(self, name: str) -> list[Line]:
        """Lines that set a trap for a signal."""
        return [line for line in self.batch if re.search(rf"\btrap\b(?!\s+''|\s+-).*\b(?:SIG)?{name}\b", line.text)]


def _options(line: str, number: int) -> Iterator[tuple[str, Option]]:
    if not line.startswith("#SBATCH"):
        return
    words = _words(line.removeprefix("#SBATCH"))
    for at, word in enumerate(words):
        following = words[at + 1] if at + 1 < len(words) and not words[at + 1].startswith("-") else ""
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            yield name, Option(value if equals else following, number)
        elif found := re.fullmatch(r"-([A-Za-z])(.*)", word):
            yield SHORT.get(found[1], found[1]), Option(found[2] or following, number)


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text, comments=True)
    except ValueError:
        return text.split()


def _commands(lines: list[str], source: str = "") -> Iterator[Line]:
    begin, text = 0, ""
    for number, raw in enumerate(lines, 1):
        line = _plain(raw)
        begin = begin or number
        text += line.removesuffix("\\").rstrip() + " " if line.endswith("\\") else line
        if not line.endswith("\\"):
            if text.strip():
                yield Line(begin, text.strip(), source)
            begin, text = 0, ""
    if text.strip():
        yield Line(begin, text.strip(), source)


def _plain(line: str) -> str:
    """Without its comment and the blanks at its end."""
    for at in _active(line, quoted=False):
        if line[at] == "#" and (at == 0 or line[at - 1].isspace()):
            return line[:at].rstrip()
    return line.rstrip()


def _active(text: str, *, quoted: bool = True) -> Iterator[int]:
    """Positions of characters that a shell reads as more than themselves; `quoted`: also those in double quotes."""
    mark, at = "", 0
    while at < len(text):
        char = text[at]
        if char == "\\" and mark != "'":
            at += 2
            continue
        if char in "'\"" and mark in ("", char):
            mark = "" if mark else char
        elif not mark or (quoted and mark == '"'):
            yield at
        at += 1
