"""What the doctor says of a profile, on the words of a real SLURM 22.05: `scontrol show config`, `-o show partition`, `-o show node`.

The site: main (node1-2, 4 × a100), low (node1-3, of a lower tier; node3 has 2 × v100), cpu (node4), gone (node4, down).
"""

import dataclasses
from pathlib import Path

import pytest

from launcher.cluster.profiles import read_profile
from launcher.cluster.site import sites
from launcher.errors import EnvironmentFault
from launcher.executors.slurm import doctor, draft, site_facts, surroundings
from launcher.executors.slurm.site_facts import SiteFacts

RECORDED = Path(__file__).parent / "recorded"
GOOD = """\
gpu: A100-40GB
gpus_per_node: 4
gres: a100
cpus_per_node: 8
memory_gib_per_node: 15.6
account: project
queues:
  main: {partition: main, max_time: "1-00:00:00", max_nodes: 2, constraint: nvlink&ib}
  low: {partition: low, max_time: "12:00:00", max_nodes: 2, preemptible: true}
  cpu: {partition: cpu, gpu: none, cpus_per_node: 4, memory_gib_per_node: 7.8, max_nodes: 1}
stop_lead_s: 120
"""


def said(name: str) -> str:
    """What the command answered."""
    return (RECORDED / f"{name}.txt").read_text(encoding="utf-8")


def facts(**config: str) -> SiteFacts:
    """The recorded site, with lines of its configuration changed."""
    return SiteFacts(
        config={**site_facts.config(said("config")), **config},
        partitions={each.name: each for each in site_facts.partitions(said("partitions"))},
        nodes=tuple(site_facts.nodes(said("nodes"))),
        accounts=("project", "root"),
    )


@pytest.fixture
def judge(tmp_path, monkeypatch):
    """`judge(text)`: the findings of a profile as `level line key`."""
    monkeypatch.setenv("LAUNCHER_CLUSTERS", str(tmp_path))

    def judge(text: str = GOOD, known: SiteFacts | None = None) -> list[str]:
        (tmp_path / "alpha.yaml").write_text(text, encoding="utf-8")
        found = doctor.findings(sites("alpha"), known or facts())
        assert all(each.hint and each.place and each.place.source == f"{tmp_path}/alpha.yaml" for each in found)
        return [f"{each.level} {each.place.line} {each.key}: {each.message} | {each.hint}" for each in found]

    return judge


def test_what_scontrol_says_is_read():
    """Values with blanks, empty ones, and lists end where the next key starts."""
    known = facts()
    one, _, three, four = known.nodes
    assert (one.cpus, one.memory_mib, one.gpus, one.features) == (8, 16000, {"a100": 4}, {"nvlink", "ib"})
    assert (three.gpus, three.partitions, four.gpus) == ({"v100": 2}, {"low"}, {})
    low, cpu = known.partitions["low"], known.partitions["cpu"]
    assert (low.max_time_s, low.max_nodes, low.grace_s, low.tier) == (86400, 2, 10, 1)
    assert (cpu.max_time_s, cpu.accounts, known.partitions["gone"].up) == (None, ("root", "project"), False)
    assert known.default_partition == "main"
    assert (known.seconds("KillWait"), known.config["SlurmctldParameters"]) == (5, "preempt_send_user_signal")


@pytest.mark.parametrize(
    ("gres", "gpus"),
    [
        ("(null)", {}),
        ("gpu:4", {"": 4}),
        ("gpu:h100:8(S:0-1)", {"h100": 8}),
        ("gpu:a100:2(S:0),gpu:v100:2(S:1)", {"a100": 2, "v100": 2}),
        ("shard:8,gpu:t4:1,lustre:1", {"t4": 1}),
    ],
)
def test_gres_as_sites_write_it(gres, gpus):
    """Sockets in parentheses, several types, and what is no GPU."""
    line = f"NodeName=n CPUTot=8 RealMemory=9000 Gres={gres} Partitions=p \n"
    (node,) = site_facts.nodes(line)
    assert node.gpus == gpus


def test_times_are_read_and_written():
    """SLURM's own forms, sbatch(1)."""
    assert [site_facts.seconds(each) for each in ("30:00", "04:00:00", "7-12:00:00", "UNLIMITED")] == [
        1800,
        14400,
        648000,
        None,
    ]
    assert [site_facts.clock(each) for each in (1800, 648000)] == ["00:30:00", "7-12:00:00"]


