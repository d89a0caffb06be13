"""`--each KEY=V1,V2`: a recipe in several variants, one for each value, or for each combination of several keys."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from launcher.errors import RecipeError, UsageError
from launcher.recipe import sets, yaml
from launcher.recipe.nodes import Items, Node, Scalar, Table
from launcher.text import quote

_LONGEST = 64
"""Characters of a recipe's name."""
_DIGITS = 6


@dataclass(frozen=True)
class Axis:
    """One `--each`: a key and its values, as `--set` takes them."""

    key: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Variant:
    """One combination."""

    sets: tuple[str, ...]
    """`KEY=VALUE` of each axis."""
    slug: str
    """What its run's name ends in; the same values give the same, whatever stands beside them. Empty without axes."""

    def name(self, base: str) -> str:
        """Name of its run, by that of the recipe."""
        whole = f"{base}-{self.slug}" if self.slug else base
        return whole if len(whole) <= _LONGEST else _marked(whole, self.sets)


def product(texts: Sequence[str]) -> tuple[Variant, ...]:
    """The variants of several `--each`, the last of them varying fastest; one that changes nothing for none.

    Raises:
        UsageError: one of them is not `KEY=V1,V2`.
    """
    axes = [parse(text) for text in texts]
    for key, times in Counter(axis.key for axis in axes).items():
        if times > 1:
            raise UsageError(f"`--each {key}=…` stands there {times} times", hint=f"once: `--each {key}=V1,V2,V3`")
    short = _short([axis.key for axis in axes])
    return tuple(_variant(axes, short, values) for values in itertools.product(*(axis.values for axis in axes)))


def parse(text: str) -> Axis:
    """`KEY=V1,V2` or `KEY=[V1, "V,2"]` as a key and its values.

    Raises:
        UsageError: it is neither.
    """
    shown = f"`--each {quote(text)[1:-1]}`"
    key, equals, listed = text.partition("=")
    if not equals or not listed.strip():
        raise UsageError(f"{shown} needs KEY=V1,V2", hint="for example `--each training.learning_rate=1e-4,2e-4`")
    if key == "name":
        raise UsageError(f"{shown}: the names of variants follow from the other keys", hint="leave it out")
    values = _listed(listed, shown) if listed.lstrip().startswith("[") else [each.strip() for each in listed.split(",")]
    for value in values:
        try:
            sets.parse(f"{key}={value}")
        except RecipeError as error:
            cut = re.search(r"[{\['\"]", value)
            hint = 'values that hold commas stand in a list: `--each KEY=["a,b", c]`' if cut else error.hint
            raise UsageError(f"{shown}: {quote(value)} {error.message}", hint=hint) from None
    return Axis(key, tuple(values))


def _listed(text: str, shown: str) -> list[str]:
    """A YAML list as the texts of its items."""
    try:
        found = yaml.read_text(text, "--each")
    except RecipeError as error:
        raise UsageError(f"{shown}: {error.message}", hint='for example `--each KEY=[a, "b,c"]`') from None
    if not isinstance(found, Items) or not found.items:
        raise UsageError(f"{shown} needs a list of values", hint='for example `--each KEY=[a, "b,c"]`')
    return [_flow(item) for item in found.items]


def _flow(node: Node) -> str:
    """A value on one line, as `--set` takes it."""
    match node:
        case Scalar():
            doubled = node.text.replace("'", "''")
            return f"'{doubled}'" if node.quoted else node.text
        case Items():
            return f"[{', '.join(map(_flow, node.items))}]"
        case Table():
            return f"{{{', '.join(f'{key}: {_flow(child)}' for key, child in node.entries.items())}}}"


def _short(keys: Sequence[str]) -> dict[str, str]:
    """Key → as much of its end as tells it from the others: `learning_rate`, `sums.weight`."""
    found = {}
    for key in keys:
        parts = key.split(".")
        ends = (".".join(parts[-count:]) for count in range(1, len(parts) + 1))
        found[key] = next(end for end in ends if sum(f".{other}".endswith(f".{end}") for other in keys) == 1)
    return found


def _variant(axes: Sequence[Axis], short: dict[str, str], values: Iterable[str]) -> Variant:
    pairs = list(zip(axes, values, strict=True))
    assigned = tuple(f"{axis.key}={value}" for axis, value in pairs)
    whole = "-".join(f"{short[axis.key]}-{value}" for axis, value in pairs)
    slug = re.sub(r"[^a-z0-9._-]+", "-", whole.lower()).strip("-.")
    return Variant(assigned, slug if slug == whole else _marked(slug, assigned))


def _marked(slug: str, assigned: Sequence[str]) -> str:
    """A name that had to leave something out, with a mark that holds all of it."""
    digest = hashlib.sha256("\0".join(assigned).encode()).hexdigest()[:_DIGITS]
    return f"{slug[: _LONGEST - _DIGITS - 1].rstrip('-.')}-{digest}"
