"""The shipped profiles: each is read, each queue plans a small recipe, and the template and the page say what the schema says."""

import re

import pytest

from launcher.cluster import reference
from launcher.cluster.load import load_cluster
from launcher.cluster.profile import Profile
from launcher.cluster.profiles import find, read_profile
from launcher.recipe.schema_walk import leaves
from launcher.recipe.shipped import shipped
from tests.support import planning

FOLDER = shipped("slurm") / "clusters"
NAMES = sorted(each.stem for each in FOLDER.glob("*.yaml"))
QUEUES = [f"{name}:{queue}" for name in NAMES for queue in read_profile(FOLDER / f"{name}.yaml").profile.queues]


@pytest.fixture(autouse=True)
def only_shipped(monkeypatch, tmp_path):
    """No profile of the person who runs the tests; the variables that profiles use."""
    monkeypatch.delenv("LAUNCHER_CLUSTERS", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("USER", "someone")
    monkeypatch.setenv("WORK", "/work")


def test_there_are_typical_ones():
    """Offline with Apptainer, Pyxis, preemptible, small, without requeueing."""
    profiles = [read_profile(find(name)).profile for name in NAMES]
    assert len(NAMES) >= 7
    assert {each.container.runtime for each in profiles if each.container} == {"apptainer", "pyxis"}
    assert any(queue.preemptible for each in profiles for queue in each.queues.values())
    assert {True, False} == {each.requeue for each in profiles} == {each.internet for each in profiles}


@pytest.mark.parametrize("name", QUEUES)
def test_a_small_recipe_plans_on_every_queue(name, tmp_path):
    """As many ranks as the node has GPUs, of the profile's kind."""
    cluster = load_cluster(name)
    planned = planning.planned(tmp_path, cluster=cluster)
    (train,) = (job for job in planned.plan.jobs if job.stage == "train")
    assert train.processes == max(cluster.gpus_per_node, 1)
    device = next(each for each in planned.plan.decisions if each.key == "device")
    assert device.value == ("cuda" if cluster.gpu else "cpu")


def test_the_page_and_the_template_are_current():
    """`python -m launcher.cluster.reference` writes both."""
    assert reference.PAGE.read_text(encoding="utf-8") == reference.page()
    assert reference.TEMPLATE.read_text(encoding="utf-8") == reference.template()


def test_the_template_with_every_key_is_a_profile(tmp_path):
    """What stands behind `#` is what one may write: nothing is left out, and nothing is refused."""
    text = re.sub(r"^( *)#(?=[a-z_]+:)", r"\1", reference.template(), flags=re.MULTILINE)
    (tmp_path / "all.yaml").write_text(text, encoding="utf-8")
    loaded = read_profile(tmp_path / "all.yaml")
    keys = {key.replace(".NAME", ".gpu") for key, _ in leaves(Profile)}
    assert keys == {key for key in loaded.places if key in keys}


def test_every_key_is_explained():
    """A row each, with a sentence."""
    rows = [line.split(" | ") for line in reference.page().splitlines() if line.startswith("| `")]
    assert all(row[1].endswith(".") for row in rows)
    assert len(rows) == len(list(leaves(Profile)))
