"""The lock file: what it is made of, what a plan takes from it, and what is refused."""

import dataclasses
import json
from pathlib import Path

import pytest

from launcher.errors import EnvironmentFault, RecipeErrors
from launcher.plan import codec, lock_file, pins
from launcher.plan.hub_cache import FileFacts, file_fault
from launcher.plan.pins import Pin
from tests.support import planning

A, B = "a" * 40, "b" * 40
MODEL = Pin("model", "Qwen/Qwen3-0.6B", "main", {}, A, {"config.json": FileFacts(2, "sha1:1")})
DATA = Pin("dataset", "me/sums", "main", {"split": "train"}, B, {"a.jsonl": FileFacts(2, "sha1:1")}, {"train": ("a.jsonl",)})  # fmt: skip
OTHER = "data.datasets.sums.path=me/sums"
KNOWN = "data.datasets.sums.format=prompt_completion"


def locked(folder: Path, **found: Pin) -> None:
    """Write `small.lock` beside the recipe."""
    named = {key.replace("_", "."): pin for key, pin in found.items()}
    (folder / "small.lock").write_text(pins.dumps(named))


def test_a_lock_file_says_what_was_pinned(tmp_path):
    """The same pins give the same text, which is fit for version control."""
    locked(tmp_path, model=MODEL, data_sums=DATA)
    text = (tmp_path / "small.lock").read_text()
    assert pins.read(tmp_path / "small.lock") == {"model": MODEL, "data.sums": DATA}
    assert pins.dumps(pins.read(tmp_path / "small.lock")) == text
    assert pins.read(tmp_path / "none.lock") == {}


def test_a_plan_takes_the_commits_of_the_lock_file(tmp_path):
    """In what the worker loads, in the resolved recipe, and in the identity: another commit is another training."""
    open_plan = planning.plan(tmp_path, OTHER, KNOWN)
    locked(tmp_path, model=MODEL, data_sums=DATA)
    plan = planning.plan(tmp_path, OTHER, KNOWN)
    assert (plan.model.revision, plan.data.sources[0].revision) == (A, B)
    assert plan.data.sources[0].hub_files == {"train": ("a.jsonl",)}
    assert (plan.recipe["model"]["revision"], plan.recipe["data"]["datasets"][0]["revision"]) == (A, B)
    assert (plan.identity["model.revision"], plan.identity["data.datasets.sums.revision"]) == (A, B)
    assert open_plan.identity["model.revision"] == "main"
    assert codec.loads(codec.dumps(plan)) == plan


def test_tokenizer_and_adapter_have_commits_of_their_own(tmp_path):
    """They are other repositories, and the recipe has no key for their revisions."""
    text = planning.RECIPE.replace("Qwen3-0.6B}", "Qwen3-0.6B, tokenizer_name_or_path: me/tok, adapter_name_or_path: me/lora}").replace("peft: {r: 8}\n", "")  # fmt: skip
    locked(tmp_path, tokenizer=dataclasses.replace(MODEL, repo="me/tok"), adapter=dataclasses.replace(MODEL, repo="me/lora", commit=B))  # fmt: skip
    plan = planning.plan(tmp_path, text=text)
    assert (plan.model.revision, plan.model.tokenizer_revision, plan.model.adapter_revision) == ("main", A, B)
    assert (plan.identity["model.tokenizer_revision"], plan.identity["model.adapter_revision"]) == (A, B)


def test_a_tokenizer_of_the_model_s_repository_has_the_model_s_revision(tmp_path):
    """`revision: v2` with a tokenizer that is named all the same."""
    text = planning.RECIPE.replace("Qwen3-0.6B}", "Qwen3-0.6B, revision: v2, tokenizer_name_or_path: Qwen/Qwen3-0.6B}")
    wants = lock_file.wants(planning.recipe(tmp_path, text), {})
    assert {key: want.revision for key, want in wants.items()} == {"model": "v2", "tokenizer": "v2"}


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["model.revision=v2"], "small.lock was made for revision `main` of `Qwen/Qwen3-0.6B`, the recipe asks for `v2`"),
        (["data.datasets.sums.split=test"], "small.lock was made for split train of `me/sums`, the recipe asks for split test"),
    ],
)  # fmt: skip
def test_an_outdated_lock_file_is_refused(tmp_path, sets, message):
    """With the place of the key, and the line that mends it."""
    locked(tmp_path, model=MODEL, data_sums=DATA)
    with pytest.raises(RecipeErrors) as caught:
        planning.plan(tmp_path, OTHER, KNOWN, *sets)
    (error,) = caught.value.errors
    assert error.message == message
    assert error.hint == f"`launcher fetch {tmp_path}/small.yaml` brings it, and the lock file, up to date"


