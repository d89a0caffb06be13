"""The plan as people read it: verdict first, then why, then what to type."""

import json
import re

from launcher.cli.main import main
from launcher.plan import codec
from launcher.render.plan_text import plan_text
from tests.support import planning


def test_sections_come_in_the_order_of_thought(tmp_path):
    """Verdict, time, data, batch, memory, choices, warnings, what to type next, what exactly happens."""
    titles = re.findall(r"^([A-Z]+) ", plan_text(planning.plan(tmp_path)), re.MULTILINE)
    assert titles == [
        "FITS",
        "TIME",
        "DATA",
        "BATCH",
        "MEMORY",
        "HOST",
        "CHOSEN",
        "WARN",
        "SAVE",
        "DISK",
        "NEXT",
        "EXACTLY",
    ]


def test_estimates_are_marked_and_counts_are_not(tmp_path):
    """100 rows were counted in the file; what is left to train and the steps are expectations."""
    text = plan_text(planning.plan(tmp_path, "data.eval_datasets=[{label: held_out, from: all, fraction: 0.1}]"))
    assert " 100 rows " in text
    assert "~90 rows" in text
    assert "→ ~18 steps" in text


def test_the_batch_is_shown_as_its_product(tmp_path):
    """16 = 4 × 2 × 2 by hand; 16 rows of at most 4,096 tokens are 65,536."""
    text = plan_text(planning.plan(tmp_path, "launch.processes=2", "training.per_device_train_batch_size=4"))
    assert "16 = 4 per device × 2 accumulation × 2 processes     at most 65,536 tokens per step" in text


def test_plan_json_is_the_plan(tmp_path, capsys):
    """Standard output carries the answer and nothing else."""
    planning.recipe(tmp_path)
    assert main(["plan", str(tmp_path / "small.yaml"), "--gpus", "none", "--json"]) == 0
    assert codec.loads(capsys.readouterr().out).batch.global_size == 16


def test_plan_full_ends_with_a_recipe_without_auto(tmp_path, capsys):
    """Everything that was left open, decided."""
    import yaml

    planning.recipe(tmp_path)
    assert main(["plan", str(tmp_path / "small.yaml"), "--gpus", "none", "--full"]) == 0
    recipe = yaml.safe_load(capsys.readouterr().out.partition("\n# The whole recipe")[2].partition("\n")[2])
    assert "auto" not in json.dumps(recipe)
    assert recipe["training"]["learning_rate"] == 2e-4


def test_plan_for_other_hardware_does_not_say_to_run_here(tmp_path, capsys):
    """`--on` plans for a machine that is not this one."""
    planning.recipe(tmp_path)
    assert main(["plan", str(tmp_path / "small.yaml"), "--on", "RTX4090x1"]) == 0
    next_line = re.search(r"^NEXT .*$", capsys.readouterr().out, re.MULTILINE)
    assert next_line is not None
    assert next_line[0].endswith("on a machine with that hardware")
