"""Formula and trace of every shipped recipe on the hardware it names: `python -m benchmarks.predictor.trace_vs_formula [WORD]`.

Both predict the same number from different ends: arithmetic over a table of shapes, and the model's own code on tensors
without memory. Where they differ by more than 5 %, one of them is wrong.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from launcher.cluster.load import load_cluster
from launcher.executors.trace import trace
from launcher.plan import fit
from launcher.plan.facts import gather
from launcher.plan.make import make_plan
from launcher.plan.setups import setup_of
from launcher.predict.flops import hardware_flops
from launcher.predict.prediction import TERMS, Memory
from launcher.predict.traced import memory
from launcher.recipe.load import load_recipe

RECIPES = Path(__file__).parents[2] / "recipes"
ON = re.compile(r"--on (\w+)")
ALSO = {"qwen3-0.6b-lora-sft": "RTX4090x1"}
"""Recipe → hardware, where the recipe names none and a CPU would take no such model."""
MIB = 2**20


@dataclass(frozen=True)
class Compared:
    """One recipe, predicted twice."""

    name: str
    on: str
    formula: Memory
    traced: Memory
    copies: tuple[int, ...]
    seconds: float
    flops: tuple[float, float]
    """Operations of one pass: by arithmetic, and counted."""

    @property
    def apart(self) -> float:
        """How far the formula is from the trace, of what torch's allocator gives out."""
        return self.formula.allocated / self.traced.allocated - 1


def recipes() -> Iterator[tuple[Path, str | None]]:
    """Each shipped recipe with the hardware that its comment plans for."""
    for file in sorted(RECIPES.glob("*.yaml")):
        text = file.read_text(encoding="utf-8")
        parent = re.search(r"^extends: (?!launcher:)(\S+)", text, re.MULTILINE)
        named = ON.search(text + ((RECIPES / parent[1]).read_text(encoding="utf-8") if parent else ""))
        yield file, named[1] if named else ALSO.get(file.stem)


def compared(file: Path, on: str | None, folder: Path) -> Compared:
    """Both predictions of one recipe; `folder` takes a stand-in for data that recipes do not ship."""
    loaded = load_recipe(file, list(_data(file, folder)))
    cluster = load_cluster("local", gpus=None if on else "none", on=on)
    facts = gather(loaded, cluster)
    plan = make_plan(loaded, cluster, facts).plan
    if plan.prediction is None:
        raise SystemExit(f"{file.name}: {plan.unpredicted}")
    begun = time.monotonic()
    found = trace(plan, facts.model.config)
    seconds = time.monotonic() - begun
    formula = plan.prediction.memory
    traced = memory(found, strategy=plan.strategy, formula=formula)
    setup = setup_of(plan, facts.model.sizes, fit.row(cluster)) if facts.model.sizes else None
    operations = hardware_flops(setup).total if setup else 0.0
    return Compared(
        file.stem, on or "CPU", formula, traced, found.copies, seconds, (operations, sum(found.flops.values()))
    )


def _data(file: Path, folder: Path) -> Iterator[str]:
    if "${data}/gsm8k" in file.read_text(encoding="utf-8"):
        rows = folder / "train.jsonl"
        rows.write_text('{"question": "1 + 1?", "answer": "2"}\n' * 4, encoding="utf-8")
        yield f"data.datasets.gsm8k.path={rows}"


def row(each: Compared) -> str:
    """A line of the table, in MiB; below it the terms that differ by more than 1 % of the peak."""
    total = f"{each.formula.allocated / MIB:>10,.1f} {each.traced.allocated / MIB:>10,.1f} {100 * each.apart:>+7.1f} %"
    done, counted = each.flops
    moments = f"{each.formula.moment} / {each.traced.moment}"
    lines = [
        f"{each.name:<32} {each.on:<11} {total}   {moments:<20} {each.seconds:>5.1f} s  {done / 1e12:>9.3f} {counted / 1e12:>9.3f}"
    ]
    for term in TERMS:
        one, other = each.formula.terms.get(term, 0), each.traced.terms.get(term, 0)
        if abs(one - other) > 0.01 * each.traced.total:
            lines.append(f"    {term:<40} {one / MIB:>10,.1f} {other / MIB:>10,.1f}")
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    print(
        f"{'recipe':<32} {'on':<11} {'formula':>10} {'trace':>10}     apart   highest in           trace takes     TFLOP: formula, counted"
    )
    with tempfile.TemporaryDirectory() as folder:
        for file, on in recipes():
            if word in file.stem:
                print(row(compared(file, on, Path(folder))), flush=True)


if __name__ == "__main__":
    main()
