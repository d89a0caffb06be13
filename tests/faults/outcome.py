"""What became of the trials of one fault: counts, figures, and every failure in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

_MOST_FAILURES = 20


@dataclass
class Outcome:
    """Outcomes of some trials. Parts that ran apart are added up."""

    trials: int = 0
    failed: int = 0
    """Trials in which a promise was broken."""
    counts: Counter[str] = field(default_factory=Counter)
    """Outcome → number of trials; a trial may count under several."""
    most: dict[str, float] = field(default_factory=dict)
    """Figure → the largest one seen, such as steps lost."""
    failures: list[str] = field(default_factory=list)
    """The first failures, each naming the trial and what was seen."""

    def fail(self, text: str) -> None:
        """Note a broken promise."""
        self.failed += 1
        if len(self.failures) < _MOST_FAILURES:
            self.failures.append(text)

    def see(self, figure: str, value: float) -> None:
        """Keep `value` if it is the largest of its kind."""
        self.most[figure] = max(value, self.most.get(figure, value))

    def add(self, other: Outcome) -> None:
        """Add the trials of another part."""
        self.trials += other.trials
        self.failed += other.failed
        self.counts.update(other.counts)
        for figure, value in other.most.items():
            self.see(figure, value)
        self.failures = [*self.failures, *other.failures][:_MOST_FAILURES]

    def as_json(self) -> dict[str, Any]:
        """All fields as JSON values."""
        return {**vars(self), "counts": dict(sorted(self.counts.items()))}

    @classmethod
    def of_json(cls, value: dict[str, Any]) -> Outcome:
        """What `as_json` gave."""
        names = ("trials", "failed", "most", "failures")
        return cls(counts=Counter(value["counts"]), **{name: value[name] for name in names})


Trials = Callable[[int, range], Outcome]
"""Runs the trials with these numbers; a trial follows from the seed and its number, whatever ran before it."""
