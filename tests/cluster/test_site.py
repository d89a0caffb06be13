"""Sites with a profile: where it is found, which queue is meant, and what the plan sees of it."""

import pytest

from launcher.cluster.load import load_cluster
from launcher.cluster.site import sites
from launcher.errors import RecipeErrors, UsageError

ALPHA = """\
gpu: A100-40GB
gpus_per_node: 4
gres: a100
cpus_per_node: 128
memory_gib_per_node: 500
account: site
queues:
  gpu: {partition: gpu, max_nodes: 16, account: queue}
  cpu: {gpu: none, cpus_per_node: 64, memory_gib_per_node: 250}
  old: {gpu: V100-16GB, gres: v100, gpus_per_node: 2}
paths: {data: "$PROJECT/data", cache: ~/cache, runs: "${PROJECT}/runs"}
"""


@pytest.fixture
def clusters(tmp_path, monkeypatch):
    """A folder of profiles with `alpha`, and a HOME of its own."""
    monkeypatch.setenv("LAUNCHER_CLUSTERS", str(tmp_path / "clusters"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("PROJECT", "/project")
    for name in ("DATA", "MODELS", "CACHE", "RUNS"):
        monkeypatch.delenv(f"LAUNCHER_{name}", raising=False)
    (tmp_path / "clusters").mkdir()
    (tmp_path / "clusters" / "alpha.yaml").write_text(ALPHA, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "label", "gpu", "node", "nodes", "gres", "account"),
    [
        ("alpha", "alpha:gpu", "A100-40GB", (4, 128, 500), 16, "a100", "queue"),
        ("alpha:gpu", "alpha:gpu", "A100-40GB", (4, 128, 500), 16, "a100", "queue"),
        ("alpha:cpu", "alpha:cpu", None, (0, 64, 250), None, None, "site"),
        ("alpha:old", "alpha:old", "V100-16GB", (2, 128, 500), None, "v100", "site"),
    ],
)
def test_a_queue_says_what_is_its_own(clusters, name, label, gpu, node, nodes, gres, account):
    """The rest is the profile's; without a queue the first is meant."""
    found = load_cluster(name)
    site = found.site
    assert (found.name, found.gpu and found.gpu.name, found.nodes) == (label, gpu, nodes)
    assert (found.gpus_per_node, found.cpus_per_node, found.memory_gib) == node
    assert (site.gres, site.account) == (gres, account)


def test_a_queue_that_is_not_there_is_no_queue_for_those_who_want_all_either(clusters):
    """`launcher doctor --cluster alpha:gpi` would otherwise compare the others and find all well."""
    assert [each.queue_name for each in sites("alpha:gpu")] == [each.queue_name for each in sites("alpha")]
    with pytest.raises(UsageError, match="no queue `gpi`"):
        sites("alpha:gpi")


def test_account_of_the_command_line_comes_first(clusters):
    """It is what the person typed last."""
    assert load_cluster("alpha", account="mine").site.account == "mine"
    with pytest.raises(UsageError, match="not an account"):
        load_cluster("alpha", account="x;id")


def test_paths_are_expanded(clusters, monkeypatch):
    """`~` and variables are those of the one who submits; LAUNCHER_RUNS comes before the profile's."""
    home = str(clusters / "home")
    assert load_cluster("alpha").paths == {"data": "/project/data", "cache": f"{home}/cache", "runs": "/project/runs"}
    monkeypatch.setenv("LAUNCHER_RUNS", "/mine")
    monkeypatch.setenv("LAUNCHER_MODELS", "/models")
    found = load_cluster("alpha").paths
    assert (found["runs"], found["models"]) == ("/mine", "/models")


def test_a_variable_that_is_not_set_is_said_with_its_lines(clusters, monkeypatch):
    """Every one of them, at its place in the profile."""
    monkeypatch.delenv("PROJECT")
    with pytest.raises(RecipeErrors) as caught:
        load_cluster("alpha")
    assert [str(each) for each in caught.value.errors] == [
        f"{clusters}/clusters/alpha.yaml:11:15: paths.data: `$PROJECT` is not set here",
        f"{clusters}/clusters/alpha.yaml:11:54: paths.runs: `$PROJECT` is not set here",
    ]


def test_a_site_error_names_the_line(clusters):
    """Whoever finds a fault later can still say which line of the profile it is."""
    site = load_cluster("alpha").site
    assert str(site.error("too few", key="queues.gpu.max_nodes")) == (
        f"{clusters}/clusters/alpha.yaml:8:36: queues.gpu.max_nodes: too few"
    )


def test_folders_come_in_order(clusters, monkeypatch):
    """LAUNCHER_CLUSTERS, then one's own folder (XDG_CONFIG_HOME respected), then the shipped profiles."""
    own = clusters / "home" / ".config" / "launcher" / "clusters"
    xdg = clusters / "xdg" / "launcher" / "clusters"
    for folder, cpus in ((own, 2), (xdg, 3)):
        folder.mkdir(parents=True)
        (folder / "alpha.yaml").write_text(f"cpus_per_node: {cpus}\nmemory_gib_per_node: 1\nqueues: {{q: {{}}}}\n")
    assert load_cluster("alpha").cpus_per_node == 128
    monkeypatch.delenv("LAUNCHER_CLUSTERS")
    assert load_cluster("alpha").cpus_per_node == 2
    monkeypatch.setenv("XDG_CONFIG_HOME", str(clusters / "xdg"))
    assert load_cluster("alpha").cpus_per_node == 3


@pytest.mark.parametrize("name", ["alhpa", "../alpha", "", ":", "/etc/passwd", "alpha.yaml", "a\0b", "-x", "local:gpu"])
def test_an_unknown_name_lists_the_known_ones(clusters, name):
    """Names are words: nothing leads out of the folders."""
    with pytest.raises(UsageError) as caught:
        load_cluster(name)
    assert "alpha" in caught.value.hint
    assert "did you mean `alpha`?" in caught.value.hint or name != "alhpa"


@pytest.mark.parametrize("name", ["alpha:gup", "alpha:", "alpha:cpu:x"])
def test_an_unknown_queue_lists_the_known_ones(clusters, name):
    """A colon promises a queue."""
    with pytest.raises(UsageError) as caught:
        load_cluster(name)
    assert "gpu, cpu, old" in caught.value.hint


@pytest.mark.parametrize("option", [{"gpus": "0"}, {"on": "H100x8"}])
def test_a_site_has_its_own_hardware(clusters, option):
    """`--gpus` and `--on` speak of other machines."""
    with pytest.raises(UsageError, match="--cluster alpha"):
        load_cluster("alpha", **option)
