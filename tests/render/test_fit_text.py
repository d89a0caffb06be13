"""What a prediction says on the screen: the verdict, what would change it, time, memory as bars, host and disk."""

import re
from dataclasses import replace
from itertools import pairwise

import pytest

from launcher.cluster.load import load_cluster
from launcher.plan.types import Decision
from launcher.render import fit_text, memory_text
from launcher.render.columns import described, wrapped
from launcher.render.plan_text import plan_text
from tests.render import predictions
from tests.support import golden, planning

LINE = "launcher run small.yaml"
DECISIONS = (
    Decision("device", "cuda", "1 × RTX4090 on `RTX4090x1`"),
    Decision(
        key="training.activation_checkpointing",
        value=True,
        reason="without it the activations need more than is free, even of one row",
    ),
    Decision(
        "training.optim",
        "adamw_torch_fused",
        "AdamW in one kernel per step; its state for 5.05M adapter parameters is 38.5 MiB",
    ),
    Decision(
        "launch.env.PYTORCH_ALLOC_CONF",
        "expandable_segments:True",
        "batches of other lengths leave fewer holes in GPU memory",
    ),
)
WARNINGS = ("no checkpoint before the end: save_steps is 200, about 123 steps in all; a kill restarts from 0",)
CASES = {
    "fits": predictions.FITS,
    "tight": predictions.TIGHT,
    "too-large": predictions.TOO_LARGE,
    "cpu": predictions.CPU,
    "none": None,
}


def predicted(folder, prediction, *sets):
    """The plan of a small recipe with a prediction written by hand; 123 steps of 28 s are 57 minutes."""
    cluster = planning.CPU if prediction is predictions.CPU else load_cluster("local", on="RTX4090x1")
    plan = planning.plan(folder, "training.per_device_train_batch_size=1", "data.packing=true", *sets, cluster=cluster)
    steps = replace(plan.estimate, steps=123)
    return replace(
        plan, prediction=prediction, unpredicted=None, estimate=steps, decisions=DECISIONS, warnings=WARNINGS
    )


@pytest.mark.parametrize("width", [80, 140, None])
@pytest.mark.parametrize("case", CASES)
def test_golden_plans(case, width, tmp_path):
    """Verdict first, then what to do about it, in a narrow terminal, in a wide one, and where nothing is broken."""
    on = None if case == "cpu" else "RTX4090x1"
    text = plan_text(predicted(tmp_path, CASES[case]), next_line=LINE, on=on, width=width)
    golden.check(f"render/plan-{case}-{width or 'piped'}.txt", text.partition("\nEXACTLY")[0] + "\n")


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("width", [80, 100, 140])
def test_all_but_commands_keeps_to_the_width(case, width, tmp_path):
    """A terminal breaks what is longer wherever it ends; a command is one line however long, so that it can be copied."""
    lines = (
        plan_text(predicted(tmp_path, CASES[case]), next_line=LINE, width=width).partition("\nEXACTLY")[0].splitlines()
    )
    assert [line for line in lines if len(line) > width and "launcher " not in line] == []


def test_the_verdict_counts_what_is_spare_or_missing(tmp_path):
    """15.6 of 22.9 leave 7.3; 99.2 are 20.0 more than 79.2."""
    assert fit_text.verdict(predicted(tmp_path, predictions.FITS), predictions.FITS)[0] == "FITS"
    assert "peak 15.6 GiB · 7.3 GiB of 22.9 GiB spare" in plan_text(predicted(tmp_path, predictions.FITS))
    title, lines = fit_text.verdict(predicted(tmp_path, predictions.TOO_LARGE), predictions.TOO_LARGE)
    assert title == "DOES NOT FIT"
    assert lines[0].startswith("peak 99.2 GiB · 20.0 GiB more than the 79.2 GiB that are free")


@pytest.mark.parametrize("verdict", ["tight", "does not fit"])
def test_a_node_without_room_is_named_where_it_decides(verdict, tmp_path):
    """16.4 + 1.0 GiB on a node of 16 GiB: the device has room, and the plan does not fit all the same."""
    found = replace(predictions.FITS, verdict=verdict, host_capacity=16 * predictions.GIB)
    words = "7.3 GiB of 22.9 GiB spare, but the node needs 17.4 GiB of host memory and has 16.0 GiB"
    assert words in fit_text.verdict(predicted(tmp_path, found), found)[1][0]


