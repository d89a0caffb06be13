"""`launcher validate` and `launcher explain`, and what they cost."""

import json
import subprocess
import sys

import pytest

from launcher.cli.main import main
from launcher.recipe.describe import keys_of
from launcher.recipe.json_schema import sections
from launcher.recipe.schema import Recipe
from launcher.recipe.shipped import shipped
from tests.recipe.writing import SHORT, write
from tests.support import golden


def test_a_valid_recipe_says_so(tmp_path, capsys):
    """On standard output, exit code 0."""
    path = write(tmp_path, SHORT)
    assert main(["validate", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}: valid\n"


def test_json_has_every_error_with_its_place(tmp_path, capsys):
    """For editors and scripts."""
    path = write(tmp_path, SHORT + "training: {sed: 1}\n")
    assert main(["validate", str(path), "--json", "--set", "peft.r=0"]) == 2
    said = json.loads(capsys.readouterr().out)
    assert not said["valid"]
    assert [(each["file"], each["line"], each["column"], each["key"]) for each in said["errors"]] == [
        (str(path), 3, 12, "training.sed"),
        ("--set peft.r=0", None, None, "peft.r"),
    ]
    assert said["errors"][0]["hint"].startswith("did you mean `seed`")


@pytest.mark.parametrize("path", sorted(shipped("recipes").glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_recipe_is_valid(path, capsys):
    """On its own facts; planning it is tested with the plan."""
    assert main(["validate", str(path)]) == 0, capsys.readouterr().err


@pytest.mark.parametrize(
    "key", ["peft.r", "training.weight_decay", "quantization", "data.datasets.support.weight", "lora_alpha"]
)
def test_golden_explain(key, capsys):
    """What a key does, takes and is by default."""
    assert main(["explain", key]) == 0
    golden.check(f"recipe/explain/{key}.txt", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("peft.lora_aplha", "did you mean `peft.lora_alpha`?"),
        ("warmup_ratio", "write `training: {warmup_steps: …}`"),
        ("training.packing", "write `data.packing`"),
        ("output_dir", "write `name`; the run directory is RUNS/NAME, and `--runs DIR` moves RUNS"),
        ("xyzzy", "`launcher explain` lists the sections"),
    ],
)
def test_explain_knows_what_is_no_key(key, hint, capsys):
    """The same help as in a recipe."""
    assert main(["explain", key]) == 2
    assert capsys.readouterr().err.splitlines()[1] == f"hint:  {hint}"


def test_every_key_can_be_explained(capsys):
    """By its dotted name, without a gap."""
    for section in keys_of(Recipe):
        assert main(["explain", section]) == 0
    assert main(["explain"]) == 0
    assert set(keys_of(Recipe)) <= {line.split()[0] for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert len(sections(Recipe)) > 10


def test_explain_schema_is_json(capsys):
    """To be saved where an editor finds it."""
    assert main(["explain", "--schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "launcher recipe"


def test_loading_is_quick_and_imports_little(tmp_path):
    """A recipe is read by every verb: no torch, no rich, no ruamel, no jsonschema, and a fraction of a second."""
    path = write(tmp_path, "extends: launcher:base/qlora.yaml\n" + SHORT)
    code = (
        "import sys, time; start = time.process_time();"
        "from launcher.recipe.load import load_recipe;"
        f"load_recipe({str(path)!r}, ['training.seed=1']);"
        "print(time.process_time() - start, *sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
        for _ in range(3)
    ]
    seconds = min(float(each[0]) for each in runs)
    assert not {"torch", "transformers", "trl", "rich", "ruamel", "jsonschema", "jinja2", "difflib"} & set(runs[0])
    print(f"load_recipe with imports: {seconds:.3f} CPU-seconds")
    assert seconds < 0.4
