"""Figures from runs: medians, outliers, and predictions corrected by them and back."""

import dataclasses

import pytest

from launcher.predict.calibration import Calibration, Fit, Point, learn, memory, time
from launcher.predict.prediction import Memory, Time

GIB = 2**30


def point(name, **figures):
    return Point(name, name, "bfloat16", **figures)


def steps(*seconds):
    """Runs that were predicted to take one second a step."""
    return learn("RTX4090", [point(f"run-{n}", step_s=each, predicted_s=1.0) for n, each in enumerate(seconds)])


def test_each_figure_is_a_median_with_its_number_and_spread():
    """Of 1.1, 1.3 and 1.2 times the prediction: 1.2, from 1.1 to 1.3."""
    assert steps(1.1, 1.3, 1.2).step == {"bfloat16": Fit(1.2, 3, 1.1, 1.3)}


def test_a_run_that_is_far_off_is_left_out_and_named():
    """Something else used the GPU in run 4: nine times the others. Three runs are too few to call one of them odd."""
    found = steps(1.1, 1.2, 1.3, 1.2, 9.0)
    assert (found.step["bfloat16"], found.outliers) == (Fit(1.2, 4, 1.1, 1.3), ("run-4 (step)",))
    assert steps(1.1, 1.2, 9.0).outliers == ()


def test_runs_that_agree_to_a_percent_do_not_make_one_that_is_off_by_five_an_outlier():
    """The deviation of the others is almost nothing; a tenth of the median is always allowed."""
    assert steps(1.0, 1.001, 1.002, 1.001, 1.05).outliers == ()


def test_precisions_are_learned_apart():
    """float32 and bfloat16 have rates of their own."""
    other = dataclasses.replace(point("b", step_s=3.0, predicted_s=1.0), precision="float32")
    found = learn("RTX4090", [point("a", step_s=1.5, predicted_s=1.0), other])
    assert {name: fit.value for name, fit in found.step.items()} == {"bfloat16": 1.5, "float32": 3.0}


def test_a_processors_speed_is_seconds_for_an_operation():
    """2 s for 4e9 operations are 5e-10 s each."""
    found = learn("AMD EPYC", [point("a", step_s=2.0, flops=4e9)])
    assert (found.s_per_flop["bfloat16"].value, found.step) == (5e-10, {})


def test_only_what_formulas_approximate_is_corrected():
    """10 GiB are counted to the byte, 4 were approximated; 15 were given out, so that the 4 were 5: ×1.25. 16 were reserved: 1/15."""
    found = learn("RTX4090", [point("a", counted=10 * GIB, dynamic=4 * GIB, allocated=15 * GIB, reserved=16 * GIB)])
    assert found.dynamic.value == pytest.approx(1.25)
    assert found.fragmentation.value == pytest.approx(1 / 15)


def test_a_run_with_hardly_any_activations_says_nothing_about_them():
    """70 GiB of weights and 1 GiB of activations: a byte of anything else would count as theirs."""
    assert learn("H100", [point("a", counted=70 * GIB, dynamic=GIB, allocated=73 * GIB)]).dynamic is None


PREDICTED = Memory(
    {"weights": 10 * GIB, "activations": 3 * GIB, "loss": GIB, "context": GIB, "fragmentation": GIB // 4}, "backward",
    {"forward": 12 * GIB, "backward": 14 * GIB},
)  # fmt: skip


def test_a_memory_is_corrected_term_by_term():
    """×1.5: 4.5 and 1.5 GiB; 16 GiB given out, of which an eighth more is reserved: 2 GiB; the context is 0.5."""
    learned = Calibration(
        "x", context=Fit(GIB / 2, 1, 0, 0), dynamic=Fit(1.5, 1, 0, 0), fragmentation=Fit(0.125, 1, 0, 0)
    )
    found = memory(PREDICTED, learned)
    assert {name: size / GIB for name, size in found.terms.items()} == {
        "weights": 10, "activations": 4.5, "loss": 1.5, "context": 0.5, "fragmentation": 2,
    }  # fmt: skip
    assert (found.allocated, found.total) == (16 * GIB, 18.5 * GIB)
    assert found.moments == {"forward": 12 * GIB, "backward": 16 * GIB}


def test_what_no_run_told_stays_as_it_is():
    assert memory(PREDICTED, Calibration("x")) == PREDICTED


def test_a_time_is_corrected_for_its_precision():
    """×2: parts of 1 and 3 s become 2 and 6; and the plan says where its rate is from."""
    plain = Time({"compute": 1.0, "communication": 3.0}, 1000, 1e12, 1e12)
    learned = Calibration("x", step={"bfloat16": Fit(2.0, 1, 0, 0)})
    found = time(plain, learned, "bfloat16")
    assert (dict(found.parts), found.rate, found.tokens_per_s) == (
        {"compute": 2.0, "communication": 6.0},
        "calibrated",
        125.0,
    )
    assert time(plain, learned, "float32") == plain


def test_what_a_prediction_was_corrected_by_can_be_undone():
    """A run that was planned by a calibration is learned from as if it had been planned by the formulas."""
    learned = Calibration("x", dynamic=Fit(1.5, 1, 0, 0), step={"bfloat16": Fit(2.0, 1, 0, 0)})
    assert learned.factors("bfloat16") == {"dynamic": 1.5, "step": 2.0}
    assert learned.factors("float32") == {"dynamic": 1.5}
