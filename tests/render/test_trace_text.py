"""Formula and trace stand beside one another, with how far the formula is off."""

import pytest

from launcher.predict.prediction import Memory
from launcher.predict.traced import Trace
from launcher.render.trace_text import trace_text
from launcher.text import flops

GIB = 2**30
TRACE = Trace(36, (2, 3), {}, {}, {"forward": 10**12, "backward": 2 * 10**12})


def test_formula_and_trace_are_compared_by_term() -> None:
    """11 GiB against 10 GiB of weights is 10 % too much; together 12 against 12 is right."""
    formula = Memory({"weights": 11 * GIB, "activations": 1 * GIB}, "backward")
    traced = Memory({"weights": 10 * GIB, "activations": 2 * GIB}, "backward")

    assert trace_text(TRACE, traced, formula, device="cuda").splitlines() == [
        "TRACE     each tensor of a step counted on 2 and 3 layers, carried on to 36; highest in the backward pass; 3 TFLOP a pass",
        "                        formula     trace",
        "          weights      11.0 GiB  10.0 GiB  +10.0 %",
        "          activations   1.0 GiB   2.0 GiB  -50.0 %",
        "          together     12.0 GiB  12.0 GiB   +0.0 %",
    ]


def test_without_a_formula_the_trace_stands_alone() -> None:
    """A model that the formula does not know, traced whole."""
    traced = Memory({"weights": 10 * GIB}, "step")
    lines = trace_text(Trace(4, (4,), {}, {}, {}), traced, None, device="cpu").splitlines()

    assert lines[0].startswith(
        "TRACE     each tensor of a step of all 4 layers counted; highest in the optimizer's step"
    )
    assert lines[-1].split() == ["together", "10.0", "GiB"]


@pytest.mark.parametrize(
    ("number", "said"), [(0, "0 FLOP"), (52_200_000, "52.2 MFLOP"), (4.85e11, "485 GFLOP"), (3.25e12, "3.25 TFLOP")]
)
def test_operations_have_their_own_prefixes(number: float, said: str) -> None:
    """Billions are G, not B."""
    assert flops(number) == said
