"""`launcher render`: a folder to read, edit and start by hand."""

import json
import subprocess

import pytest

from launcher.cli.main import main
from launcher.errors import EnvironmentFault
from launcher.plan import codec
from launcher.recipe.load import load_recipe
from launcher.render.files import write
from tests.support import planning

SETS = ("data.eval_datasets=[{label: held_out, from: all, fraction: 0.1}]", "training.learning_rate=1e-5")


def test_render_writes_five_files_that_agree_with_the_plan(tmp_path, capsys):
    """plan.json is the plan, byte for byte; the placement holds the only absolute paths."""
    planning.recipe(tmp_path)
    out = tmp_path / "out"
    assert main(["render", str(tmp_path / "small.yaml"), "--gpus", "none", "--out", str(out)]) == 0
    names = ["commands.sh", "placement.json", "plan.json", "plan.md", "recipe.yaml"]
    assert sorted(path.name for path in out.iterdir()) == names
    assert sorted(capsys.readouterr().out.split()) == sorted(str(out / name) for name in names)
    assert codec.loads((out / "plan.json").read_text()).name == "small"
    assert json.loads((out / "placement.json").read_text()) == {"data.sums": [str(tmp_path / "train.jsonl")]}


def test_the_resolved_recipe_plans_to_the_same_training(tmp_path):
    """It holds no `auto`, is a valid recipe, and repeats every number that was decided."""
    first = planning.planned(tmp_path, sets=SETS)
    write(first, tmp_path / "out")
    (tmp_path / "again.yaml").write_text((tmp_path / "out" / "recipe.yaml").read_text())
    assert "auto" not in (tmp_path / "again.yaml").read_text().partition("\n")[2]
    loaded = load_recipe(tmp_path / "again.yaml")
    again = planning.plan(tmp_path, text=(tmp_path / "again.yaml").read_text())
    assert loaded.recipe.training.learning_rate == 1e-5
    assert again.trainer == first.plan.trainer
    assert again.data == first.plan.data
    assert again.model == first.plan.model


def test_commands_sh_is_a_script_a_shell_accepts(tmp_path):
    """`sh -n` parses without running; a folder with blanks and quotes stays one word."""
    folder = tmp_path / "it's a run"
    write(planning.planned(tmp_path), folder)
    subprocess.run(["/bin/sh", "-n", str(folder / "commands.sh")], check=True)
    assert "'\"'\"'s a run'" in (folder / "commands.sh").read_text()


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    """A file stands where the folder should be."""
    (tmp_path / "out").write_text("")
    with pytest.raises(EnvironmentFault, match="out cannot be written"):
        write(planning.planned(tmp_path), tmp_path / "out")
