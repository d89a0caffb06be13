"""A recipe of ten lines, its data beside it, and hardware to plan for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from launcher.cluster.schema import Cluster
from launcher.errors import LauncherError, RecipeErrors
from launcher.plan.facts import gather
from launcher.plan.make import Planned, make_plan
from launcher.plan.types import Plan
from launcher.recipe.load import LoadedRecipe, load_recipe
from tests.support import tiny

CPU = Cluster("local", None, gpus_per_node=0, cpus_per_node=2, memory_gib=24.0)
RECIPE = """\
model: {model_name_or_path: Qwen/Qwen3-0.6B}
peft: {r: 8}
data:
  datasets:
    - {label: sums, path: train.jsonl, columns: {prompt: question, completion: answer}}
training: {global_batch_size: 16}
"""
ROWS = 100


def recipe(folder: Path, text: str = RECIPE, sets: Sequence[str] = ()) -> LoadedRecipe:
    """The recipe as `small.yaml` in `folder`, 100 rows of sums as `train.jsonl` beside it."""
    if not (folder / "train.jsonl").exists():
        tiny.jsonl(folder / "train.jsonl", tiny.words(ROWS))
    (folder / "small.yaml").write_text(text, encoding="utf-8")
    return load_recipe(folder / "small.yaml", sets)


def planned(folder: Path, text: str = RECIPE, sets: Sequence[str] = (), cluster: Cluster = CPU) -> Planned:
    """The plan of the recipe on `cluster`."""
    loaded = recipe(folder, text, sets)
    return make_plan(loaded, cluster, gather(loaded, cluster))


def plan(folder: Path, *sets: str, cluster: Cluster = CPU, text: str = RECIPE) -> Plan:
    """The plan with some keys set."""
    return planned(folder, text, sets, cluster).plan


def faults(fault: LauncherError) -> list[str]:
    """Message and hint of each error in `fault`."""
    each = fault.errors if isinstance(fault, RecipeErrors) else (fault,)
    return [f"{error}\nhint: {error.hint}" for error in each]
