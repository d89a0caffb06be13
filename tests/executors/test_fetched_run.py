"""A run of what was fetched, without a network: bit for bit the run of the same model and data in a folder."""

import json
import shutil
from pathlib import Path

import pytest

from launcher.cluster import hub as site_hub
from launcher.cluster.load import load_cluster
from launcher.cluster.profile import Paths, Profile, Queue
from launcher.cluster.schema import Cluster, Site
from launcher.executors import fetch
from launcher.plan.facts import gather
from launcher.plan.make import Planned, make_plan
from launcher.recipe.load import load_recipe
from launcher.runs.paths import RunDir
from tests.support import hub, project, tiny, trained

pytestmark = pytest.mark.slow

RECIPE = """
model: {model_name_or_path: me/model}
data:
  datasets: [{label: sums, path: me/sums, columns: {prompt: question, completion: answer}, format: prompt_completion}]
  eval_datasets: [{label: test, path: me/sums, split: test, columns: {prompt: question, completion: answer}, format: prompt_completion}]
  max_length: 64
training: {global_batch_size: 4, max_steps: 3, learning_rate: 0.001}
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Path:
    """What the recipe names was fetched into `home`; the hub is gone since."""
    folder = tmp_path_factory.mktemp("shop")
    tiny.model(folder / "model")
    tiny.jsonl(folder / "sums" / "train.jsonl", tiny.words(40))
    tiny.jsonl(folder / "sums" / "test.jsonl", tiny.words(8, seed=3))
    (folder / "fetched.yaml").write_text(RECIPE)
    with hub.serving() as server:
        server.push("models", "me/model", folder / "model")
        server.push("datasets", "me/sums", folder / "sums")
        done = project.launcher("fetch", "fetched.yaml", cwd=folder, env=server.environment(folder / "home"))
    assert done.returncode == 0, done.stderr
    (folder / "env.json").write_text(json.dumps(server.environment(folder / "home", offline=True)))
    return folder


def run(shop: Path, recipe: str) -> RunDir:
    env = json.loads((shop / "env.json").read_text())
    done = project.launcher("run", recipe, cwd=shop, env=env)
    assert done.returncode == 0, done.stderr
    return RunDir(shop / "runs" / Path(recipe).stem)


@pytest.mark.train
def test_it_trains_what_the_same_model_and_data_in_folders_train(shop):
    """The same rows in the same order from the same weights: the same losses and the same result."""
    local = RECIPE.replace("me/model", "model").replace("me/sums, split: test", "sums/test.jsonl").replace("me/sums", "sums/train.jsonl")  # fmt: skip
    (shop / "local.yaml").write_text(local)
    fetched, here = run(shop, "fetched.yaml"), run(shop, "local.yaml")
    assert trained.facts(fetched)["sets"]["train"]["sha256"] == trained.facts(here)["sets"]["train"]["sha256"]
    assert trained.facts(fetched)["tokenizer"] == trained.facts(here)["tokenizer"]
    assert trained.losses(fetched) == trained.losses(here)
    assert trained.weights(fetched.model) == trained.weights(here.model)
    assert trained.weights(fetched.model) != trained.weights(shop / "model")


@pytest.mark.train
def test_adapter_and_tokenizer_of_other_repositories_come_at_their_commits(shop):
    """Their branches have moved on, to what could not be loaded; the lock file has not."""
    tiny.tokenizer(shop / "tokenizer")
    adapter(shop / "lora")
    recipe = RECIPE.replace("me/model}", "me/model, tokenizer_name_or_path: me/tok, adapter_name_or_path: me/lora}")
    (shop / "parts.yaml").write_text(recipe)
    (shop / "broken").mkdir()
    (shop / "broken" / "tokenizer.json").write_text("{}")
    with hub.serving() as server:
        for kind, name, folder in (("models", "model", "model"), ("models", "tok", "tokenizer"), ("models", "lora", "lora"), ("datasets", "sums", "sums")):  # fmt: skip
            server.push(kind, f"me/{name}", shop / folder)
        env = server.environment(shop / "home")
        done = project.launcher("fetch", "parts.yaml", cwd=shop, env=env)
        assert done.returncode == 0, done.stderr
        for name in ("tok", "lora"):
            moved = server.push("models", f"me/{name}", shop / "broken")
            (shop / "home" / "hub" / f"models--me--{name}" / "refs" / "main").write_text(moved)
    made = run(shop, "parts.yaml")
    assert len(trained.losses(made)) == 3
    assert json.loads((made.model / "adapter_config.json").read_text())["r"] == 4


def adapter(folder: Path) -> None:
    """A LoRA adapter of the tiny model's queries, as peft names its tensors."""
    import numpy as np
    from safetensors.numpy import save_file

    folder.mkdir()
    random, at = np.random.default_rng(0), "base_model.model.model.layers.{}.self_attn.q_proj.lora_{}.weight"
    shapes = {at.format(layer, half): shape for layer in (0, 1) for half, shape in (("A", (4, 64)), ("B", (64, 4)))}
    save_file({name: random.normal(0, 0.01, shape).astype(np.float32) for name, shape in shapes.items()}, folder / "adapter_model.safetensors")  # fmt: skip
    config = {**tiny.LORA, "peft_type": "LORA", "target_modules": ["q_proj"], "base_model_name_or_path": "me/model"}
    (folder / "adapter_config.json").write_text(json.dumps(config))