@pytest.mark.parametrize("asked", [A, "main"])
def test_the_commit_itself_is_the_same_revision(tmp_path, asked):
    """A recipe may be made to say what the lock says."""
    locked(tmp_path, model=MODEL)
    assert planning.plan(tmp_path, f"model.revision={asked}").model.revision == A


def test_another_model_stays_open(tmp_path, monkeypatch):
    """A try with `--set` of what was never fetched takes nothing from the lock of another."""
    monkeypatch.setenv("HF_HUB_CACHE", "/nowhere")
    locked(tmp_path, model=MODEL)
    assert planning.plan(tmp_path, "model.model_name_or_path=Qwen/Qwen3-8B").model.revision == "main"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not JSON"),
        ('{"lock": 2}', "has version 2, this launcher reads 1"),
        ('{"lock": 1, "pins": {"model": {}}}', "is damaged"),
        (pins.dumps({"model": MODEL}).replace("config.json", "../../x"), "is damaged (the file name `../../x`)"),
        (pins.dumps({"model": MODEL}).replace(A, "main"), "is damaged (the commit `main`)"),
    ],
)
def test_a_damaged_lock_file_is_refused(tmp_path, text, said):
    """A name in it must not lead out of the snapshot."""
    (tmp_path / "small.lock").write_text(text)
    with pytest.raises(EnvironmentFault) as caught:
        planning.plan(tmp_path)
    assert f"small.lock {said}" in caught.value.message
    assert "delete it" in (caught.value.hint or "")


def test_a_shipped_recipe_is_locked_in_the_current_folder(tmp_path, monkeypatch):
    """Its own folder belongs to the package."""
    from launcher.recipe.load import load_recipe

    monkeypatch.chdir(tmp_path)
    loaded = load_recipe(Path("launcher:qwen3-8b-qlora-sft.yaml"))
    assert lock_file.lock_file(loaded) == tmp_path / "qwen3-8b-qlora-sft.lock"
    assert lock_file.typed(loaded) == "launcher:qwen3-8b-qlora-sft.yaml"


def test_git_s_hash_is_git_s(tmp_path):
    """`printf 'hello\\n' | git hash-object --stdin`."""
    (tmp_path / "a").write_text("hello\n")
    hash_of_git = "sha1:ce013625030ba8dba906f756967f9e9ca394464a"
    assert file_fault(tmp_path / "a", FileFacts(6, hash_of_git), hashes=True) is None
    assert file_fault(tmp_path / "a", FileFacts(6, hash_of_git.replace("ce", "cf")), hashes=True)
    assert file_fault(tmp_path / "a", FileFacts(7, hash_of_git), hashes=False) == "has 6 bytes instead of 7"
    assert file_fault(tmp_path / "b", FileFacts(7, hash_of_git), hashes=False) == "is missing"


def test_a_run_keeps_what_it_takes_from_the_hub(tmp_path):
    """`hub.json` has the form of a lock file; without pins there is none."""
    from launcher.render.files import texts
    from launcher.runs.paths import RunDir

    run = RunDir(tmp_path / "run")
    assert run.hub not in texts(planning.planned(tmp_path), run.root)
    locked(tmp_path, model=MODEL)
    made = texts(planning.planned(tmp_path), run.root)
    run.root.mkdir()
    run.hub.write_text(made[run.hub])
    assert json.loads(made[run.hub])["pins"]["model"]["commit"] == A
    assert [str(each) for each in pins.missing_of_run(run)] == ["model: config.json of `Qwen/Qwen3-0.6B` is missing"]
