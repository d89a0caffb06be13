"""Nothing that upstream has deprecated leaves the launcher: no argument, no variable, no rendered file."""

import re
import shutil

import pytest

from launcher.errors import LauncherError
from launcher.plan.facts import gather
from launcher.plan.make import make_plan
from launcher.recipe.deprecated import ROWS
from launcher.recipe.load import load_recipe
from launcher.render.files import texts
from tests.plan.test_golden_plans import HARDWARE, RECIPES, ROOT
from tests.support import tiny

NAMES = frozenset(row.name for row in ROWS if row.value is None)
VALUES = frozenset((row.name, row.value) for row in ROWS if row.value is not None)


@pytest.mark.parametrize("hardware", HARDWARE)
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: "-".join(path.with_suffix("").parts[1:]))
def test_no_shipped_recipe_becomes_a_deprecated_argument(recipe, hardware, tmp_path, monkeypatch):
    """A copied rendered file must work with the next release as well."""
    for folder in ("recipes", "accelerate_configs"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    tiny.jsonl(tmp_path / "build/demo/base.jsonl", [{"prompt": "a", "completion": "b"}] * 1000)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_CACHE", "/nowhere")
    try:
        loaded = load_recipe(recipe)
        planned = make_plan(loaded, HARDWARE[hardware], gather(loaded, HARDWARE[hardware]))
    except LauncherError as error:
        pytest.skip(f"does not fit: {error}")
    rendered = texts(planned, tmp_path / "run")
    words = {word for text in rendered.values() for word in re.findall(r"\w+", text)}
    assert {"activation_checkpointing", "OMP_NUM_THREADS"} <= words
    assert not NAMES & words
    assert not {(name, str(value)) for name, value in planned.plan.trainer.items()} & VALUES


def test_the_check_knows_the_names_it_looks_for():
    """An empty table would let everything pass."""
    assert {"gradient_checkpointing", "PYTORCH_CUDA_ALLOC_CONF", "torch_dtype"} <= NAMES
    assert ("loss_type", "chunked_nll") in VALUES
