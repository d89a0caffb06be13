"""Predicted order of speed against measured order, over all choices of a tiny training on CPU ranks.

`python -m benchmarks.predictor.order` trains the same global batch with every allowed combination of rows per device,
checkpointing and strategy on one and two ranks (those of launcher that need no GPU), takes the median seconds of its
steps, and compares their order with `launcher.predict.time`'s. What is measured is kept in `--out` line by line, so that a
stopped sweep goes on where it was; `--page` writes the dated page from it.

A processor has no catalogue rate. The order needs none; seconds are compared after one factor for all, the median ratio.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time as clock
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations, pairwise, product
from pathlib import Path
from statistics import median
from typing import Any, Literal, get_args

from benchmarks.page import write
from launcher.predict.architecture import architecture
from launcher.predict.prediction import Time
from launcher.predict.rates import cpu_rates
from launcher.predict.setup import Adapter, Checkpointing, Setup
from launcher.predict.time import time

RESULTS = Path(__file__).parent.parent / "results"
Method = Literal["full", "lora", "qlora"]
Strategy = Literal["ddp", "fsdp2", "zero1", "zero2", "zero3"]
BATCH = 8
"""Rows of the global batch."""
LENGTH = 128
STEPS = 6
_WARM = 2
"""Steps that are not counted."""
_CLOCKS = {"measured_s": "wall", "processor_s": "processor"}
_KEYS = {"every": "checkpointing", "strategy": "strategy", "rows": "rows per device"}
"""Of a choice, by what they are called."""
_APART = 0.05
"""Parts of each other by which two measurements must differ to have an order."""
_GUESS = 2e10
"""Operations a second of one core, for the order; any other leaves it as it is."""


@dataclass(frozen=True)
class Choice:
    """One combination."""

    method: Method
    strategy: Strategy
    ranks: int
    rows: int
    every: int
    """Every how many layers one is computed again; 0: none."""

    @property
    def name(self) -> str:
        """As it is written in the table."""
        again = {0: "kept", 1: "recomputed"}.get(self.every, f"every {self.every}nd recomputed")
        return f"{self.method} {self.strategy} {self.ranks} × {self.rows} {again}"

    @property
    def accumulation(self) -> int:
        """Micro-batches of a step."""
        return BATCH // (self.rows * self.ranks)


def choices(methods: Sequence[Method]) -> Iterator[Choice]:
    """All of them, in an order that a stopped sweep covers evenly. One form of checkpointing more where a rank is alone."""
    for method, every in product(methods, (0, 1, 2)):
        for ranks, strategy in [(1, "ddp"), *((2, each) for each in get_args(Strategy) if every < 2)]:
            yield from (Choice(method, strategy, ranks, rows, every) for rows in (1, 2, 4, 8) if rows * ranks <= BATCH)


def setup(choice: Choice) -> Setup:
    """What is trained, for the formula."""
    from benchmarks.predictor.cases import MODEL

    model = architecture(MODEL)
    assert model is not None
    adapter = None if choice.method == "full" else Adapter(dict.fromkeys(model.all_linear, 16), "float32")
    return Setup(
        model, method=choice.method, dtype="float32", precision="float32", optim="adamw_torch_fused", rows=choice.rows,
        length=LENGTH, attention="sdpa_documents", device="cpu", adapter=adapter, accumulation=choice.accumulation,
        checkpointing=Checkpointing(every_n_layers=choice.every) if choice.every else None, strategy=choice.strategy,
        ranks=choice.ranks, ranks_per_node=choice.ranks,
    )  # fmt: skip


def predicted(choice: Choice) -> Time:
    """A step, on a processor of a guessed speed."""
    found = time(setup(choice), cpu_rates(_GUESS))
    assert found is not None
    return found


def measure(choice: Choice, base: Path) -> dict[str, Any]:
    """Train it, and say what its steps took."""
    from benchmarks.predictor import cases
    from launcher.render import files
    from launcher.runs.paths import RunDir
    from tests.support import trained, warm

    kwargs = (
        [f"training.activation_checkpointing_kwargs={{every_n_layers: {choice.every}}}"] if choice.every > 1 else []
    )
    case = cases.Case(
        method=choice.method, length=LENGTH, rows=choice.rows, strategy=choice.strategy, ranks=choice.ranks,
        accumulation=choice.accumulation,
        sets=(f"training.activation_checkpointing={str(choice.every > 0).lower()}", f"training.max_steps={STEPS}", *kwargs),
    )  # fmt: skip
    model = {"folder": str(base / "model"), "settings": cases.config(case)}
    made = warm.run("benchmarks.predictor.cases:make_model", model)
    if made.codes != (0,):
        raise RuntimeError(made.logs[0])
    found, run = cases.planned(case, base), RunDir(base / "run")
    files.write(found, run.root)
    trained.prepare(run)
    train = next(job for job in found.plan.jobs if job.stage == "train")
    env = {**train.env, "LAUNCHER_ATTEMPT": "1", "OMP_NUM_THREADS": "1"}
    where = {"run_dir": str(run.root)}
    result = warm.run("benchmarks.predictor.order:rank", where, ranks=choice.ranks, torchrun=True, env=env, timeout=600)
    if set(result.codes) != {0}:
        raise RuntimeError(f"{choice.name}: exit codes {result.codes}\n{result.logs}")
    wall, own = zip(
        *(json.loads((run.root / f"steps-{rank}.json").read_text()) for rank in range(choice.ranks)), strict=True
    )
    return {
        **asdict(choice),
        "measured_s": max(median(each) for each in wall),
        "least_s": max(min(each) for each in wall),
        "processor_s": max(median(each) for each in own),
        "load": os.getloadavg()[0],
    }


def rank(run_dir: str) -> None:
    """Train as one rank, and write what each counted step took, by the clock and by its processor."""
    from transformers import TrainerCallback

    from launcher.worker import resume
    from tests.sharding import cells

    class Laps(TrainerCallback):  # type: ignore[misc]
        """Reads both clocks where steps end."""

        def __init__(self) -> None:
            self.ends = [(clock.perf_counter(), clock.process_time())]

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.ends.append((clock.perf_counter(), clock.process_time()))

    laps, train = Laps(), resume.train

    def training(job: Any, trainer: Any, number: int) -> None:
        trainer.add_callback(laps)
        train(job, trainer, number)
        pairs = [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(laps.ends)][_WARM:]
        wall, own = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        (Path(run_dir) / f"steps-{os.environ.get('RANK', '0')}.json").write_text(json.dumps([wall, own]))

    resume.train = training
    cells.rank(run_dir)


def rank_correlation(left: Sequence[float], right: Sequence[float]) -> float:
    """Spearman's: 1 where both have the same order, -1 where it is turned round. Equal values share their mean rank."""
    first, second = _ranks(left), _ranks(right)
    middle = (len(left) + 1) / 2
    along = sum((a - middle) * (b - middle) for a, b in zip(first, second, strict=True))
    spread = [sum((each - middle) ** 2 for each in ranks) for ranks in (first, second)]
    return float(along / (spread[0] * spread[1]) ** 0.5) if all(spread) else 0.0


