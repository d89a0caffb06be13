"""The part of docs/PREDICTOR.md on speed, and what the points that set the efficiency table would set it to.

`python -m benchmarks.predictor.published_page` prints the table; with `--fit` the parts of the peaks as well.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from math import log
from statistics import median

from benchmarks.predictor.published import FOUNDRY, Point, error, points, predicted
from launcher.predict.rates import Efficiency, efficiency
from launcher.text import table


def lines() -> list[str]:
    """The table as Markdown."""
    rows = [["GPU", "published by", "what", "tok/s of a GPU", "predicted", "off", "use"]]
    for point in points():
        assert point.setup.gpu is not None
        speeds = (point.tokens_per_s, predicted(point))
        numbers = [f"{speed:,.0f}" for speed in speeds]
        rows.append([point.setup.gpu.name, point.source, point.what, *numbers, f"{error(point):+.0%}", point.use])
    head, *body = ["| " + " | ".join(row) + " |" for row in rows]
    return [head, "|" + "---|" * len(rows[0]), *body]


def summary() -> list[str]:
    """Errors of the points that set the table, of those that test it, and of these with today's attention."""
    groups = {
        "set the table": [point for point in points() if point.use == "sets"],
        "test it": [point for point in points() if point.use == "tests"],
        "of them without MPT's rows above 4,096 tokens": [
            point
            for point in points()
            if point.use == "tests" and not (point.source == FOUNDRY and point.setup.length > 4096)
        ],
    }
    return [_errors(name, some) for name, some in groups.items()]


def _errors(name: str, some: Sequence[Point]) -> str:
    off = sorted(abs(error(point)) for point in some)
    most = off[int(0.9 * (len(off) - 1))]
    return f"{len(off)} {name}: median error {median(off):.0%}, nine of ten within {most:.0%}, worst {off[-1]:.0%}"


def section() -> list[str]:
    """The part of docs/PREDICTOR.md on speed."""
    sets, tests, others = summary()
    return [
        "",
        "## How far the time formula is off, on GPUs of others",
        "",
        f"**Of the published speeds {sets}; {tests}.** {others[0].upper()}{others[1:]}.",
        "",
        "These are other programs than ours, on hardware that we do not have: a speed of our own stands nowhere here yet, and",
        "`launcher calibrate` corrects the formula by runs of yours. What is set: `launcher/predict/efficiency.yaml`, parts of the peaks of",
        "A100, H100, RTX 4090 and RTX 3090 for products and memory, and one cost of an operation (`rates.LAUNCH_S`). GPUs without a point",
        "take a neighbour's parts. Attention's part is from papers on its kernels. `fused kernels` and `compiled` are predicted as",
        "`torch_compile`.",
        "",
        "Which point does which was written down before the first fit, with two exceptions. MPT at 65,536 tokens set attention's part at",
        "first, to 0.36 and 0.2 of the peak, and tests now: its Triton kernel of 2023 is slower than today's, as all of its long rows show.",
        "That a paged optimizer's state crosses PCIe in each step was added after the first look at torchtune's full fine-tuning on an",
        "RTX 4090.",
        "",
        "What to know of the points: MPT has no gate and all of its heads have keys. torchtitan's H100 has 2.4 TB/s and 500 W; its selective",
        "checkpointing is taken for every second layer. Answer.AI's RTX 3090 were limited to 280 W, on slow PCIe lanes, which FSDP2 shows.",
        "Qwen-7B is taken for a llama of its sizes. Left out: torchtune's RTX A6000, which would reach nine tenths of its peak (it is not",
        "said what is recomputed there), float8, tensor and expert parallelism, and what does not state rows and lengths.",
        "",
        *lines(),
    ]


def fitted(some: Sequence[Point]) -> tuple[Efficiency, float]:
    """Parts for products and memory with the least mean squared logarithm of predicted over published; and its root."""
    assert some[0].setup.gpu is not None
    start = efficiency(some[0].setup.gpu)
    grid = product(range(50, 101, 2), (70, 80, 90))
    tried = [replace(start, matrices=products / 100, memory=memory / 100) for products, memory in grid]

    def loss(part: Efficiency) -> float:
        return sum(log(1 + error(point, part)) ** 2 for point in some) / len(some)

    best = min(tried, key=loss)
    return best, loss(best) ** 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fit", action="store_true", help="say what the points that set the table would set it to")
    args = parser.parse_args()
    print("\n".join([*lines(), "", *(f"- {line}" for line in summary())]))
    if args.fit:
        rows = [["capability", "matrices", "memory", "error", "points"]]
        setting = [point for point in points() if point.use == "sets"]
        for capability in sorted({point.setup.gpu.capability for point in setting if point.setup.gpu}):
            some = [point for point in setting if point.setup.gpu and point.setup.gpu.capability == capability]
            part, left = fitted(some)
            parts = (part.matrices, part.memory, left)
            rows.append([str(capability), *(f"{value:.2f}" for value in parts), str(len(some))])
        print(table(rows))


if __name__ == "__main__":
    main()
