"""Who speaks in a conversation: the roles, their names, and the order in which they speak."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from launcher.text import did_you_mean, quote
from launcher.worker.data.schema import BadRowError, wrong_type

SYSTEM = frozenset({"system", "developer"})
_OWNER = {"system": "a system message", "developer": "a system message", "tool": "a tool's"}


@dataclass(frozen=True)
class Speech:
    """How one format writes a message: its keys, and the role each of its names stands for."""

    role: str
    content: str
    roles: Mapping[str, str]
    calls: str | None = None
    """The name of a message that is a tool call."""

    whole: bool = True
    """Whether a message keeps its further keys; False: they are metadata that no template reads."""

    @property
    def shape(self) -> str:
        """A message, as shown in a reason."""
        return f"{{{self.role}: …, {self.content}: …}}"


MESSAGES = Speech("role", "content", {name: name for name in ("system", "developer", "user", "assistant", "tool")})
SHAREGPT = Speech(
    "from",
    "value",
    {
        "system": "system",
        **dict.fromkeys(("human", "user"), "user"),
        **dict.fromkeys(("gpt", "chatgpt", "bing", "bard", "assistant", "model"), "assistant"),
        **dict.fromkeys(("tool", "observation", "function_response"), "tool"),
    },
    calls="function_call",
    whole=False,
)
_ELSEWHERE = {**SHAREGPT.roles, "bot": "assistant", "ai": "assistant", "function": "tool", "ipython": "tool"}


def role_of(value: Any, place: str, speech: Speech) -> str:
    """The role that a name stands for.

    Raises:
        BadRowError: an unknown name; the reason says which character is not what it looks like.
    """
    if not isinstance(value, str):
        raise wrong_type(f"{place}.{speech.role}", value, "a string")
    if value in speech.roles:
        return speech.roles[value]
    known = [*speech.roles, speech.calls] if speech.calls else list(speech.roles)
    odd = next((character for character in value if not character.isascii() or character.isspace()), None)
    near = did_you_mean(unicodedata.normalize("NFKC", value), known, cutoff=0.4 if odd else 0.6)
    elsewhere = _ELSEWHERE.get(value.strip().lower())
    near = near or (elsewhere if elsewhere in known else None)
    advice = f"did you mean `{near}`" if near else f"known roles: {', '.join(known)}"
    fault = f"holds {_named(odd)}" if odd else "is unknown"
    raise BadRowError(f"role {quote(value)} of `{place}` {fault}; {advice}")


def _named(character: str) -> str:
    return f"U+{ord(character):04X} {unicodedata.name(character, '')}".strip()


def check_order(roles: Sequence[str], place: Callable[[int], str]) -> None:
    """Refuse a conversation that a model cannot learn from: system first, the user next, the assistant last, in turns.

    Args:
        roles: of the messages, in order.
        place: how message number i is called in the row.

    Raises:
        BadRowError: the first message that stands where it must not.
    """
    fault = _order_fault(tuple(roles))
    if fault:
        reason, numbers = fault
        raise BadRowError(reason.format(*(f"`{place(number)}`" for number in numbers)))


@lru_cache(maxsize=4096)
def _order_fault(roles: tuple[str, ...]) -> tuple[str, tuple[int, ...]] | None:
    """A reason with gaps, and the numbers of the messages that fill them. Few orders of roles occur, so it is kept."""
    start = 1 if roles[0] in SYSTEM else 0
    for number in range(start, len(roles)):
        if roles[number] in SYSTEM:
            second = "{0} is a second system message, after {1}"
            return (second, (number, 0)) if start else ("{0} is a system message, and not the first message", (number,))
    if start < len(roles) and roles[start] != "user":
        return f"{{0}} is {_owner(roles[start])}; the user speaks first", (start,)
    for number in range(start + 1, len(roles)):
        before, now = roles[number - 1], roles[number]
        if before == now != "tool":
            return f"{{0}} and {{1}} are both {_owner(now)}", (number - 1, number)
        if (before, now) == ("user", "tool"):
            return "{1} is a tool's, right after {0}, the user's", (number - 1, number)
    if "assistant" not in roles:
        return "has no assistant message", ()
    last = len(roles) - 1
    return None if roles[last] == "assistant" else (f"ends with {{0}}, which is {_owner(roles[last])}", (last,))


def _owner(role: str) -> str:
    return _OWNER.get(role, f"the {role}'s")
