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


def test_render_writes_seven_files_that_agree_with_the_plan(tmp_path, capsys):
    """plan.json is the plan, byte for byte; the placement holds the only absolute paths."""
    planning.recipe(tmp_path)
    out = tmp_path / "out"
    assert main(["render", str(tmp_path / "small.yaml"), "--gpus", "none", "--out", str(out)]) == 0
    names = ["accelerate.yaml", "commands.sh", "placement.json", "plan.html", "plan.json", "plan.md", "recipe.yaml"]
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


def test_commands_sh_runs_the_stages_where_it_lies(tmp_path):
    """A real shell runs it with a `python` that prints its arguments; the folder has blanks and quotes, and has moved."""
    write(planning.planned(tmp_path), tmp_path / "first")
    folder = (tmp_path / "first").rename(tmp_path / "it's $HOME now")
    (tmp_path / "python").write_text("#!/bin/sh\nfor word; do printf '[%s]' \"$word\"; done; echo\n")
    (tmp_path / "python").chmod(0o700)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    answer = subprocess.run(
        ["/bin/sh", str(folder / "commands.sh")], env=environment, cwd="/", capture_output=True, text=True, check=True
    )
    prepare, train = answer.stdout.splitlines()
    assert prepare == f"[-m][launcher.worker.stage][{folder}][prepare]"
    assert train.endswith(f"[-m][launcher.worker][{folder}]")
    assert str(tmp_path) not in (folder / "commands.sh").read_text()


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    """A file stands where the folder should be."""
    (tmp_path / "out").write_text("")
    with pytest.raises(EnvironmentFault, match="out cannot be written"):
        write(planning.planned(tmp_path), tmp_path / "out")