def test_a_profile_that_fits_has_only_the_short_grace_to_say(judge):
    """GraceTime 10 s and KillWait 5 s are less than 120 s: true of this site, and worth knowing."""
    (only,) = judge()
    assert only.startswith("warning 9 queues.low.preemptible: a preempted job has 10 s (GraceTime) and 5 s (KillWait)")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("partition: main", "partition: mian", "error 8 queues.main.partition: no partition `mian` | did you mean `main`?"),
        ('"1-00:00:00"', '"1-00:00:01"', 'error 8 queues.main.max_time: 1-00:00:01 is longer than partition `main` allows | write `max_time: "1-00:00:00"`'),
        (', max_time: "1-00:00:00"', "", 'warning 8 queues.main.max_time: not said; partition `main` ends jobs after 1-00:00:00 | add `max_time: "1-00:00:00"`'),
        ("max_nodes: 2, c", "max_nodes: 3, c", "error 8 queues.main.max_nodes: 3 nodes are more than partition `main` gives to a job | write `max_nodes: 2`"),
        ("constraint: nvlink&ib", "constraint: nvlnk", "error 8 queues.main.constraint: no node of partition `main` has the feature `nvlnk` | did you mean `nvlink`?"),
        ("cpus_per_node: 8", "cpus_per_node: 9", "error 4 cpus_per_node: 9 CPUs per node; partition `main` has 8 at most | write `cpus_per_node: 8`"),
        ("15.6", "16", "error 5 memory_gib_per_node: 16 GiB per node; partition `main` has 15.6 GiB at most | write `memory_gib_per_node: 15.6`"),
        ("7.8", "7.9", "error 10 queues.cpu.memory_gib_per_node: 7.9 GiB per node; partition `cpu` has 7.8 GiB at most"),
        ("gres: a100", "gres: a10", "error 3 gres: no GPU of type `a10` in partition `main` | did you mean `a100`?"),
        ("gpus_per_node: 4", "gpus_per_node: 8", "error 2 gpus_per_node: 8 GPUs per node; partition `main` has 4 at most | write `gpus_per_node: 4`"),
        ("gpu: none, ", "", "error 2 gpus_per_node: 4 GPUs per node; partition `cpu` has 0 at most | write `gpu: none`"),
        ("gpus_per_node: 4\ngres: a100", "gpus_per_node: 2", "warning 8 queues.low.gres: partition `low` has GPUs of several types"),
        ("account: project", "account: projct", "warning 6 account: `projct` is not an account of yours | did you mean `project`?"),
        ("account: project", "account: projct", "error 6 account: partition `cpu` does not take account `projct` | it takes: root, project"),
        ("partition: cpu", "partition: gone", "warning 10 queues.cpu.partition: partition `gone` is not up"),
        (", preemptible: true", "", "warning 9 queues.low.preemptible: partition `low` gives way to others (PreemptMode=REQUEUE) | write `preemptible: true`"),
        ("constraint: nvlink&ib", "preemptible: true", "warning 8 queues.main.preemptible: partition `main` is never preempted here"),
        ("stop_lead_s: 120", "stop_lead_s: 30", "warning 11 stop_lead_s: SLURM looks at time limits every 30 s"),
        ("stop_lead_s: 120", "container: {runtime: pyxis, image: a}", "error 11 container.runtime: `srun` has no `--container-image`"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said_at_its_line(judge, old, new, expected):
    """With the figure that would."""
    assert GOOD.count(old) == 1
    found = judge(GOOD.replace(old, new))
    assert any(each.startswith(expected) or expected in each for each in found), found


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"JobRequeue": "0"}, "requeue: JobRequeue=0"),
        ({"AccountingStorageEnforce": "associations,limits"}, "error 6 account: `nobody` is not an account of yours"),
        ({"SlurmctldParameters": "(null)"}, "told by TERM"),
        ({"PreemptType": "preempt/none"}, "`low` is never preempted"),
    ],
)
def test_the_sites_configuration_counts(judge, config, expected):
    """The same profile on another site."""
    text = GOOD.replace("account: project", "account: nobody") + "requeue: true\n"
    found = judge(text, facts(**config))
    assert any(expected in each for each in found), found


