"""From a configuration and the table of families: sizes by letter, and every parameter with its shape."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

from launcher.predict.family import KEYS, Family, Part, When

Shape = tuple[int, ...]
_TERM = re.compile(r"(\d*)([A-Z])|(\d+)")
_MOST_LAYERS = 1000


def read_sizes(config: Mapping[str, Any], family: Family) -> dict[str, int]:
    """Letter → size, with what transformers fills in.

    Raises:
        ValueError, TypeError, ArithmeticError, LookupError: a size that the type needs is missing, or is none.
    """
    found = {letter: _read(letter, config, family) for letter in KEYS}
    sizes = {letter: size for letter, size in found.items() if size is not None}
    sizes.setdefault("F", 4 * sizes["H"])
    sizes.setdefault("G", sizes["N"])
    sizes.setdefault("D", sizes["H"] // sizes["N"])
    sizes.setdefault("C", sizes["L"])
    sizes |= {"Q": sizes["N"] * sizes["D"], "K": sizes["G"] * sizes["D"]}
    if min(sizes[letter] for letter in "HFVLQK") < 1 or sizes["L"] > _MOST_LAYERS or sizes["C"] > _MOST_LAYERS:
        raise ValueError(sizes)
    return sizes


def named_shapes(config: Mapping[str, Any], family: Family, sizes: Mapping[str, int]) -> dict[str, Shape]:
    """Every parameter with its shape, as transformers' model has them; a tied head is left out."""
    written = {**family.defaults, **config}
    shapes = {name: _shape(letters, sizes) for name, letters in _present(family.around, written, None)}
    for place, parts in family.blocks.items():
        for index in range(sizes["C" if place.startswith("decoder") else "L"]):
            here = _present(parts, written, index)
            shapes |= {f"{place}.{index}.{name}": _shape(letters, sizes) for name, letters in here}
    return shapes


def read_windows(config: Mapping[str, Any], family: Family, layers: int) -> tuple[int, ...]:
    """Tokens that each layer looks back, 0: all of them; empty where no layer is bounded."""
    written = {**family.defaults, **config}
    window = written.get(family.window or "")
    if not isinstance(window, int) or written.get("use_sliding_window") is False:
        return ()
    kinds = written.get("layer_types")
    if isinstance(kinds, list) and len(kinds) == layers:
        full = [kind != "sliding_attention" for kind in kinds]
    else:
        full = [family.full(index, written) for index in range(layers)]
    return () if all(full) else tuple(0 if whole else window for whole in full)


def _read(letter: str, config: Mapping[str, Any], family: Family) -> int | None:
    names = family.keys.get(letter, KEYS[letter])
    value = next((config[name] for name in names if name in config), family.defaults.get(names[0]))
    return None if value is None else int(value)


def _present(parts: tuple[Part, ...], written: Mapping[str, Any], index: int | None) -> Iterator[tuple[str, str]]:
    for part in parts:
        if not isinstance(part, When):
            yield from part.items()
        elif _holds(part.condition, written, index):
            yield from part.tensors.items()


def _holds(condition: str, written: Mapping[str, Any], index: int | None) -> bool:
    places = {"first": index == 0, "later": index != 0}
    if condition in places:
        return places[condition]
    if condition in ("sparse", "dense"):
        return _sparse(written, index or 0) == (condition == "sparse")
    if condition in ("gated", "ungated"):
        return str(written.get("feed_forward_proj")).startswith("gated") == (condition == "gated")
    return not written.get("tie_word_embeddings", False) if condition == "untied" else bool(written.get(condition))


def _sparse(written: Mapping[str, Any], index: int) -> bool:
    """Whether a block of a mixture of experts has experts; some blocks may have one feed-forward layer instead."""
    dense = index in (written.get("mlp_only_layers") or ())
    return not dense and (index + 1) % int(written.get("decoder_sparse_step", 1)) == 0


def _shape(letters: str, sizes: Mapping[str, int]) -> Shape:
    """`Q+2K H` → the product sum of each."""
    return tuple(sum(_term(term, sizes) for term in length.split("+")) for length in letters.split())


def _term(term: str, sizes: Mapping[str, int]) -> int:
    found = _TERM.fullmatch(term)
    if found is None:
        raise ValueError(term)
    factor, letter, number = found.groups()
    return int(number) if number else prod((int(factor or 1), sizes[letter]))
