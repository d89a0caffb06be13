"""Keys of `training:` against the installed TRL, without importing it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from launcher.recipe.deprecated import value_of
from launcher.recipe.describe import keys_of, range_words
from launcher.recipe.ownership import PASSED_ON, WORDS, Limits
from launcher.recipe.training import Training

_PATH = Path(__file__).parent / "trainer_schema.json"
_PYTHON: dict[str, tuple[type, ...]] = {
    "text": (str,),
    "bool": (bool,),
    "int": (int,),
    "float": (int, float),
    "mapping": (dict,),
    "list": (list,),
    "null": (type(None),),
}
_TYPES = {"text": "text", "bool": "true or false", "mapping": "a mapping", "list": "a list"}


@cache
def schema() -> dict[str, Any]:
    """What `launcher.worker.trainer_schema` read from the installed TRL."""
    loaded: dict[str, Any] = json.loads(_PATH.read_text(encoding="utf-8"))
    return loaded


@dataclass(frozen=True)
class TrainerField:
    """One field of SFTConfig that `training:` passes on."""

    name: str
    types: tuple[str, ...]
    default: Any
    choices: tuple[str, ...]
    limits: Limits

    @property
    def nullable(self) -> bool:
        """Whether null is a value of its own."""
        return "null" in self.types

    def accepts(self, value: Any) -> bool:
        """Whether a value has the type, the range and the spelling that the field wants."""
        if value is None or isinstance(value, bool):
            return ("null" if value is None else "bool") in self.types
        if not any(isinstance(value, _PYTHON[each]) for each in self.types if each not in ("bool", "object")):
            return False
        if isinstance(value, (int, float)):
            return self.limits.hold(value)
        return not (self.choices and isinstance(value, str) and value not in self.choices)

    def expects(self) -> str:
        """What the field accepts, in words."""
        number = "a whole number" if "int" in self.types else "a number" if "float" in self.types else ""
        parts = [number + range_words(self.limits.ge, self.limits.gt, self.limits.le, self.limits.lt)] if number else []
        parts += [word for each, word in _TYPES.items() if each in self.types and not (each == "text" and self.choices)]
        if self.choices:
            parts.append(f"one of {', '.join(self.choices)}")
        return ", or ".join(parts)


@cache
def passed_on() -> dict[str, TrainerField]:
    """The fields of SFTConfig that `training:` takes beside its own keys."""
    fields = schema()["SFTConfig"]
    return {name: _field(name, fields[name], limits) for name, limits in PASSED_ON.items()}


def words_of(name: str) -> tuple[str, ...]:
    """The words of a key of ours whose words are the trainer's (`optim`, `lr_scheduler_type`)."""
    if name not in ("optim", "lr_scheduler_type"):
        return ()
    words = tuple(schema()["SFTConfig"][name]["choices"])
    return (*words, "auto") if name == "optim" else words


def fits(name: str, value: Any) -> bool:
    """Whether `training:` takes this value of a key; the type of its own keys is the schema's to judge."""
    if name in keys_of(Training):
        return not (words_of(name) and isinstance(value, str) and value not in words_of(name))
    field = passed_on().get(name)
    return field is not None and (value is None or field.accepts(value))


def _field(name: str, read: dict[str, Any], limits: Limits) -> TrainerField:
    words = (word for word in read.get("choices", WORDS.get(name, ())) if not value_of(name, word))
    return TrainerField(name, tuple(read["types"]), read["default"], tuple(words), limits)