def test_without_accounting_accounts_are_not_judged(judge):
    """`sacctmgr` has nothing to say there."""
    known = dataclasses.replace(facts(), accounts=None)
    assert not [each for each in judge(GOOD.replace("project", "root"), known) if "account" in each]


def test_the_draft_fits_its_own_site(judge, tmp_path):
    """A queue for each partition that is up; the doctor has no error to add."""
    text = draft.draft(facts())
    found = judge(text)
    assert not [each for each in found if each.startswith("error")]
    profile = read_profile(tmp_path / "alpha.yaml").profile
    assert list(profile.queues) == ["main", "low", "cpu"]
    assert (profile.gpu, profile.gpus_per_node, profile.gres) == ("A100-80GB", 4, "a100")
    assert (profile.cpus_per_node, profile.memory_gib_per_node) == (8, 15.6)
    assert (profile.queues["low"].preemptible, profile.queues["cpu"].gpu) == (True, "none")


@pytest.mark.parametrize("gres", ["gpu:4", "gpu:weird:4", "gpu:3090:4", "gpu:a100:2,gpu:v100:4"])
def test_a_draft_is_a_profile_whatever_the_gpus_are_called(tmp_path, gres):
    """A GPU that the catalogue does not know is left to the person."""
    known = facts()
    renamed = site_facts.nodes(
        said("nodes").replace("gpu:a100:4", gres).replace("PartitionName=main", "PartitionName=1")
    )
    path = draft.write(tmp_path / "new", "alpha", dataclasses.replace(known, nodes=tuple(renamed)))
    profile = read_profile(path).profile
    assert (profile.gpus_per_node == 4) == (profile.gpu is not None)


def test_a_partition_too_short_to_stop_in_time_is_left_out(tmp_path):
    """A job of a minute would be asked to stop before it starts."""
    known = facts()
    short = {name: dataclasses.replace(each, max_time_s=60) for name, each in known.partitions.items()}
    path = draft.write(
        tmp_path, "some", dataclasses.replace(known, partitions={**short, "low": known.partitions["low"]})
    )
    assert list(read_profile(path).profile.queues) == ["low"]
    with pytest.raises(EnvironmentFault, match="more than 120 s"):
        draft.write(tmp_path, "none", dataclasses.replace(known, partitions=short))


def test_a_draft_never_replaces_a_file(tmp_path):
    """It may have been edited."""
    draft.write(tmp_path, "alpha", facts())
    (tmp_path / "alpha.yaml").write_text("mine")
    with pytest.raises(EnvironmentFault, match="is there already"):
        draft.write(tmp_path, "alpha", facts())
    assert (tmp_path / "alpha.yaml").read_text() == "mine"


def test_folders_and_programs_are_looked_for(tmp_path, monkeypatch):
    """Where one submits: those of the site, not of each node."""
    monkeypatch.setenv("LAUNCHER_CLUSTERS", str(tmp_path))
    monkeypatch.setenv("PATH", "/nowhere")
    (tmp_path / "secrets.env").write_text("A=1\n")
    (tmp_path / "secrets.env").chmod(0o640)
    (tmp_path / "here").mkdir()
    text = f"""\
cpus_per_node: 1
memory_gib_per_node: 1
queues: {{q: {{}}}}
paths: {{data: {tmp_path}/here, models: {tmp_path}/none, cache: {tmp_path}/new/cache, runs: {tmp_path}/secrets.env/runs}}
python: {tmp_path}/none/python
secrets: {tmp_path}/secrets.env
container: {{runtime: apptainer, image: {tmp_path}/none.sif, binds: [{tmp_path}/none:/x]}}
"""
    (tmp_path / "alpha.yaml").write_text(text)
    (site,) = sites("alpha")
    found = surroundings.findings(site)
    assert {(each.level, each.key, each.place.line) for each in found} == {
        ("error", "paths.models", 4),
        ("error", "paths.runs", 4),
        ("error", "python", 5),
        ("error", "secrets", 6),
        ("warning", "container.runtime", 7),
        ("error", "container.image", 7),
        ("warning", "container.binds.0", 7),
    }
