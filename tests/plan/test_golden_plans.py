"""Every shipped recipe on three kinds of hardware, byte for byte: a change of the planner is a reviewed difference."""

import re
import shutil
from pathlib import Path

import pytest

from launcher.catalog.gpus import gpu
from launcher.cluster.load import load_cluster
from launcher.cluster.schema import Cluster, Gpu
from launcher.errors import LauncherError
from launcher.plan import codec
from launcher.plan.facts import gather
from launcher.plan.make import make_plan
from launcher.recipe.load import load_recipe
from launcher.recipe.shipped import shipped
from launcher.render.plan_text import plan_text
from tests.support import golden, planning, tiny

ROOT = shipped("recipes").parent
RECIPES = sorted(
    path.relative_to(ROOT) for path in shipped("recipes").rglob("*.yaml") if path.parent != shipped("recipes") / "base"
)


def node(name: str, count: int, cores: int) -> Cluster:
    row = gpu(name)
    memory = round(row.memory_gib, 1)
    return Cluster("local", Gpu(row.name, memory, memory, bf16=row.bf16), count, cores, memory_gib=64.0)


HARDWARE = {"cpu": planning.CPU, "rtx4090x1": node("RTX4090", 1, 16), "h100x8": node("H100", 8, 128)}


def test_there_are_recipes():
    """A glob that finds nothing would make every test below pass."""
    assert len(RECIPES) >= 4
    assert Path("recipes/qwen3-8b-qlora-sft.yaml") in RECIPES


NAMED = {path: found[0] for path in RECIPES if (found := re.findall(r"--on (\w+x\d+)", (ROOT / path).read_text()))}


def test_large_recipes_name_the_hardware_they_are_made_for():
    """The test below is made of these headers."""
    large = {path for path in RECIPES if re.search(r"-\d+b-", path.name)}
    assert len(large) >= 5
    assert large <= set(NAMED)


@pytest.mark.parametrize(("recipe", "on"), NAMED.items(), ids=str)
def test_a_recipe_plans_on_the_hardware_that_its_header_names(recipe, on, monkeypatch):
    """A reader without that hardware can see what would run, by the command in the header."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("HF_HUB_CACHE", "/nowhere")
    cluster = load_cluster("local", on=on)
    loaded = load_recipe(recipe)
    plan = make_plan(loaded, cluster, gather(loaded, cluster)).plan

    assert plan.batch.world_size == cluster.gpus_per_node
    assert loaded.recipe.sharding.strategy in ("auto", plan.strategy)
    golden.check(f"plan/named-{recipe.stem}-{on.lower()}.txt", plan_text(plan, next_line=f"launcher run {recipe}"))


@pytest.mark.parametrize("hardware", HARDWARE)
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: "-".join(path.with_suffix("").parts[1:]))
def test_the_plan_of_every_recipe_is_as_reviewed(recipe, hardware, tmp_path, monkeypatch):
    """What a reader sees (`.txt`) and what the worker reads (`.json`); a recipe that does not fit says why."""
    for folder in ("recipes", "accelerate_configs"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    tiny.jsonl(tmp_path / "build/demo/base.jsonl", [{"prompt": "a", "completion": "b"}] * 1000)  # its script writes it
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_CACHE", "/nowhere")
    monkeypatch.delenv("LAUNCHER_DATA", raising=False)
    name = f"plan/{'-'.join(recipe.with_suffix('').parts[1:])}-{hardware}"
    try:
        loaded = load_recipe(recipe)
        plan = make_plan(loaded, HARDWARE[hardware], gather(loaded, HARDWARE[hardware])).plan
    except LauncherError as fault:
        golden.check(f"{name}.txt", "\n".join(f"error: {each}" for each in planning.faults(fault)) + "\n")
        return
    golden.check(f"{name}.txt", plan_text(plan, next_line=f"launcher run {recipe}"))
    golden.check(f"{name}.json", codec.dumps(plan))