def test_what_is_offloaded_asks_for_a_node_with_that_memory(tmp_path):
    """Of hardware that is only named, nobody knows the node: 16.4 + 1.0 + 40 GiB must be there."""
    found = replace(
        predictions.FITS, host={**predictions.FITS.host, "offload": 40 * predictions.GIB}, host_capacity=None
    )
    assert (
        "22.9 GiB spare, on a node with 57.4 GiB of host memory ("
        in fit_text.verdict(predicted(tmp_path, found), found)[1][0]
    )


def test_of_several_devices_the_memory_is_that_of_one(tmp_path):
    """Whoever reads a peak for eight GPUs must not divide it by eight."""
    plan = planning.plan(tmp_path, cluster=load_cluster("local", on="RTX4090x2"))
    assert "peak 15.6 GiB per GPU ·" in fit_text.verdict(plan, predictions.FITS)[1][0]


def test_a_plan_that_does_not_fit_leads_to_the_plan_that_does(tmp_path):
    """Not to a run; each fix is the line that was typed, changed, for the hardware that was named."""
    text = plan_text(predicted(tmp_path, predictions.TOO_LARGE), next_line=LINE, on="RTX4090x1")
    fixed = "launcher plan small.yaml --on RTX4090x1 --set training.optim=paged_adamw_8bit"
    assert f"FIX       {fixed}\n              53.0 GiB, 29.1 s a step: moments in 8 bits\n" in text
    assert (
        "--set sharding.strategy=fsdp2 --set launch.gpus=2\n              52.0 GiB: two GPUs share one copy\n" in text
    )
    assert f"NEXT      {fixed}     fits, by its own prediction\n" in text
    assert "launcher run" not in text.partition("\nEXACTLY")[0]


def test_a_fix_takes_the_place_of_what_was_set():
    """The last `--set` of a key counts; a line that says a key twice makes its reader wonder."""
    line = "launcher plan a.yaml --set training.optim=sgd --set name=x --on L4x1"
    fixed = fit_text.typed(predictions.LESS, line)
    assert fixed == "launcher plan a.yaml --set name=x --on L4x1 --set training.optim=paged_adamw_8bit"


def test_without_a_fix_the_way_on_is_other_hardware(tmp_path):
    """Nothing that was tried helps."""
    text = plan_text(
        predicted(tmp_path, replace(predictions.TOO_LARGE, fixes=())),
        next_line=f"{LINE} --gpus 0 --set name=x",
        on="L4x1",
    )
    assert (
        "NEXT      launcher plan small.yaml --set name=x --advise     nothing that was tried makes it fit here" in text
    )
    assert "\nFIX" not in text


def test_time_is_steps_times_seconds(tmp_path):
    """123 × 28 s = 3,444 s = 57 min; 64,400 tokens / 28 s = 2,300; 24.1 / 28 = 86 %; 2.24e15 / 28 s = 80 TFLOP/s."""
    found = fit_text.time(predicted(tmp_path, predictions.FITS), predictions.FITS)
    assert found[0].startswith("~57 min · ~123 steps × 28.0 s · 2.3k tok/s (by the catalogue's rates;")
    assert found[1] == "0.957 GPU-hours · 0.41 kWh · 1.05 EUR"
    assert found[2] == "a step: 86 % compute, 5 % communication, 4 % optimizer, 3 % dequantize; 80 TFLOP/s"


def test_rows_that_are_not_packed_take_at_most_that_long(tmp_path):
    """Each is predicted as long as `max_length`; what is shorter takes less."""
    plan = predicted(tmp_path, predictions.FITS, "data.packing=false")
    assert fit_text.time(plan, predictions.FITS)[0].startswith("at most ~57 min · ~123 steps × 28.0 s · 2.3k tok/s (")


