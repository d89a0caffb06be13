"""A trace counts one rank; the formula adds what it cannot see, and what a strategy shares out."""

from launcher.predict.prediction import Memory
from launcher.predict.traced import Trace, memory

TRACE = Trace(
    layers=8,
    copies=(2, 3),
    peaks={
        "backward": {"weights": 100, "gradients": 40, "optimizer": 200, "activations": 70, "workspace": 0},
        "step": {"weights": 100, "gradients": 100, "optimizer": 200, "activations": 1},
    },
    own={"backward": {"activations": 90}, "step": {"activations": 1}},
)


def test_where_nothing_is_shared_the_largest_moment_is_the_peak() -> None:
    """100 + 40 + 200 + 70 = 410 in the backward pass against 401 in the step; context and fragmentation come on top."""
    formula = Memory({"weights": 99, "activations": 1, "context": 50, "fragmentation": 8}, "step")
    found = memory(TRACE, strategy="ddp", formula=formula)

    assert found.moment == "backward"
    assert found.moments == {"backward": 410, "step": 401}
    assert found.terms == {
        "weights": 100, "gradients": 40, "optimizer": 200, "activations": 70, "context": 50, "fragmentation": 8,
    }  # fmt: skip
    assert found.total == 410 + 58


def test_where_ranks_share_the_formula_says_their_parts() -> None:
    """Of eight ranks each holds an eighth of the state by the formula, and activations of its own by the trace."""
    formula = Memory({"weights": 13, "gradients": 13, "optimizer": 25, "gather": 30, "activations": 77}, "backward")
    found = memory(TRACE, strategy="fsdp2", formula=formula)

    assert found.terms == {"weights": 13, "gradients": 13, "optimizer": 25, "gather": 30, "activations": 90}
    assert found.moment == "backward"


def test_without_a_formula_the_trace_stands_alone() -> None:
    """A type that the formula does not know is counted as one rank that shares nothing."""
    assert memory(TRACE, strategy="fsdp2", formula=None).total == 410
