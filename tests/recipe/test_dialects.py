"""Names of other tools: every suggested line loads."""

import copy
import json

import pytest

from launcher.recipe import yaml
from launcher.recipe.dialects import ITEM_ROWS, ROWS
from launcher.recipe.nodes import plain
from launcher.recipe.schema import Recipe
from launcher.recipe.schema_walk import leaves
from launcher.recipe.suggest import fill
from tests.recipe.writing import FULL, faults, load

TOP = [
    (name, row.example, line)
    for name, row in ROWS.items()
    for line in ([row.write] if isinstance(row.write, str) else row.write.values())
]
ITEM = [
    (name, row.example, line)
    for name, row in {**ROWS, **ITEM_ROWS}.items()
    for line in ([row.item] if isinstance(row.item, str) else row.item.values())
]


def laid(base, over):
    """`over` laid on `base`, plainly."""
    if not (isinstance(base, dict) and isinstance(over, dict)):
        return over
    return {**base, **{key: laid(base.get(key), value) for key, value in over.items()}}


@pytest.mark.parametrize(("name", "example", "line"), TOP)
def test_the_line_to_write_loads(tmp_path, name, example, line):
    """Put into a recipe that has every section, it is valid and holds what it says."""
    suggested = plain(yaml.read_text(f"{{{fill(line, example)}}}", "x"))
    recipe = copy.deepcopy(FULL)
    if "load_in_8bit" in line:
        del recipe["quantization"]
    if "generate" not in line and "eval_datasets" in line:
        recipe["evaluation"] = {}
        del recipe["sweep"]
    if "launch" in suggested:
        recipe["launch"] = {}
    if "checkpoint: {keep_best" in line:
        recipe["data"]["eval_datasets"][0]["label"] = "held_out"
    load(tmp_path, json.dumps(laid(recipe, suggested)))


@pytest.mark.parametrize(("name", "example", "line"), ITEM)
def test_the_line_for_an_item_loads(tmp_path, name, example, line):
    """The same in an item of `data.datasets`."""
    suggested = plain(yaml.read_text(f"{{{fill(line, example)}}}", "x"))
    recipe = copy.deepcopy(FULL)
    del recipe["data"]["datasets"][0]["format"]
    recipe["data"]["eval_datasets"][0]["from"] = "all"
    recipe["data"]["datasets"][0] |= suggested
    load(tmp_path, json.dumps(recipe))


@pytest.mark.parametrize("name", list(ROWS))
def test_each_name_is_refused_with_its_counterpart(tmp_path, name):
    """At the top of the file and in `training:`, where most of them are pasted."""
    row = ROWS[name]
    for recipe in ({**FULL, name: row.example}, laid(FULL, {"training": {name: row.example}})):
        found = [each for each in faults(tmp_path, recipe) if each.key.endswith(name)]
        assert len(found) == 1
        assert found[0].hint
        if found[0].message == "unknown key":
            assert found[0].hint.startswith(f"`{name}` is a name of {row.tools}")


def test_no_name_is_a_key_of_ours():
    """A row for a key that exists at the top would never be read; two meanings of one word must be looked at."""
    keys = {key.rpartition(".")[2].removesuffix("[]") for key, _ in leaves(Recipe)}
    in_items = {"batch_size", "dataset", "max_epochs"}
    assert set(ROWS) & keys == in_items
    assert all("[]." in key for key, _ in leaves(Recipe) if key.rpartition(".")[2] in in_items)
    assert (
        set(ITEM_ROWS) & {key.rpartition("].")[2] for key, _ in leaves(Recipe) if key.startswith("data.datasets[].")}
        == set()
    )


def test_enough_names_are_known():
    """The issue asks for 60."""
    assert len(ROWS) + len(ITEM_ROWS) >= 200
    for row in [*ROWS.values(), *ITEM_ROWS.values()]:
        assert row.write or row.item or row.note


def test_values_choose_the_line(tmp_path):
    """`adapter: qlora` is more than a renamed key."""
    hints = {
        each.key: each.hint
        for each in faults(tmp_path, {**FULL, "adapter": "qlora", "train_on_inputs": False, "flash_attn": "fa2"})
    }
    assert hints["adapter"].endswith("write `quantization: {load_in_4bit: true}, peft: {}`")
    assert hints["train_on_inputs"].endswith("write `data: {loss_on: auto}`")
    assert hints["flash_attn"].endswith("write `model: {attn_implementation: flash_attention_2}`")


def test_keys_of_another_section_are_sent_there(tmp_path):
    """A flat recipe is the commonest mistake."""
    hints = {
        each.key: each.hint
        for each in faults(tmp_path, {**FULL, "lora_alpha": 8, "learning_rate": 1e-4, "training.seed": 3})
    }
    assert hints["lora_alpha"] == "`lora_alpha` belongs in `peft`: write `peft: {lora_alpha: 8}`"
    assert hints["learning_rate"] == "`learning_rate` belongs in `training`: write `training: {learning_rate: 0.0001}`"
    assert hints["training.seed"] == "sections are nested: write `training: {seed: 3}`"


def test_a_line_is_offered_only_when_it_is_accepted(tmp_path):
    """A value that does not fit there is left to the reader; text with commas becomes a list."""
    hints = {
        each.key: each.hint
        for each in faults(
            tmp_path,
            {**FULL, "val_set_size": 500, "lora_r": "high", "lora_target": "q_proj, v_proj", "lora_dropout": 7},
        )
    }
    assert hints["val_set_size"].endswith("write `data: {eval_datasets: [{label: held_out, from: all, fraction: …}]}`")
    assert hints["lora_r"].endswith("write `peft: {r: …}`")
    assert hints["lora_target"].endswith("write `peft: {target_modules: [q_proj, v_proj]}`")
    assert hints["lora_dropout"] == "`lora_dropout` belongs in `peft`: write `peft: {lora_dropout: …}`"
