"""`launcher fetch` against a hub on loopback: what arrives, what is refused, and that it is told in time (F49)."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import hub, project, tiny
from tests.support.disks import mounted
from tests.support.hub import Hub
from tests.support.until import until

RECIPE = """
model: {model_name_or_path: me/model}
data:
  datasets: [{label: sums, path: sums.jsonl, columns: {prompt: question, completion: answer}}]
  max_length: 64
training: {global_batch_size: 4}
"""


@pytest.fixture
def server() -> Iterator[Hub]:
    with hub.serving() as served:
        yield served


@pytest.fixture
def shop(tmp_path, server) -> Path:
    """A folder with a recipe that names `me/model`, which the hub has with pickles and code beside the safetensors."""
    model = tiny.model(tmp_path / "up")
    (model / "pytorch_model.bin").write_bytes(b"a pickle")
    (model / "modeling_mine.py").write_text("raise SystemExit")
    (model / "onnx").mkdir()
    (model / "onnx" / "config.json").write_text("{}")
    server.push("models", "me/model", model)
    tiny.jsonl(tmp_path / "sums.jsonl", tiny.words(20))
    (tmp_path / "sums.yaml").write_text(RECIPE)
    return tmp_path


def fetch(shop: Path, server: Hub, *words: str, recipe: str = "sums.yaml", env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:  # fmt: skip
    server.seen.clear()
    return project.launcher("fetch", recipe, *words, cwd=shop, env={**server.environment(shop / "home"), **(env or {})})


def plan(shop: Path, server: Hub, *words: str) -> subprocess.CompletedProcess[str]:
    return project.launcher("plan", "sums.yaml", *words, cwd=shop, env=server.environment(shop / "home", offline=True))


def snapshot(shop: Path, commit: str) -> Path:
    return shop / "home" / "hub" / "models--me--model" / "snapshots" / commit


def model_pin(shop: Path) -> dict:
    return json.loads((shop / "sums.lock").read_text())["pins"]["model"]


SAFE = ["chat_template.jinja", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]


def test_safetensors_and_text_arrive_and_are_locked(shop, server):
    """No pickle, no code, no other export; and the lock says the bytes that the hub has."""
    done = fetch(shop, server)
    assert done.returncode == 0, done.stderr
    pin = model_pin(shop)
    found = snapshot(shop, pin["commit"])
    assert sorted(path.name for path in found.iterdir()) == sorted(pin["files"]) == SAFE
    assert all((found / name).read_bytes() == (shop / "up" / name).read_bytes() for name in SAFE)
    assert pin["files"]["model.safetensors"]["size"] == (shop / "up" / "model.safetensors").stat().st_size
    assert pin["revision"] == "main"


def test_a_second_fetch_asks_the_hub_for_nothing(shop, server):
    """By the lock, all is there: it works where there is no network."""
    fetch(shop, server)
    done = fetch(shop, server, env={"HF_HUB_OFFLINE": "1"})
    assert done.returncode == 0, done.stderr
    assert "nothing downloaded" in done.stdout
    assert server.seen == []


def test_facts_are_enough_for_a_plan(shop, server):
    """The shapes of the weights come from their headers, of a type that no formula knows; the weights stay where they are."""
    server.push("models", "me/model", tiny.model(shop / "big", model_type="helium"))
    assert plan(shop, server).returncode == 4
    done = fetch(shop, server, "--facts")
    assert done.returncode == 0, done.stderr
    found = snapshot(shop, model_pin(shop)["commit"])
    assert not (found / "model.safetensors").exists()
    noted = json.loads((found.parent.parent / "headers" / f"{found.name}.json").read_text())
    assert noted["model.safetensors"]["model.embed_tokens.weight"] == [384, 64]
    assert plan(shop, server).returncode == 0


def test_a_plan_without_the_model_names_the_command(shop, server):
    """Exit 4; the network is not asked."""
    done = plan(shop, server)
    assert done.returncode == 4
    assert "`launcher fetch sums.yaml --facts`" in done.stderr
    assert server.seen == []


def test_a_branch_that_moves_leaves_the_lock_where_it_is(shop, server):
    """Also in an empty cache; `--update` moves it."""
    fetch(shop, server)
    first = model_pin(shop)["commit"]
    second = server.push("models", "me/model", tiny.model(shop / "newer", seed=1))
    assert second != first
    done = fetch(shop, server, env={"HF_HOME": str(shop / "other")})
    assert done.returncode == 0, done.stderr
    assert (shop / "other" / "hub" / "models--me--model" / "snapshots" / first / "model.safetensors").is_file()
    assert model_pin(shop)["commit"] == first
    assert json.loads(plan(shop, server, "--json").stdout)["model"]["revision"] == first
    fetch(shop, server, "--update")
    assert model_pin(shop)["commit"] == second
    assert json.loads(plan(shop, server, "--json").stdout)["identity"]["model.revision"] == second


def test_another_revision_than_the_locked_is_refused_and_fetch_mends_it(shop, server):
    """A lock that silently won, or silently lost, would train another model than one reads."""
    fetch(shop, server)
    tagged = server.push("models", "me/model", tiny.model(shop / "tagged", seed=2), branch="v2")
    (shop / "sums.yaml").write_text(RECIPE.replace("me/model}", "me/model, revision: v2}"))
    done = plan(shop, server)
    assert done.returncode == 2
    assert "sums.yaml:2:" in done.stderr
    assert "sums.lock was made for revision `main` of `me/model`, the recipe asks for `v2`" in done.stderr
    assert "hint:  `launcher fetch sums.yaml`" in done.stderr
    assert fetch(shop, server).returncode == 0
    assert json.loads(plan(shop, server, "--json").stdout)["model"]["revision"] == tagged


def test_a_download_that_is_killed_leaves_nothing_that_looks_whole(shop, server):
    """kill -9 in the middle of the weights; the next fetch brings the rest, and what the dead one left goes in time."""
    server.stalls.add("model.safetensors")
    env = {**os.environ, **server.environment(shop / "home")}
    with subprocess.Popen([sys.executable, "-m", "launcher", "fetch", "sums.yaml"], cwd=shop, env=env, stderr=subprocess.DEVNULL, start_new_session=True) as process:  # fmt: skip
        blobs = shop / "home" / "hub" / "models--me--model" / "blobs"
        until(lambda: blobs.exists() and len([path for path in blobs.iterdir() if path.suffix != ".incomplete"]) == 4)
        until(lambda: list(blobs.glob("*.incomplete")))
        os.killpg(process.pid, signal.SIGKILL)
    server.stalls.clear()
    assert not (shop / "sums.lock").exists()
    left = list(blobs.glob("*.incomplete"))
    assert left
    for path in left:
        os.utime(path, (0, 0))
    done = fetch(shop, server)
    assert done.returncode == 0, done.stderr
    assert server.downloads() == ["model.safetensors"]
    assert (snapshot(shop, model_pin(shop)["commit"]) / "model.safetensors").read_bytes() == (shop / "up" / "model.safetensors").read_bytes()  # fmt: skip
    assert not list(blobs.glob("*.incomplete"))


def test_bytes_with_another_hash_are_refused_and_do_not_stay(shop, server):
    """The size is right: only the hash tells."""
    server.damaged.add("model.safetensors")
    done = fetch(shop, server)
    assert done.returncode == 4
    assert "model.safetensors of `me/model`" in done.stderr
    assert "is damaged: its hash is another, though it was just downloaded" in done.stderr
    assert not list((shop / "home").rglob("model.safetensors"))
    assert not (shop / "sums.lock").exists()
    server.damaged.clear()
    assert fetch(shop, server).returncode == 0


def test_the_lock_is_the_authority_on_what_a_commit_holds(shop, server):
    """A hub that serves other bytes for the same commit is not believed."""
    fetch(shop, server)
    files = server.repositories["models/me/model"].commits[model_pin(shop)["commit"]]
    files["config.json"] = files["config.json"].replace(b"512", b"513")
    done = fetch(shop, server, env={"HF_HOME": str(shop / "other")})
    assert done.returncode == 4
    assert "config.json of `me/model`" in done.stderr


def test_a_file_that_was_cut_off_is_brought_again(shop, server):
    """Sizes are looked at each time."""
    fetch(shop, server)
    weights = snapshot(shop, model_pin(shop)["commit"]) / "model.safetensors"
    weights.resolve().write_bytes(weights.read_bytes()[:-8])
    done = fetch(shop, server)
    assert done.returncode == 0, done.stderr
    assert server.downloads() == ["model.safetensors"]
    assert weights.read_bytes() == (shop / "up" / "model.safetensors").read_bytes()


def test_check_reads_every_byte(shop, server):
    """One bit in the middle of the weights, found by `--check` alone, and mended by it."""
    fetch(shop, server)
    weights = snapshot(shop, model_pin(shop)["commit"]) / "model.safetensors"
    whole = weights.read_bytes()
    weights.resolve().write_bytes(whole[:200_000] + bytes([whole[200_000] ^ 1]) + whole[200_001:])
    assert "nothing downloaded" in fetch(shop, server).stdout
    offline = fetch(shop, server, "--check", env={"HF_HUB_OFFLINE": "1"})
    assert offline.returncode == 4
    assert (
        "model.safetensors of `me/model` is damaged: its hash is another, and HF_HUB_OFFLINE is set" in offline.stderr
    )
    assert fetch(shop, server, "--check").returncode == 0
    assert weights.read_bytes() == whole


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (("model.model_name_or_path=me/nothing",), "has no `me/nothing`, or hides it", "check the name"),
        (("model.revision=v9",), "model `me/model` has no such revision", "its branches and tags: "),
        (("model.adapter_name_or_path=me/model",), "adapter `me/model` has no adapter_config.json", "name a LoRA"),
    ],
)
def test_what_the_hub_does_not_have_is_said(shop, server, words, message, hint):
    """With what to do about it."""
    done = fetch(shop, server, *(word for each in words for word in ("--set", each)))
    assert done.returncode == 4
    assert message in done.stderr
    assert f"hint:  {hint}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_gated_repository_is_told_from_a_missing_one(shop, server):
    """The terms are accepted on the hub's page, which the hint names."""
    server.repositories["models/me/model"].closed = "GatedRepo"
    done = fetch(shop, server)
    assert done.returncode == 4
    assert "model `me/model` is gated" in done.stderr
    assert f"{server.url}/me/model" in done.stderr