def planned(shop: Path, monkeypatch: pytest.MonkeyPatch) -> Planned:
    monkeypatch.setenv("HF_HOME", str(shop / "home"))
    monkeypatch.chdir(shop)
    loaded, cluster = load_recipe(Path("fetched.yaml")), load_cluster("local", gpus="none")
    return make_plan(loaded, cluster, gather(loaded, cluster))


def site(cache: Path | None, *, internet: bool = False) -> Site:
    queue = Queue(partition="main")
    profile = Profile(
        cpus_per_node=8, memory_gib_per_node=16, queues={"main": queue}, paths=Paths(cache=cache and str(cache)), internet=internet
    )  # fmt: skip
    return Site("alpha", profile, "main")


def test_a_submitter_sees_what_is_missing_before_it_submits(shop, tmp_path, monkeypatch):
    """Nothing where all is there; else each file, whether it is away or cut off."""
    made = planned(shop, monkeypatch)
    assert fetch.missing(made, site(shop / "home")) == []
    assert len(fetch.missing(made, site(tmp_path / "empty"))) == 5 + 1 + 1, "the model's files, and one of each split"
    shutil.copytree(shop / "home", tmp_path / "home", symlinks=True)
    weights = next((tmp_path / "home").rglob("model.safetensors"))
    weights.resolve().write_bytes(b"cut off")
    size = (shop / "model" / "model.safetensors").stat().st_size
    assert list(map(str, fetch.missing(made, site(tmp_path / "home")))) == [
        f"model: model.safetensors of `me/model` has 7 bytes instead of {size:,}"
    ]


def test_what_was_never_fetched_is_missing_where_there_is_no_internet(shop, monkeypatch):
    """No lock file says which files these are."""
    (shop / "fetched.lock").rename(shop / "kept.lock")
    try:
        made = planned(shop, monkeypatch)
    finally:
        (shop / "kept.lock").rename(shop / "fetched.lock")
    found = fetch.missing(made, site(shop / "home"))
    assert [(each.key, each.repo) for each in found] == [("model", "me/model"), ("data.sums", "me/sums"), ("data.test", "me/sums")]  # fmt: skip
    assert fetch.missing(made, site(shop / "home", internet=True)) == []


def test_jobs_of_a_site_without_internet_ask_nobody(monkeypatch):
    """Neither the hub nor a tracker: each would be asked again and again before it is given up."""
    monkeypatch.setenv("SHARED", "/shared")
    away = site_hub.environment(site(Path("$SHARED/hf")))
    assert away["HF_HOME"] == "/shared/hf"
    assert (away["HF_HUB_OFFLINE"], away["WANDB_MODE"]) == ("1", "offline")
    assert site_hub.environment(site(None, internet=True)) == {}


def test_a_site_s_cache_is_where_things_are_fetched_to_and_planned_from(shop, monkeypatch):
    """HF_HOME of who types is another folder."""
    monkeypatch.setenv("HF_HOME", "/nowhere")
    monkeypatch.chdir(shop)
    loaded = load_recipe(Path("fetched.yaml"))
    there = Cluster("alpha", None, 0, 8, 16.0, paths={"cache": str(shop / "home")}, site=site(shop / "home"))
    assert fetch.fetch(loaded, there).downloaded == 0
    assert make_plan(loaded, there, gather(loaded, there)).plan.model.context_length == 512