def in_order(left: Sequence[float], right: Sequence[float], apart: float = _APART) -> float:
    """Part of all pairs that both put in the same order, among those that `right` has more than `apart` apart."""
    pairs = [(a, b) for a in range(len(left)) for b in range(a) if abs(right[a] / right[b] - 1) > apart]
    right_way = sum((left[a] < left[b]) == (right[a] < right[b]) for a, b in pairs)
    return right_way / len(pairs) if pairs else 1.0


def _ranks(values: Sequence[float]) -> list[float]:
    placed = sorted(values)
    return [placed.index(value) + (placed.count(value) + 1) / 2 for value in values]


def _choice(record: Mapping[str, Any]) -> Choice:
    return Choice(*(record[key] for key in ("method", "strategy", "ranks", "rows", "every")))


def _groups(found: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, Sequence[Mapping[str, Any]]]]:
    """All, and those of one method on as many ranks."""
    kinds = sorted({(each["method"], each["ranks"]) for each in found})
    if len(kinds) > 1:
        yield "all", found
    for method, ranks in kinds:
        some = [each for each in found if (each["method"], each["ranks"]) == (method, ranks)]
        yield f"{method}, {ranks} rank{'s' * (ranks > 1)}", some


def lines(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """The page: order by group, then each choice."""
    found = [{**each, "predicted_s": predicted(_choice(each)).step_s} for each in records]
    factors = {key: median(each[key] / each["predicted_s"] for each in found) for key in _CLOCKS}
    loads = sorted(each["load"] for each in found)
    text = [
        f"A global batch of {BATCH} rows of {LENGTH} tokens, a decoder of 4 layers of width 256, float32, one core a rank. Median of steps",
        f"{_WARM + 1} to {STEPS}, of the slower rank, by the wall clock and by its processor's time, which other work on the machine hardly",
        f"lengthens (load {loads[0]:.1f} to {loads[-1]:.1f} meanwhile). `in order`: of all pairs that were measured more than 5 % apart, how many are",
        "predicted the right way round. `off`: the formula's seconds times one factor for all, the median ratio, against the measured",
        "ones: the median, and what nine of ten are within. `lost`: how much slower than the fastest choice the one predicted fastest is.",
        "What gathering over gloo costs (`rates._GLOO`) was set by the full fine-tuning of the first such sweep; that an operation takes a",
        "core as long as it takes the host of a GPU (`rates.cpu_rates`) was found to be needed by looking at it, LoRA included.",
        "",
        "| what | choices | clock | rank correlation | in order | off | lost |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, some in _groups(found):
        for key, called in _CLOCKS.items():
            expected, measured = [each["predicted_s"] * factors[key] for each in some], [each[key] for each in some]
            lost = measured[expected.index(min(expected))] / min(measured) - 1
            off = sorted(abs(one / other - 1) for one, other in zip(expected, measured, strict=True))
            order = f"{rank_correlation(expected, measured):.2f} | {in_order(expected, measured):.0%}"
            errors = f"{median(off):.0%}, {off[int(0.9 * (len(off) - 1))]:.0%}"
            text.append(f"| {name} | {len(some)} | {called} | {order} | {errors} | {lost:.0%} |")
    text += ["", *_by_key(found)]
    text += ["", "| choice | wall s | processor s | predicted s |", "|---|---|---|---|"]
    for each in sorted(found, key=lambda each: float(each["processor_s"])):
        name = _choice(each).name
        seconds = (each["measured_s"], each["processor_s"], each["predicted_s"] * factors["processor_s"])
        text.append(f"| {name} | {' | '.join(f'{second:.3f}' for second in seconds)} |")
    return text


def _by_key(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Of pairs that differ in one key alone, and were measured more than 5 % apart: how many are predicted the right way round."""
    yield "Pairs of choices that differ in one thing alone:"
    yield ""
    yield "| what | pairs, wall | in order | pairs, processor | in order |"
    yield "|---|---|---|---|---|"
    for key, called in _KEYS.items():
        others = [name for name in (*_KEYS, "method", "ranks") if name != key]
        pairs = [
            (one, other)
            for one, other in combinations(found, 2)
            if one[key] != other[key] and all(one[name] == other[name] for name in others)
        ]
        cells = []
        for seconds in _CLOCKS:
            apart = [(one, other) for one, other in pairs if abs(one[seconds] / other[seconds] - 1) > _APART]
            right = sum((a["predicted_s"] < b["predicted_s"]) == (a[seconds] < b[seconds]) for a, b in apart)
            cells += [str(len(apart)), f"{right / len(apart):.0%}" if apart else "-"]
        yield f"| {called} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("build/order.jsonl"), help="measurements, one a line")
    parser.add_argument("--methods", default="full,lora", help="full, lora, qlora")
    parser.add_argument("--page", action="store_true", help="only write the page from what was measured")
    parser.add_argument(
        "--for-s", type=float, default=3600.0, help="begin no further measurement after so many seconds"
    )
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    known = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.exists() else []
    done = {_choice(each) for each in known}
    began = clock.monotonic()
    for choice in choices(args.methods.split(",")):
        if args.page or choice in done or clock.monotonic() - began > args.for_s:
            continue
        with tempfile.TemporaryDirectory() as folder:
            found = measure(choice, Path(folder))
        known.append(found)
        with args.out.open("a") as out:
            out.write(json.dumps(found) + "\n")
        print(
            f"{choice.name}: {found['measured_s']:.3f} s, predicted {predicted(choice).step_s:.3f}, load {found['load']:.1f}",
            flush=True,
        )
    if args.page:
        write(RESULTS, "order", lines(known))
    elif known:
        print("\n".join(lines(known)))


if __name__ == "__main__":
    main()
