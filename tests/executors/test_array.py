"""Many runs at once, up to the point where SLURM is asked: what is planned, what is refused, what goes together."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.cli.main import main
from launcher.cluster.load import load_cluster
from launcher.cluster.schema import Cluster
from launcher.errors import RecipeErrors, UsageError
from launcher.executors import elements, pick
from launcher.executors.slurm import allocation, array
from launcher.executors.slurm.array import Wanted
from launcher.plan import facts
from launcher.recipe.variants import product
from tests.support import planning

PROFILE = """\
gpu: H100
gpus_per_node: 4
cpus_per_node: 96
memory_gib_per_node: 1000
stages: {{evaluate: job, prepare: job}}
requeue: {requeue}
queues: {{gpu: {{partition: gpu, max_time: "12:00:00"}}}}
"""


@pytest.fixture
def alpha(tmp_path: Path, monkeypatch) -> Cluster:
    (tmp_path / "clusters").mkdir()
    (tmp_path / "clusters" / "alpha.yaml").write_text(PROFILE.format(requeue="true"))
    (tmp_path / "clusters" / "beta.yaml").write_text(PROFILE.format(requeue="false"))
    monkeypatch.setenv("LAUNCHER_CLUSTERS", str(tmp_path / "clusters"))
    monkeypatch.setenv("LAUNCHER_RUNS", str(tmp_path / "runs"))
    return load_cluster("alpha")


@pytest.fixture
def recipe(tmp_path: Path):
    """`recipe(NAME, SETS…)`: a file of that name."""

    def make(name: str, text: str = planning.RECIPE) -> Path:
        planning.recipe(tmp_path)
        path = tmp_path / f"{name}.yaml"
        path.write_text(text)
        return path

    return make


def test_each_recipe_in_each_variant_has_a_run_of_its_own_name(alpha, recipe):
    found = elements.plan([recipe("a"), recipe("b")], ["peft.r=4"], product(["training.seed=1,2"]), alpha)
    assert [each.name for each in found] == ["a-seed-1", "a-seed-2", "b-seed-1", "b-seed-2"]
    assert [each.planned.plan.trainer["seed"] for each in found] == [1, 2, 1, 2]
    assert {each.planned.plan.peft["r"] for each in found} == {4}


def test_the_files_of_a_recipe_are_looked_at_once(alpha, recipe, monkeypatch):
    """A thousand variants of the training must not read the same gigabytes a thousand times; another file is another look."""
    looks = []
    monkeypatch.setattr(elements, "gather", lambda *args: looks.append(args) or facts.gather(*args))
    path = recipe("a")
    elements.plan([path], [], product(["training.seed=1,2,3", "training.learning_rate=1e-4,1e-5"]), alpha)
    assert len(looks) == 1
    elements.plan([path], [], product(["data.max_length=64,128"]), alpha)
    assert len(looks) == 3


def test_all_faults_of_all_runs_at_once_each_once(alpha, recipe):
    with pytest.raises(RecipeErrors) as caught:
        elements.plan([recipe("a")], [], product(["training.seed=1,x", "peft.q=1,2"]), alpha)
    said = [str(each) for each in caught.value.errors]
    assert [each.partition(": ")[0] for each in said] == ["--set peft.q=1", "--set peft.q=2", "--set training.seed=x"]


def test_two_runs_of_one_name_are_refused(alpha, recipe):
    with pytest.raises(UsageError, match=r"two of these runs are called `a`: a.yaml and b.yaml"):
        elements.plan([recipe("a"), recipe("b", f"name: a\n{planning.RECIPE}")], [], product([]), alpha)


def wanted(runs: Path, cluster: Cluster, paths: list[Path], *each: str) -> list[Wanted]:
    planned = elements.plan(paths, [], product(each), cluster)
    return [Wanted(pick.by_recipe(runs, one.planned).run_dir, one.planned.plan, one.loaded) for one in planned]


def test_runs_that_ask_for_the_same_go_together(alpha, recipe, tmp_path):
    """Names and mathematics may differ; GPUs, time and stages may not: SLURM has one request for a whole array."""
    measured = planning.RECIPE.replace("data:", "data:\n  eval_datasets: [{label: held_out, from: all, fraction: 0.1}]")
    paths = [
        recipe("a"),
        recipe("b"),
        recipe("two", planning.RECIPE + "launch: {gpus: 2}\n"),
        recipe("short", planning.RECIPE + "launch: {time_limit: '01:00:00'}\n"),
        recipe("measured", measured),
    ]
    runs = wanted(tmp_path / "runs", alpha, paths, "training.seed=1,2")
    groups = array._groups(runs, alpha.site)
    assert [[each.name for each in group.run_dirs] for group in groups] == [
        ["a-seed-1", "a-seed-2", "b-seed-1", "b-seed-2"],
        ["two-seed-1", "two-seed-2"],
        ["short-seed-1", "short-seed-2"],
        ["measured-seed-1", "measured-seed-2"],
    ]
    assert [[job.stage for job in group.left] for group in groups] == [
        *[["prepare", "train"]] * 3,
        ["prepare", "train", "evaluate"],
    ]
    assert [len(part.runs) for part in groups[0].parts(3)] == [3, 1]


@pytest.mark.parametrize(
    ("names", "common"),
    [
        (["tiny-lr-1e-4", "tiny-lr-1e-5"], "tiny-lr-1e"),
        (["tiny-lr-1", "tiny-lr-2"], "tiny-lr"),
        (["llama-8b", "llama-80b"], "llama"),
        (["a", "b"], "array"),
        (["a", "a-2"], "a"),
    ],
)
def test_an_array_is_called_by_what_its_names_share(names, common):
    assert array._common(names) == common


def test_an_element_never_goes_by_the_number_of_its_array():
    """One element has the number of the whole array: a signal to that number would reach all of them."""
    environ = {"SLURM_JOB_ID": "88", "SLURM_ARRAY_JOB_ID": "88", "SLURM_ARRAY_TASK_ID": "0"}
    assert allocation.own_id(environ) == "88_0"
    assert allocation.own_id({"SLURM_JOB_ID": "88"}) == "88"


@pytest.mark.parametrize(
    ("words", "error", "hint"),
    [
        ((), "several runs at once are an array of a SLURM cluster", "name one, `--cluster NAME`"),
        (("--cluster", "alpha", "--detach"), "`--detach` is for one run", "leave it out"),
        (("--cluster", "alpha", "--continue", "a"), "`--continue` is for one run", "leave it out"),
        (("--cluster", "alpha", "--throttle", "0"), "`--throttle 0`", "at least 1"),
        (("--cluster", "beta"), "beta:gpu does not let jobs requeue themselves", "one after the other"),
    ],
)
def test_what_cannot_be_an_array_is_refused_with_what_to_do(alpha, recipe, capsys, tmp_path, words, error, hint):
    path = recipe("a")
    assert main(["run", str(path), "--each", "training.seed=1,2", *words]) == 2
    said = capsys.readouterr().err
    assert f"error: {error}" in said
    assert f"hint:  {hint}" in said or hint in said.partition("hint:")[2]
    assert not (tmp_path / "runs").exists(), "refused, so nothing is made"


def test_a_run_among_recipes_is_refused(alpha, recipe, capsys):
    assert main(["run", str(recipe("a")), "old", "--cluster", "alpha"]) == 2
    assert "several runs are started by recipes, and `old` is none" in capsys.readouterr().err


def test_a_throttle_for_one_run_is_refused(alpha, recipe, capsys):
    assert main(["run", str(recipe("a")), "--throttle", "2", "--cluster", "alpha"]) == 2
    assert "`--throttle` is for several runs" in capsys.readouterr().err