def test_under_a_time_limit_a_run_takes_turns(tmp_path):
    """3,444 s; of 1,500 s, 120 are for leaving and 180 for starting: 1,200 are left, three turns. Asked 900 s ahead, 420: nine."""
    plan = predicted(tmp_path, predictions.FITS)
    limited = replace(plan, jobs=tuple(replace(job, time_limit_s=1500) for job in plan.jobs))
    assert fit_text.time(limited, predictions.FITS)[1] == "a time limit of 25 min: 3 turns"
    assert fit_text.time(limited, predictions.FITS, 900.0)[1] == "a time limit of 25 min: 9 turns"
    once = replace(limited, restart=replace(limited.restart, max_requeues=1))
    assert fit_text.time(once, predictions.FITS)[1] == (
        "a time limit of 25 min: 3 turns, and 2 are allowed: raise `launch.max_requeues`, or the limit"
    )
    short = replace(plan, jobs=tuple(replace(job, time_limit_s=300) for job in plan.jobs))
    assert fit_text.time(short, predictions.FITS)[1] == "a time limit of 5 min 00 s leaves no time to train in"


def test_steps_that_were_asked_for_are_no_estimate(tmp_path):
    """`max_steps` says how many there are."""
    plan = predicted(tmp_path, predictions.FITS, "training.max_steps=123")
    assert fit_text.time(plan, predictions.FITS)[0].startswith("57 min · 123 steps × 28.0 s")


def test_a_calibrated_rate_says_so(tmp_path):
    """It needs no advice to measure."""
    found = replace(predictions.FITS, time=replace(predictions.TIME, rate="calibrated"))
    assert "(by rates measured on this kind of device)" in fit_text.time(predicted(tmp_path, found), found)[0]


def test_steps_that_are_not_counted_are_not_invented(tmp_path):
    """`prepare` counts them."""
    found = replace(predictions.FITS, run_s=None)
    plan = replace(predicted(tmp_path, found), estimate=planning.plan(tmp_path).estimate)
    assert fit_text.time(plan, found)[0].startswith("28.0 s a step · 2.3k tok/s; `prepare` counts the steps (")


def test_the_time_of_an_unknown_device_is_unknown(tmp_path):
    """A CPU has no row in a catalogue of GPUs."""
    (line,) = fit_text.time(predicted(tmp_path, predictions.CPU), predictions.CPU)
    assert line.startswith("unknown: how fast the CPU is")


def test_what_is_faster_smaller_and_tighter_is_named(tmp_path):
    """21 s for 28 s are 25 % less; 28.3 s are 1 % more; 60 s are 114 % more."""
    lines = fit_text.memory(predicted(tmp_path, predictions.FITS), predictions.FITS, 90)
    assert lines[-3:] == [
        "faster if training.activation_checkpointing=false: 32.5 GiB, 21.0 s a step (25 % faster), does not fit",
        "smaller if training.optim=paged_adamw_8bit: 15.4 GiB, 28.3 s a step (1 % slower)",
        "tighter if data.max_length=8192: 23.6 GiB, 60.0 s a step (114 % slower), does not fit",
    ]


def test_where_memory_is_ample_nothing_smaller_is_named(tmp_path):
    """1.0 of 12 GiB; what needs more and still fits is no news either."""
    others = (replace(predictions.LESS, memory=2**29), replace(predictions.LONGER, verdict="fits"))
    found = replace(predictions.CPU, alternatives=others)
    assert fit_text.memory(predicted(tmp_path, found), found, 90)[-1] == "highest in the backward pass"


def test_a_choice_says_what_its_alternative_would_cost(tmp_path):
    """The reason stands first, then what else was looked at; other keys, and the chosen value itself, are not repeated."""
    plan = predicted(tmp_path, predictions.FITS)
    kept = Decision("training.activation_checkpointing", True, "memory")  # noqa: FBT003
    text = plan_text(replace(plan, decisions=(kept, Decision("data.loss_on", "all", "so"))))
    assert "memory; off: 32.5 GiB, 21.0 s a step (25 % faster), does not fit\n" in text
    assert "all  so\n" in text
    off = replace(kept, value=False)
    assert "32.5" not in plan_text(replace(plan, decisions=(off,))).partition("CHOSEN")[2]


def test_checkpointing_says_how_many_layers_are_computed_again(tmp_path):
    """`on` would be read as every layer."""
    plan = predicted(tmp_path, predictions.FITS)
    every = replace(plan, trainer={**plan.trainer, "activation_checkpointing_kwargs": {"every_n_layers": 2}})
    assert re.search(r"activation_checkpointing +on, 1 layer in 2 +without it", plan_text(every))
    assert re.search(r"activation_checkpointing +on +without it", plan_text(plan))


