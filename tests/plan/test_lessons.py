"""What one run teaches, and plans made with what was learned."""

import dataclasses

import pytest

from launcher.plan import lessons
from launcher.predict.architecture import Architecture
from launcher.predict.calibration import Calibration, Fit, Point
from launcher.predict.prediction import Memory, Prediction, Time
from launcher.predict.setup import Setup
from launcher.runs.measures import Measures
from tests.support import tiny

GIB = 2**30
MEMORY = Memory(
    {"weights": 10 * GIB, "activations": 3 * GIB, "loss": GIB, "context": GIB, "fragmentation": GIB}, "backward"
)
TIME = Time({"compute": 4.0}, 1000, 1e12, 2e12)
RANKS = (
    {
        "rank": 0,
        "allocated_bytes": 15 * GIB,
        "reserved_bytes": 17 * GIB,
        "outside_bytes": 3 * GIB,
        "total_bytes": 24 * GIB,
    },
)
MEASURED = Measures(1, 40, 6.0, ranks=RANKS, over=True)


def plan(**changes):
    predicted = Prediction(MEMORY, 22 * GIB, "fits", time=TIME, formula_s=4.0, flops=2e12)
    made = tiny.plan()
    halves = dataclasses.replace(made, trainer={**made.trainer, "bf16": True})
    return dataclasses.replace(halves, prediction=dataclasses.replace(predicted, **changes))


def test_a_run_on_a_gpu_teaches_its_step_and_its_memory():
    """2 of the 24 GiB were others' when it was planned: of the 3 outside the allocator, 1 GiB is its own."""
    assert lessons.point("id", "support", plan(), MEASURED) == Point(
        "id", "support", "bfloat16", step_s=6.0, predicted_s=4.0, flops=2e12, allocated=15 * GIB, reserved=17 * GIB,
        outside=GIB, counted=10 * GIB, dynamic=4 * GIB,
    )  # fmt: skip


def test_a_run_that_was_planned_with_a_calibration_teaches_the_same():
    """Folding it in must not learn the correction a second time: ×2 of 2 s and of 2 GiB are undone."""
    corrected = plan(calibrated={"step": 2.0, "dynamic": 2.0, "context": 5.0}, formula_s=2.0)
    found = lessons.point("id", "support", corrected, MEASURED)
    assert (found.predicted_s, found.dynamic, found.counted) == (2.0, 2 * GIB, 10 * GIB)


def test_a_run_on_a_cpu_teaches_its_speed_and_what_a_process_holds_beside_tensors():
    """The process held 14.5 GiB, tensors were predicted to take 14; no allocator was asked."""
    measured = dataclasses.replace(MEASURED, ranks=({"rank": 0, "anonymous_bytes": 29 * GIB // 2},))
    found = lessons.point("id", "support", plan(time=None), measured)
    assert (found.outside, found.allocated, found.predicted_s, found.flops) == (GIB / 2, None, 4.0, 2e12)


def test_rows_that_were_not_full_are_held_to_what_they_were():
    """A plan counts on 4 rows of 64 tokens; padded rows had 128 of those 256 tokens a step, at most 192 in one batch.

    Half the time was to be expected, and three quarters of the activations: too few to learn those of a GPU from.
    """
    short = ({**RANKS[0], "largest_tokens": 192},)
    found = lessons.point("id", "x", plan(), dataclasses.replace(MEASURED, computed_tokens=128, ranks=short))
    assert (found.predicted_s, found.flops, found.dynamic) == (2.0, 1e12, None)
    process = ({"rank": 0, "anonymous_bytes": 14 * GIB, "largest_tokens": 192},)
    found = lessons.point("id", "x", plan(), dataclasses.replace(MEASURED, computed_tokens=128, ranks=process))
    assert (found.dynamic, found.outside) == (3 * GIB, GIB)


def test_rows_that_were_counted_are_held_to_their_lengths():
    """The longest of 4 rows has 48 of 64 tokens, a usual step 160: one of 120 took three quarters of what was to be expected."""
    counted = dataclasses.replace(tiny.plan().estimate, longest=48, lengths=((48, 1.0),))
    short = ({**RANKS[0], "largest_tokens": 192},)
    planned = dataclasses.replace(plan(formula_tokens=160), estimate=counted)
    found = lessons.point("id", "x", planned, dataclasses.replace(MEASURED, computed_tokens=120, ranks=short))
    assert (found.predicted_s, found.flops, found.dynamic) == (3.0, 1.5e12, 4 * GIB)


@pytest.mark.parametrize(
    ("measured", "planned", "why"),
    [
        (None, plan(), "nothing was measured"),
        (dataclasses.replace(MEASURED, over=False), plan(), "nothing was measured"),
        (dataclasses.replace(MEASURED, steps=4), plan(), "4 steps were measured, 5 are needed"),
        (MEASURED, dataclasses.replace(plan(), prediction=None, unpredicted="no sizes"), "predicted for it: no sizes"),
    ],
)
def test_a_run_that_teaches_nothing_says_why(measured, planned, why):
    assert why in lessons.point("id", "support", planned, measured)


MODEL = Architecture("qwen3", 64, 128, 2, 4, 2, 16, 384, tied=True, tensors={"model.embed_tokens.weight": (384, 64)})
SETUP = Setup(MODEL, "full", "float32", "float32", "adamw_torch_fused", 4, 64, "sdpa", "cpu")
PLAIN = Prediction(MEMORY, 22 * GIB, "fits")


def test_a_cpu_has_a_time_only_where_a_run_has_taught_it():
    """No catalogue says how fast it is; but what a run is held to is there from the first plan on."""
    first = lessons.taught(PLAIN, SETUP, None)
    assert first.time is None
    assert lessons.step_s(SETUP, None) is None
    learned = Calibration("x", step={"float32": Fit(2.0, 1, 1, 2)})
    found = lessons.taught(PLAIN, SETUP, learned)
    assert found.time.step_s == pytest.approx(2 * first.formula_s)
    assert lessons.step_s(SETUP, learned) == pytest.approx(2 * first.formula_s)
    assert (found.time.rate, found.formula_s, found.flops) == ("calibrated", first.formula_s, first.flops)


def test_two_ranks_on_one_machine_share_its_speed():
    """The same rows on one rank or on two keep a node's cores as busy: a step is predicted to take as long, but for what they send."""
    large = dataclasses.replace(
        MODEL, hidden=2048, vocabulary=32_000, tensors={"model.embed_tokens.weight": (32_000, 2048)}
    )
    alone = dataclasses.replace(SETUP, model=large, rows=64)
    one = lessons.taught(PLAIN, alone, None)
    two = lessons.taught(PLAIN, dataclasses.replace(alone, rows=32, ranks=2, ranks_per_node=2), None)
    assert (two.flops, one.flops) == (pytest.approx(one.flops, rel=0.01), one.flops)
    assert two.formula_s == pytest.approx(one.formula_s, rel=0.1)


def test_a_memory_is_corrected_and_says_by_what():
    """The next run of it can be learned from."""
    learned = Calibration("x", dynamic=Fit(1.5, 1, 1, 2))
    found = lessons.taught(PLAIN, SETUP, learned)
    assert (found.memory.allocated, found.calibrated) == (16 * GIB, {"dynamic": 1.5})
    assert lessons.taught(PLAIN, SETUP, None).memory == MEMORY