def test_a_model_of_pickles_is_refused(shop, server):
    """They run code when they are read."""
    (shop / "up" / "model.safetensors").unlink()
    server.push("models", "me/model", shop / "up")
    done = fetch(shop, server)
    assert done.returncode == 4
    assert "has no model.safetensors, but only pickles (pytorch_model.bin)" in done.stderr
    assert server.downloads() == []


def test_code_comes_where_it_is_trusted(shop, server):
    """And only then."""
    assert fetch(shop, server, "--set", "model.trust_remote_code=true").returncode == 0
    assert "modeling_mine.py" in model_pin(shop)["files"]


@pytest.mark.parametrize("silent", [False, True])
def test_a_hub_that_does_not_answer_is_told_in_ten_seconds(shop, server, silent):
    """Nobody listens; or somebody takes the connection and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1] if silent else 9}"
        began = time.monotonic()
        done = fetch(shop, server, env={"HF_ENDPOINT": address})
        took = time.monotonic() - began
    assert done.returncode == 4
    assert "`me/model`" in done.stderr
    assert "Traceback" not in done.stderr
    assert took < 10 + 5, "10 s, and the start of two interpreters on a busy machine"


def test_what_the_hub_has_no_part_in_is_not_fetched(shop, server):
    """A model built from its configuration with a tokenizer and data of this machine."""
    tiny.tokenizer(shop / "tokenizer")
    recipe = RECIPE.replace("model_name_or_path: me/model", "from_config: {model_type: qwen3}, tokenizer_name_or_path: tokenizer")  # fmt: skip
    (shop / "own.yaml").write_text(recipe)
    done = fetch(shop, server, recipe="own.yaml")
    assert done.returncode == 0, done.stderr
    assert "nothing to fetch" in done.stdout
    assert not (shop / "own.lock").exists()


def test_shards_come_by_their_index(shop, server):
    """A shard of another export beside them does not."""
    folder = shop / "sharded"
    tiny.model(folder)
    for number in (1, 2):
        (folder / f"model-0000{number}-of-00002.safetensors").write_bytes((folder / "model.safetensors").read_bytes() + bytes([number]))  # fmt: skip
    (folder / "consolidated.safetensors").write_bytes(b"x")
    (folder / "model.safetensors").unlink()
    names = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    index = {"weight_map": {"a": names[0], "b": names[1]}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    server.push("models", "me/model", folder)
    done = fetch(shop, server)
    assert done.returncode == 0, done.stderr
    assert [name for name in model_pin(shop)["files"] if name.endswith(".safetensors")] == names


def test_a_full_disk_is_told_before_anything_is_downloaded(shop, server):
    """By the sizes that the hub states."""
    with mounted(shop / "small", "size=300k"):
        done = fetch(shop, server, env={"HF_HOME": str(shop / "small")})
    assert done.returncode == 4
    assert f"`me/model` takes 0.4 MiB more, {shop}/small/hub has 0.3 MiB free" in done.stderr
    assert server.downloads() == []


def test_two_that_fetch_at_once_do_not_disturb_each_other(shop, server):
    """Two login nodes with one cache."""
    env = {**os.environ, **server.environment(shop / "home")}
    words = [sys.executable, "-m", "launcher", "fetch", "sums.yaml"]
    both = [subprocess.Popen(words, cwd=shop, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]  # fmt: skip
    said = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert "nothing downloaded" in fetch(shop, server, "--check").stdout
