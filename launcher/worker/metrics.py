"""Metrics on generated text. Each takes predictions and references, pair by pair, and gives one number.

To add one: write the function, name it in `METRICS` and in `launcher.recipe.evaluation.MetricName`, describe it in
`docs/metrics.md`, and add a worked example to its test.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal

from launcher.errors import EnvironmentFault
from launcher.recipe.evaluation import MetricName

Metric = Callable[[Sequence[str], Sequence[str]], float]

# A minus joined to a letter, digit or closing bracket on its left joins or subtracts; it is no sign.
_NUMBER = re.compile(
    r"""
    (?P<sign> (?<![\w)\]]) [-−])?
    (?: [$€£¥] \s? (?P<inner_sign> [-−])? )?
    (?P<digits> [0-9]{1,3} (?:,[0-9]{3})+ (?![0-9]) | [0-9]+ )?
    (?P<decimals> \.[0-9]+ )?
    (?P<exponent> [eE][-+]?[0-9]{1,4} (?![0-9]) )?
    """,
    re.VERBOSE,
)

# Scripts written without spaces count each character as a word.
_WORD = re.compile(r"[぀-ヿ㐀-䶿一-鿿가-힯]|(?:(?![぀-ヿ㐀-䶿一-鿿가-힯])[^\W_])+")


def exact_match(predictions: Sequence[str], references: Sequence[str]) -> float:
    """Share of predictions equal to their reference, blanks at both ends aside.

    Range 0 to 1; higher is better. Case, punctuation and inner blanks count.
    """
    return _mean(float(p.strip() == r.strip()) for p, r in _pairs(predictions, references))


def numeric_match(predictions: Sequence[str], references: Sequence[str]) -> float:
    """Share of predictions whose final number equals the reference's final number.

    Range 0 to 1; higher is better. The rule is `final_number`; a text without a number matches nothing.
    """
    return _mean(float(_same_number(p, r)) for p, r in _pairs(predictions, references))


def chrf(predictions: Sequence[str], references: Sequence[str]) -> float:
    """Character n-gram F-score (chrF) of the whole set, orders 1 to 6, recall weighted twice.

    Range 0 to 100; higher is better. Computed by sacrebleu with its defaults (chrF2).
    Source: Popović, 2015, https://aclanthology.org/W15-3049.
    """
    from sacrebleu.metrics.chrf import CHRF

    _pairs(predictions, references)
    return float(CHRF().corpus_score(list(predictions), [list(references)]).score)


def rouge_l(predictions: Sequence[str], references: Sequence[str]) -> float:
    """Mean ROUGE-L F1: longest common subsequence of words, in lower case, of prediction and reference.

    Range 0 to 1; higher is better. Words are runs of letters and digits of any script, unstemmed.
    Source: Lin, 2004, https://aclanthology.org/W04-1013, section 3.
    """
    return _mean(_rouge_l(_words(p), _words(r)) for p, r in _pairs(predictions, references))


METRICS: dict[MetricName, Metric] = {
    "exact_match": exact_match,
    "numeric_match": numeric_match,
    "chrf": chrf,
    "rouge_l": rouge_l,
}

# The package a metric needs beyond the base installation.
_PACKAGES: dict[str, str] = {"chrf": "sacrebleu"}


def require(names: Iterable[str]) -> None:
    """Check before any work is done that the packages of these metrics are installed.

    Raises:
        EnvironmentFault: one is missing.
    """
    for name in names:
        package = _PACKAGES.get(name)
        if package and importlib.util.find_spec(package) is None:
            raise EnvironmentFault(
                f"metric `{name}` needs the package `{package}`, which is not installed",
                hint="pip install finetune-launcher[eval]",
            )


def score(names: Sequence[str], predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """The named metrics of one set."""
    return {name: METRICS[name](predictions, references) for name in METRICS if name in names}


def final_number(text: str) -> Decimal | None:
    """The last number in `text`, or in what follows the last `####` when that holds one; None without any.

    `1,234.50`, `$1234.5` and `1234.5` are one number. A minus counts unless it follows a letter, a digit or a closing
    bracket (`10-5` ends in 5). A percent sign is ignored (`50%` is 50). `3/4` ends in 4.
    """
    marked = text.rpartition("####")[2]
    return _last_number(marked) if "####" in text and _last_number(marked) is not None else _last_number(text)


def _last_number(text: str) -> Decimal | None:
    found = [m for m in _NUMBER.finditer(text) if m["digits"] or m["decimals"]]
    if not found:
        return None
    sign, inner_sign, digits, decimals, exponent = (found[-1][name] or "" for name in _NUMBER.groupindex)
    number = Decimal(f"{digits.replace(',', '') or '0'}{decimals}{exponent}")
    return -number if sign or inner_sign else number


def _same_number(prediction: str, reference: str) -> bool:
    expected = final_number(reference)
    return expected is not None and final_number(prediction) == expected


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _rouge_l(prediction: Sequence[str], reference: Sequence[str]) -> float:
    common = _longest_common_subsequence(prediction, reference)
    return 2 * common / (len(prediction) + len(reference)) if common else 0.0


def _longest_common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    lengths = [0] * (len(b) + 1)
    for word in a:
        diagonal = 0
        for i, other in enumerate(b, 1):
            above = lengths[i]
            lengths[i] = diagonal + 1 if word == other else max(above, lengths[i - 1])
            diagonal = above
    return lengths[-1]


def _pairs(predictions: Sequence[str], references: Sequence[str]) -> list[tuple[str, str]]:
    if not predictions:
        raise ValueError("no rows to score")
    return list(zip(predictions, references, strict=True))


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return sum(numbers) / len(numbers)
