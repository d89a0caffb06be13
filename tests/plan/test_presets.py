"""The sharding presets in accelerate_configs/ are read by the plan, and by accelerate in the same way."""

import dataclasses

import pytest

from launcher.errors import RecipeError
from launcher.plan.facts import gather
from launcher.plan.make import make_plan
from launcher.plan.presets import Preset, load_preset, read_preset
from launcher.recipe.shipped import shipped
from tests.support import planning

DDP = shipped("accelerate_configs") / "ddp.yaml"


def edited(folder, old: str, new: str):
    text = DDP.read_text()
    assert old in text
    (folder / "ddp.yaml").write_text(text.replace(old, new))
    return folder / "ddp.yaml"


def test_editing_the_preset_changes_the_job(tmp_path):
    """The file is not decoration: what accelerate would set, every rank gets."""
    preset = read_preset(edited(tmp_path, "enable_cpu_affinity: false", "enable_cpu_affinity: true"), "ddp")
    loaded = planning.recipe(tmp_path, sets=["launch.processes=2"])
    facts = gather(loaded, planning.CPU)
    before, after = (
        make_plan(loaded, planning.CPU, dataclasses.replace(facts, preset=each)).plan.jobs[-1].env
        for each in (load_preset("ddp"), preset)
    )
    assert "ACCELERATE_CPU_AFFINITY" not in before
    assert after == {**before, "ACCELERATE_CPU_AFFINITY": "1"}


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("distributed_type: MULTI_GPU", "distributed_type: FSDP", "needs the section `fsdp_config`"),
        ("distributed_type: MULTI_GPU", "distributed_type: NPU", "`NPU` is no sharding"),
        ("debug: false", "debugg: true", "debugg: this key of a preset is not read"),
        ("debug: false", "fsdp_config: {}", "fsdp_config: is read with `distributed_type: FSDP` only"),
        ("debug: false", "debug: [", "cannot be read"),
    ],
)
def test_an_edit_that_is_not_read_is_refused(tmp_path, old, new, says):
    """A setting that does nothing would be worse than an error."""
    with pytest.raises(RecipeError, match=r"ddp\.yaml") as caught:
        read_preset(edited(tmp_path, old, new), "ddp")
    assert says in str(caught.value)


def test_accelerate_reads_the_same_settings():
    """The preset stays usable with `accelerate launch --config_file`."""
    from accelerate.commands.config.config_args import load_config_from_file

    theirs = load_config_from_file(str(DDP))
    assert theirs.distributed_type == "MULTI_GPU"
    assert load_preset("ddp") == Preset("ddp", {})
    assert (theirs.enable_cpu_affinity, theirs.debug) == (False, False)
