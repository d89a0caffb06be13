"""What was decided and why, with what each alternative would have cost."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from launcher.plan.types import Decision, Plan
from launcher.predict.prediction import Prediction
from launcher.render import fit_text

_MOST = 3
"""Alternatives of one choice that are named."""


def rows(plan: Plan, prediction: Prediction | None) -> list[list[str]]:
    """Last word of the key, value, reason."""
    return [[each.key.rpartition(".")[2], decided(plan, each), _reason(each, prediction)] for each in plan.decisions]


def decided(plan: Plan, decision: Decision) -> str:
    """The value of a decision; of activation checkpointing, also of how many layers one is computed again."""
    every = (plan.trainer.get("activation_checkpointing_kwargs") or {}).get("every_n_layers", 1)
    if decision.key == "training.activation_checkpointing" and decision.value and every > 1:
        return f"on, 1 layer in {every}"
    return value(decision.value)


def value(chosen: Any) -> str:
    """A value as people read it."""
    return {True: "on", False: "off"}[chosen] if isinstance(chosen, bool) else str(chosen)


def _reason(decision: Decision, prediction: Prediction | None) -> str:
    return "; ".join([decision.reason, *islice(alternatives(decision, prediction), _MOST)])


def alternatives(decision: Decision, prediction: Prediction | None) -> Iterator[str]:
    """What was looked at in place of this choice: `off: 25.3 GiB, 22.0 s a step (21 % faster), does not fit`."""
    if prediction is None:
        return
    for change in prediction.alternatives:
        key, _, other = change.sets[0].partition("=") if len(change.sets) == 1 else ("", "", "")
        if key == decision.key and other != str(decision.value).lower():
            word = {"true": "on", "false": "off"}.get(other, other)
            yield f"{word}: {fit_text.figures(change, prediction)}"
