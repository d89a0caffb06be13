"""What `nvidia-smi -q -x` says about a node's GPUs, judged."""

from __future__ import annotations

import pytest

from launcher.worker.gpus import judge

UNCORRECTABLE = "<dram_uncorrectable>2</dram_uncorrectable><sram_uncorrectable_secded>0</sram_uncorrectable_secded>"


def gpu(number: int, inner: str = "", *, free: int = 81000) -> str:
    """One GPU in the driver's words; `inner` is added."""
    return (
        f"<gpu><product_name>NVIDIA H100</product_name><uuid>GPU-{number}abc</uuid>"
        f"<fb_memory_usage><total>81559 MiB</total><reserved>551 MiB</reserved><free>{free} MiB</free></fb_memory_usage>"
        "<remapped_rows><remapped_row_unc>0</remapped_row_unc><remapped_row_pending>No</remapped_row_pending></remapped_rows>"
        f"<gpu_recovery_action>None</gpu_recovery_action>{inner}</gpu>"
    )


def log(*gpus: str) -> str:
    return (
        f"<?xml version='1.0'?><nvidia_smi_log><driver_version>570.86</driver_version>{''.join(gpus)}</nvidia_smi_log>"
    )


def test_sound_gpus_are_counted():
    """With the driver, for a comparison of the nodes."""
    found = judge(log(gpu(0), gpu(1)), 2, None)

    assert (found.check.finding, found.driver, found.names) == ("ok", "570.86", ("NVIDIA H100", "NVIDIA H100"))


@pytest.mark.parametrize(
    ("visible", "here"),
    [("0,1", 2), ("3", 1), ("GPU-2abc,GPU-0abc", 2), ("0,9,1", 1), ("", 0), ("NoDevFiles", 0), (None, 4)],
)
def test_only_what_the_scheduler_gave_counts(visible: str | None, here: int):
    """As CUDA reads CUDA_VISIBLE_DEVICES: the first entry that is not there ends the list."""
    found = judge(log(*map(gpu, range(4))), 5, visible)

    assert (found.check.finding, found.check.why) == ("odd", f"5 GPUs are planned, and {here} are here")


def test_a_sick_gpu_of_somebody_else_does_not_matter():
    """The job has the other one."""
    sick = gpu(0).replace("remapped_row_pending>No", "remapped_row_pending>Yes")

    assert judge(log(sick, gpu(1)), 1, "1").check.finding == "ok"
    assert judge(log(sick, gpu(1)), 1, "0").check.finding == "bad"


@pytest.mark.parametrize(
    ("inner", "why"),
    [
        (
            f"<ecc_errors><volatile>{UNCORRECTABLE}</volatile></ecc_errors>",
            "has uncorrectable memory errors: dram_uncorrectable 2",
        ),
        (
            "<retired_pages><pending_retirement>Yes</pending_retirement></retired_pages>",
            "has a memory page to be retired, which takes a reset",
        ),
    ],
)
def test_a_gpu_with_broken_memory_is_bad(inner: str, why: str):
    """It would end the run hours later."""
    found = judge(log(gpu(0), gpu(1, inner)), 2, None)

    assert (found.check.finding, found.check.why) == ("bad", f"GPU 1 {why}")


def test_a_gpu_that_the_driver_wants_reset_is_bad():
    """Drivers of 2025 and later say so; a fatal Xid is among their reasons."""
    sick = gpu(0).replace("<gpu_recovery_action>None", "<gpu_recovery_action>Reset")

    assert judge(log(sick), 1, None).check.why == "GPU 0 needs recovery, says the driver: Reset"


def test_who_holds_the_memory_is_named():
    """95 % of 81,559 MiB are 77,481.05."""
    holder = (
        "<processes><process_info><pid>4242</pid><process_name>python</process_name>"
        "<used_memory>9000 MiB</used_memory></process_info></processes>"
    )

    assert judge(log(gpu(0, holder, free=77482)), 1, None).check.finding == "ok"
    assert judge(log(gpu(0, holder, free=77481)), 1, None).check.why == (
        "GPU 0 has 77,481 of 81,559 MiB free; held by pid 4242 (python, 9000 MiB)"
    )


def test_memory_that_is_not_shown_is_not_judged():
    """A GPU that is split (MIG) shows none."""
    split = gpu(0).replace("81559 MiB", "N/A")

    assert judge(log(split), 1, None).check.finding == "ok"


def test_half_an_answer_is_bad():
    """The driver has fallen while it spoke."""
    assert judge("<nvidia_smi_log><gpu>", 1, None).check.why == "nvidia-smi gives half an answer"