def test_bars_together_reach_as_far_as_the_peak():
    """Each begins where the one above ends. Of 22.9 GiB over 60 cells, 15.6 end in cell 40 and 8.0 in cell 20."""
    lines = memory_text.bars(predictions.FITS, device="cuda", width=120)
    drawn = [line[27:] for line in lines]
    assert drawn[0].startswith("█" * 20)
    assert drawn[0].index("│") == 60
    for above, below in pairwise(drawn):
        ends = max(i for i, c in enumerate(above[:60]) if c not in " │")
        assert len(below) - len(below.lstrip()) in (ends, ends + 1)
    assert lines[-1].startswith("spare             7.3 GiB")
    assert drawn[-1].rstrip("│").rstrip("·") == " " * 40
    assert [line.split("  ")[0] for line in lines[:2]] == ["activations", "weights"]


def test_small_terms_share_a_line():
    """Nine terms are five and `4 smaller`: 0.3 + 0.2 + 0.2 + 0.1 GiB."""
    lines = memory_text.bars(predictions.FITS, device="cuda", width=90)
    assert len(lines) == 7
    assert lines[5].startswith("4 smaller         0.8 GiB")


def test_what_lies_beyond_the_device_is_drawn_in_another_way():
    """Of 99.2 GiB, the last 20.0 have no place: a fifth of the cells."""
    lines = memory_text.bars(predictions.TOO_LARGE, device="cuda", width=120)
    assert lines[-1].startswith("missing          20.0 GiB")
    assert lines[-1].count("▒") == round(60 * 20.0 / 99.2)
    assert "▒" not in lines[0]
    assert "│ 79.2 GiB free" in lines[0]


def test_a_tiny_model_is_drawn_over_itself():
    """64 MiB of 12 GiB would be no bar at all."""
    memory = replace(predictions.CPU.memory, terms={"weights": 48 * 2**20, "context": 16 * 2**20})
    lines = memory_text.bars(replace(predictions.CPU, memory=memory), device="cpu", width=120)
    assert [line.count("█") for line in lines] == [45, 15]  # three quarters and a quarter of 60 cells
    assert lines[1].startswith("process          16.0 MiB")


def test_host_and_disk_are_the_sums_of_their_terms(tmp_path):
    """Named from the largest on."""
    assert fit_text.host(predictions.FITS) == ["loading 16.4 GiB · workers 1.0 GiB · the node has 64.0 GiB"]
    assert fit_text.disk(predictions.FITS) == ["model 15.3 GiB · checkpoints 1.5 GiB · data 0.2 GiB"]
    unknown = replace(predictions.FITS, host_capacity=None)
    assert fit_text.host(unknown)[0].endswith("workers 1.0 GiB · how much the node has is not known here")
    assert fit_text.host(predictions.TIGHT) == fit_text.disk(predictions.TIGHT) == []


def test_why_nothing_is_predicted_is_said(tmp_path):
    """The plan knows the reason; a figure would be a guess."""
    plan = replace(predicted(tmp_path, None), unpredicted="the sizes of a `mamba` model are not known here")
    text = plan_text(plan)
    assert (
        "FIT       memory and time are not predicted: the sizes of a `mamba` model are not known here; the first step"
        in text
    )
    assert "MEMORY" not in text


def test_words_that_steer_a_terminal_are_shown_as_escapes(tmp_path):
    """A reason or a value may come from a file that anybody wrote."""
    text = plan_text(predicted(tmp_path, predictions.HOSTILE), next_line=LINE)
    assert "\x1b" not in text
    assert text.count("\\x1b[31m") >= 5


def test_prose_in_a_table_goes_below_where_there_is_no_room():
    """Within its column while 40 columns are left, else on lines of its own."""
    rows = [["key", "value", "one two three four five six seven eight nine ten eleven twelve thirteen"]]
    assert described(rows, 80) == [
        "key  value  one two three four five six seven eight nine ten eleven",
        "            twelve thirteen",
    ]
    assert described([["k" * 30, "v", rows[0][2]]], 80)[:2] == [
        "k" * 30 + "  v",
        "    one two three four five six seven eight nine ten eleven twelve",
    ]
    assert wrapped(["a" * 99], 80) == ["a" * 99]


def test_a_number_stays_with_its_unit():
    """`1` at the end of a line and `% slower` on the next is hard to read."""
    assert wrapped([f"{'a' * 63} 28.3 GiB"], 80) == ["a" * 63, "    28.3 GiB"]
