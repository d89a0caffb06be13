"""Before and after: what training changed, as text. The report draws the same facts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from launcher.runs.files import read_json
from launcher.runs.paths import RunDir
from launcher.text import table

_SHARES = frozenset({"exact_match", "numeric_match", "rouge_l"})
_WIDTH = 100


@dataclass(frozen=True)
class Measure:
    """One number of one eval set, before and after training; None where it was not (yet) measured."""

    dataset: str
    name: str
    before: float | None
    after: float | None

    @property
    def better(self) -> bool | None:
        """Whether training moved it the right way; None when it did not move or cannot be compared."""
        if self.before is None or self.after is None or self.before == self.after:
            return None
        return (self.after < self.before) == (self.name == "loss")

    def show(self, value: float | None) -> str:
        """A value in the unit of this measure: percent for shares; losses with three decimals, scores with one."""
        if value is None:
            return "-"
        if self.name in _SHARES:
            return f"{100 * value:.1f} %"
        return f"{value:.3f}" if self.name == "loss" else f"{value:.1f}"

    @property
    def change(self) -> str:
        """The difference with its sign, for shares in percentage points; `-` when it cannot be compared."""
        if self.before is None or self.after is None:
            return "-"
        difference = self.after - self.before
        if self.name in _SHARES:
            return f"{100 * difference:+.1f} pt"
        return f"{difference:+.3f}" if self.name == "loss" else f"{difference:+.1f}"


@dataclass(frozen=True)
class Results:
    """The evaluation of the untuned model, and the latest one since: the final one, or that of a step."""

    base: Mapping[str, Any] | None
    latest: Mapping[str, Any] | None

    @property
    def after(self) -> str:
        """What to call the latest evaluation: `after`, or the step it was made at."""
        return (
            "after" if self.latest is None or self.latest.get("when") == "final" else f"step {self.latest.get('step')}"
        )


def results(run_dir: RunDir) -> Results:
    """What has been measured so far."""
    steps = [read_json(path) or {} for path in run_dir.evals.glob("step-*.json")]
    newest = max(steps, key=lambda found: found.get("step", 0), default=None)
    return Results(read_json(run_dir.evaluation("base")), read_json(run_dir.evaluation("final")) or newest)


def measures(found: Results) -> list[Measure]:
    """Every number that either evaluation holds, set by set, the loss first."""
    before, after = _numbers(found.base), _numbers(found.latest)
    keys = dict.fromkeys([*after, *before])
    labels = dict.fromkeys(label for label, _ in keys)
    return [
        Measure(label, name, before.get((label, name)), after.get((label, name)))
        for label in labels
        for at, name in keys
        if at == label
    ]


def before_after(run_dir: RunDir) -> str:
    """A table of all eval sets and measures before and after training; empty when nothing was measured."""
    found = results(run_dir)
    rows, last = [["set", "measure", "before", found.after, "change"]], ""
    for each in measures(found):
        label = each.dataset if each.dataset != last else ""
        rows.append([label, each.name, each.show(each.before), each.show(each.after), each.change])
        last = each.dataset
    return table(rows, right=frozenset({2, 3, 4})) if len(rows) > 1 else ""


def answers(run_dir: RunDir, number: int = 3) -> str:
    """The first answers of each generated set, before and after training; empty when none were generated."""
    blocks = []
    for label, samples in pairs(results(run_dir)).items():
        for row, (prompt, reference, before, after) in enumerate(samples[:number], 1):
            lines = [("prompt", prompt), ("expected", reference), ("before", before), ("after", after)]
            blocks.append(
                "\n".join([f"{label}, row {row}", *(f"  {name:<9} {_one_line(text)}".rstrip() for name, text in lines)])
            )
    return "\n".join(blocks)


def pairs(found: Results) -> dict[str, list[tuple[str, str, str | None, str | None]]]:
    """Set → (prompt, reference, answer before, answer after), in the order of the set; None where not generated."""
    before, after = _samples(found.base), _samples(found.latest)
    keys = dict.fromkeys([*after, *before])
    made: dict[str, list[tuple[str, str, str | None, str | None]]] = {}
    for label, index, prompt, reference in keys:
        key = (label, index, prompt, reference)
        made.setdefault(label, []).append((prompt, reference, before.get(key), after.get(key)))
    return made


def _numbers(record: Mapping[str, Any] | None) -> dict[tuple[str, str], float | None]:
    if record is None:
        return {}
    made: dict[tuple[str, str], float | None] = {
        (label, "loss"): loss for label, loss in record.get("losses", {}).items()
    }
    for label, found in record.get("sets", {}).items():
        made |= {(label, name): value for name, value in found["metrics"].items()}
    return made


def _samples(record: Mapping[str, Any] | None) -> dict[tuple[str, int, str, str], str]:
    return {
        (label, index, sample["prompt"], sample["reference"]): sample["output"]
        for label, found in (record or {}).get("sets", {}).items()
        for index, sample in enumerate(found["samples"])
    }


def _one_line(text: str | None) -> str:
    if text is None:
        return "-"
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return line if len(line) <= _WIDTH else line[: _WIDTH - 1] + "…"
