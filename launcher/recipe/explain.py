"""What one key does, from its docstring, its type and its defaults."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from launcher.errors import Place, UsageError
from launcher.recipe import docs, trainer
from launcher.recipe.describe import item_section_of, keys_of, section_of
from launcher.recipe.nodes import Scalar
from launcher.recipe.ownership import owner_of
from launcher.recipe.schema import Recipe
from launcher.recipe.section import Section
from launcher.recipe.suggest import homes, nearest, suggest
from launcher.text import quote


@dataclass(frozen=True)
class Explanation:
    """One key: what it does, what it accepts, its default and the library's."""

    key: str
    text: str
    accepts: str
    default: str
    library: str | None = None
    keys: tuple[tuple[str, str], ...] = ()

    def lines(self) -> str:
        """As printed."""
        head = [self.key, f"  {self.text}", f"  accepts  {self.accepts}", f"  default  {self.default}"]
        head += [f"  library  {self.library}"] if self.library else []
        width = max((len(name) for name, _ in self.keys), default=0)
        return "\n".join([*head, *(f"  {name:<{width}}  {text}" for name, text in self.keys)])

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self), "keys": dict(self.keys)}


def overview() -> str:
    """The sections and what they are for."""
    names = docs.field_docs(Recipe)
    width = max(map(len, names))
    return "\n".join(f"{name:<{width}}  {text}" for name, text in names.items())


def explain(key: str) -> Explanation:
    """The explanation of a dotted key; the last part alone will do where it is unambiguous.

    Raises:
        UsageError: there is no such key; the hint names the nearest, or what replaced it.
    """
    found = _find(key) or _find(_home(key))
    if found:
        return found
    name = key.rpartition(".")[2]
    if owner := owner_of(name):
        raise UsageError(f"`{name}` is SFTConfig's, and not set here", hint=owner[1])
    suggestion = suggest((name,), Scalar("VALUE", Place(""), "VALUE"))
    if suggestion and (suggestion.write or suggestion.note):
        what = f"write `{suggestion.write}`" if suggestion.write else suggestion.note
        raise UsageError(f"no recipe key {quote(key)}: {suggestion.reason}", hint=what)
    above, _, _ = key.rpartition(".")
    near = nearest(name, tuple(key.split(".")))
    near = f"{above}.{near}" if near and above and "." not in near else near
    hint = f"did you mean `{near}`?" if near else "`launcher explain` lists the sections"
    raise UsageError(f"no recipe key {quote(key)}", hint=hint)


def _home(key: str) -> str:
    return homes().get(key, (key,))[0]


def _find(key: str) -> Explanation | None:
    section: type[Section] | None = Recipe
    field = holder = None
    parts = key.replace("[]", "").split(".")
    for number, part in enumerate(parts):
        if (
            field
            and item_section_of(field.annotation)
            and section
            and part not in keys_of(section)
            and parts[number + 1 :]
        ):
            continue
        if section is None or part not in keys_of(section):
            return _trainer_key(key, part) if parts[:-1] == ["training"] else None
        holder, field = section, keys_of(section)[part]
        section = section_of(field.annotation) or item_section_of(field.annotation)
    if field is None or holder is None:
        return None
    below = tuple(docs.field_docs(section).items()) if section else ()
    library = docs.library_default(key)
    words = f"{library[1]!r} ({library[0]})" if library else None
    return Explanation(
        key, docs.field_docs(holder)[parts[-1]], _accepts(field, section), docs.default_words(field), words, below
    )


def _accepts(field: Any, section: type[Section] | None) -> str:
    if section is None:
        return docs.accepted(field)
    return "a list of mappings with these keys" if item_section_of(field.annotation) else "a mapping with these keys"


def _trainer_key(key: str, name: str) -> Explanation | None:
    field = trainer.passed_on().get(name)
    if field is None:
        return None
    version = trainer.schema()["versions"]["trl"]
    return Explanation(
        key,
        f"Passed on to TRL's SFTConfig as it is; its documentation (TRL {version}) says what it does.",
        field.expects(),
        repr(field.default),
    )
