"""The command line stays light: planning never loads torch or anything of its family.

Times vary with the machine and are only recorded; `benchmarks/startup.py` measures them beside `trl --help`.
"""

import json
import os
import resource
import subprocess
import sys

import pytest

from launcher.cli.main import VERBS
from launcher.recipe.shipped import shipped

FAMILY = {"torch", "transformers", "trl", "peft", "datasets", "accelerate", "deepspeed", "bitsandbytes"}
# Cheap to need by accident, dear at start-up.
HEAVY = {"numpy", "pandas", "pyarrow", "rich", "jinja2", "requests", "huggingface_hub"}
ROOT = shipped("recipes").parent
RECIPES = sorted(str(path.relative_to(ROOT)) for path in shipped("recipes").glob("*.yaml"))
PROGRAM = """
import json, sys
from launcher.cli.main import main
try:
    code = main(sys.argv[1:])
except SystemExit as leave:
    code = leave.code
print(json.dumps([int(code or 0), sorted({name.partition(".")[0] for name in sys.modules})]), file=sys.stderr)
"""


def loaded(*argv: str) -> tuple[int, set[str], float]:
    """Exit code, top-level modules, and CPU seconds of one command in a fresh process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    answer = subprocess.run(
        [sys.executable, "-c", PROGRAM, *argv],
        cwd=ROOT,
        env={**os.environ, "HF_HUB_CACHE": "/nowhere"},
        capture_output=True,
        text=True,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    code, modules = json.loads(answer.stderr.splitlines()[-1])
    return code, set(modules), after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize("verb", ["", *(verb.name for verb in VERBS)])
def test_help_loads_nothing_heavy(verb, record_property):
    """Competitors that only meant to be light load torch for `--help` and take 4 to 14 CPU-seconds."""
    code, modules, cpu_s = loaded(*([verb] if verb else []), "--help")
    record_property("cpu_s", round(cpu_s, 3))
    assert code == 0
    assert not modules & (FAMILY | HEAVY | {"pydantic", "yaml"})


@pytest.mark.parametrize("recipe", RECIPES)
def test_plan_loads_nothing_heavy(recipe, record_property):
    """A plan is made on a login node, where torch is slow to load or not installed."""
    code, modules, cpu_s = loaded("plan", recipe, "--on", "RTX4090x1")
    record_property("cpu_s", round(cpu_s, 3))
    assert code in (0, 2, 3, 4)
    assert "launcher" in modules
    assert not modules & (FAMILY | HEAVY)


def test_there_are_recipes_to_plan():
    """An empty glob would test nothing."""
    assert RECIPES
