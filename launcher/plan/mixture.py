"""How often one pass over the mixture goes through each source. The plan asks with estimated sizes, `prepare` with counted ones."""

from __future__ import annotations

from collections.abc import Mapping


def asked_shares(
    sizes: Mapping[str, float], weights: Mapping[str, float | None], temperature: float | None
) -> dict[str, float] | None:
    """The share of each source: by weight, or by size to the power 1/temperature; None where neither is given."""
    if temperature is not None:
        raw = {label: size ** (1 / temperature) for label, size in sizes.items()}
    else:
        raw = {label: weight for label, weight in weights.items() if weight is not None}
    total = sum(raw.values())
    return {label: raw[label] / total for label in sizes} if total else None


def epochs(
    sizes: Mapping[str, float], shares: Mapping[str, float] | None, strategy: str, most: Mapping[str, float]
) -> tuple[dict[str, float], str | None]:
    """Passes through each source within one pass over the mixture, and the source that ends it.

    A pass of T tokens (or rows) gives source i its share of T, so source i is exhausted at T = size / share. The pass
    ends where the stopping strategy says, and at the latest where a source has been repeated `most` times: the
    shares are kept, whatever the sizes are. Without shares, and with `all_exhausted_without_replacement`, every row
    is taken once.
    """
    if shares is None or strategy == "all_exhausted_without_replacement":
        return {label: min(1.0, most[label]) for label in sizes}, None
    exhausted = {label: size / shares[label] for label, size in sizes.items()}
    choose = min if strategy == "first_exhausted" else max
    ending = choose(exhausted, key=lambda label: exhausted[label])
    capped = {label: most[label] * at for label, at in exhausted.items()}
    first_capped = min(capped, key=lambda label: capped[label])
    total = min(exhausted[ending], capped[first_capped])
    if capped[first_capped] < exhausted[ending]:
        ending = first_capped
    return {label: total / at if at else 0.0 for label, at in exhausted.items()}, ending
