"""Planned beside measured: the line of `status` and the table of the report."""

import dataclasses

from launcher.predict.prediction import Memory, Prediction, Time
from launcher.render.speed_text import Compared, as_json
from launcher.runs.measures import Measures
from tests.support import tiny

GIB = 2**30
MEMORY = Memory({"weights": 20 * GIB, "activations": 8 * GIB, "context": GIB, "fragmentation": GIB // 2}, "backward")
TIME = Time({"compute": 50.0, "overhead": 7.0}, 262_200, 1e15, 1.2e15)  # 57 s, 4,600 tokens a second
RANKS = ({"rank": 0, "allocated_bytes": 27 * GIB, "reserved_bytes": 30 * GIB, "outside_bytes": GIB},
         {"rank": 1, "allocated_bytes": int(28.7 * GIB), "reserved_bytes": 30 * GIB, "outside_bytes": GIB})  # fmt: skip
MEASURED = Measures(1, 40, 57.2, 59.0, 61.0, 4580.0, 4590.0, ranks=RANKS, over=True)
PROCESS = Measures(1, 40, 0.5, 0.5, 0.5, 100.0, 150.0, ranks=({"rank": 0, "anonymous_bytes": 600 * 2**20},))


def plan(memory=MEMORY, *, packing=True, time=TIME):
    found = tiny.plan(data={"packing": packing})
    return dataclasses.replace(found, prediction=Prediction(memory, 80 * GIB, "fits", time=time))


def test_a_packed_run_is_held_to_the_tokens_a_second():
    """28.7 over 28 GiB is 2.5 % more; the plan's 4,600 tokens are 262,200 in 57 s."""
    assert Compared(MEASURED, plan()).line(1860) == (
        "4.58k tok/s (plan 4.6k) · 57.2 s/step, p99 61 · 31 min left · peak 28.7 GiB (plan 28.0, +2 %)"
    )


def test_a_padded_run_is_held_to_the_seconds_of_a_step():
    """Its tokens a second count no padding, those of the plan do; the step is the same step."""
    line = Compared(MEASURED, plan(packing=False)).line()
    assert line == "4.58k tok/s · 57.2 s/step, p99 61 (plan 57, +0 %) · peak 28.7 GiB (plan 28.0, +2 %)"


def test_rows_that_are_not_full_are_held_to_the_tokens_that_were_computed():
    """Half of the planned 262,200 tokens a step: half of its 57 s were to be expected."""
    half = dataclasses.replace(MEASURED, step_s=30.0, step_p99_s=30.0, computed_tokens=131_100)
    assert "30 s/step (plan 28.5, +5 %)" in Compared(half, plan(packing=False)).line()


def test_without_a_prediction_only_what_was_measured_is_told():
    """Plans of hardware or models that nobody can predict, and runs whose plan is gone."""
    expected = "4.58k tok/s · 57.2 s/step, p99 61 · peak 28.7 GiB"
    assert Compared(MEASURED).line() == Compared(MEASURED, tiny.plan()).line() == expected


def test_the_memory_of_a_process_is_not_called_a_peak_of_tensors():
    """It holds an interpreter and libraries too; only a calibrated plan counts those."""
    tensors = Memory({"weights": 200 * 2**20}, "backward")
    assert Compared(PROCESS, plan(tensors, time=None)).line() == (
        "100 tok/s · 0.5 s/step · process 0.6 GiB (plan 0.2 GiB of it tensors)"
    )
    learned = Memory({"weights": 200 * 2**20, "context": 300 * 2**20}, "backward")
    assert Compared(PROCESS, plan(learned, time=None)).line().endswith("process 0.6 GiB (plan 0.5 GiB, +20 %)")


def test_the_table_has_a_row_for_each_figure():
    """28 GiB given out and 0.5 of fragmentation are 28.5 taken from the device; 30 are 5 % more."""
    assert Compared(MEASURED, plan()).rows() == [
        ("seconds per step, median", "57", "57.2", "+0 %"),
        ("seconds per step, 90 and 99 of 100 below", "-", "59 · 61", "-"),
        ("tokens/s computed, padding included", "4.6k", "4.59k", "+0 %"),
        ("tokens/s trained", "-", "4.58k", "-"),
        ("GPU memory given out, most of 2 ranks", "28.0 GiB", "28.7 GiB", "+2 %"),
        ("GPU memory taken from the device, most of 2 ranks", "28.5 GiB", "30.0 GiB", "+5 %"),
        ("beside it: contexts, NCCL, other programs", "1.0 GiB", "1.0 GiB", "+0 %"),
    ]


def test_the_table_leaves_out_what_nobody_knows():
    """A running attempt has no bytes of its ranks yet."""
    assert Compared(Measures(1, 3, 1.0, resident_gib=1.25)).rows() == [("seconds per step, median", "-", "1", "-")]
    assert Compared(Measures(1, 3, 1.0, resident_gib=1.25)).line() == "1 s/step · peak 1.2 GiB"


def test_programs_get_the_figures_of_the_plan():
    """Bytes and seconds; nothing where nothing was predicted."""
    assert as_json(plan()) == {
        "memory_bytes": 29.5 * GIB, "allocated_bytes": 28 * GIB, "step_s": 57.0, "tokens_per_s": 4600.0, "run_s": None,
    }  # fmt: skip
    assert as_json(tiny.plan()) is None
