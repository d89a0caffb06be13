"""SLURM's words as the keys to change: the table, on texts recorded from SLURM 22.05 and from its sources."""

from __future__ import annotations

import pytest

from launcher.cluster.profile import Profile
from launcher.cluster.schema import Site
from launcher.executors.slurm import limits, refusals, site_facts
from launcher.executors.slurm.asked import Asked
from launcher.executors.slurm.client import Answer
from launcher.executors.slurm.limits import Target
from launcher.executors.slurm.site_facts import SiteFacts

PROFILE = {
    "cpus_per_node": 8,
    "memory_gib_per_node": 16.0,
    "exclude": "n7",
    "directives": ("--exclusive", "--bogus=1", "--licenses=foo", "--switches=nope"),
    "queues": {"q": {"partition": "gpu", "qos": "gold", "constraint": "a100", "reservation": "r1", "directives": ("--hint=foo",)}},
}  # fmt: skip
SITE = Site("alpha", Profile.model_validate(PROFILE), "q", account="me")
TRAIN = Asked("train", ("sbatch", "/run/train.sbatch"), nodes=2, cpus=8, memory_mib=16000)


def node(number: int, state: str = "IDLE"):
    line = f"NodeName=n{number} CPUTot=8 CPUEfctv=8 AvailableFeatures=h100,nvlink Gres=(null) RealMemory=16000 State={state} Partitions=gpu"
    (found,) = site_facts.nodes(line)
    return found


NODES = tuple(map(node, range(4)))
FACTS = SiteFacts({}, {}, NODES, accounts=None)


def fault(text: str):
    return refusals.fault(text, TRAIN, SITE, FACTS)


@pytest.mark.parametrize(
    ("text", "subject"),
    [
        ("invalid partition specified: gpu; Invalid partition name specified", "partition"),
        ("No partition specified or system default partition", "partition"),
        ("Required partition not available (inactive or drain)", "partition"),
        ("User's group not permitted to use this partition", "partition"),
        ("Access/permission denied", "partition"),
        ("Invalid account or account/partition combination specified", "account"),
        ("Invalid qos specification", "qos"),
        ("Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)", "qos"),
        ("Requested reservation is invalid", "reservation"),
        ("Access denied to requested reservation", "reservation"),
        ("Invalid feature specification", "constraint"),
        ("Invalid node name specified", "exclude"),
        ("Node count specification invalid", "nodes"),
        ("Requested time limit is invalid (missing or exceeds some limit)", "time"),
        ("Memory required by task is not available", "memory_gib_per_node"),
        ("Memory specification can not be satisfied; Requested node configuration is not available", "memory_gib_per_node"),
        ("CPU count per node can not be satisfied; Requested node configuration is not available", "cpus_per_node"),
        ("Invalid generic resource (gres) specification", "gres"),
        ("unrecognized option '--bogus=1'; Try \"sbatch --help\" for more information", "directives.1"),
        ("Invalid license specification", "directives.2"),
        ('Invalid numeric value "nope" for --switches.', "directives.3"),
        ('unrecognized --hint argument "foo", see --hint=help', "queues.q.directives.0"),
        ("Requested node configuration is not available", "queue"),
        ("Please read https://site.example/rules; Unspecified error", "queue"),
    ],
)  # fmt: skip
def test_a_sentence_leads_to_a_key(text, subject):
    """The subjects are keys of the profile, or `nodes`, `time` and `queue`."""
    assert fault(text).subject == subject


def test_what_nobody_knows_is_passed_on_as_it_stands():
    """A site's own plugin may say anything."""
    said = fault("Please read https://site.example/rules; Unspecified error")
    assert said.message == "SLURM refuses the job of `train`: Please read https://site.example/rules; Unspecified error"
    assert "`sbatch --test-only /run/train.sbatch` asks again" in said.hint
    assert "--licenses=foo" in said.hint


def test_names_that_would_do_are_listed():
    """The nodes' features, from sinfo."""
    said = fault("Invalid feature specification")
    assert said.message == "no node has the features `a100`"
    assert said.hint == "did you mean `h100`? There are: h100, nvlink"


def test_an_answer_is_one_line_without_the_programs_name():
    """As `sbatch` printed it."""
    said = Answer(1, "", "sbatch: error: Batch job submission failed: Invalid account\n")
    assert said.error == "Batch job submission failed: Invalid account"


@pytest.mark.parametrize("state", ["IDLE", "MIXED+PLANNED", "ALLOCATED", "IDLE+CLOUD+POWERED_DOWN", "COMPLETING"])
def test_nodes_that_run_jobs(state):
    """Or can at once: those that are powered up when they are needed."""
    assert node(1, state).up


@pytest.mark.parametrize(
    "state", ["DOWN", "DOWN*+DRAIN", "IDLE+DRAIN", "IDLE*", "IDLE+RESERVED", "IDLE+MAINT", "MIXED+NOT_RESPONDING"]
)
def test_nodes_that_run_none_for_now(state):
    """Whoever wants them waits."""
    assert not node(1, state).up


def partition(nodes=NODES, **says: str) -> Target:
    words = " ".join(f"{key}={value}" for key, value in {"State": "UP", "TotalNodes": "4", **says}.items())
    (found,) = site_facts.partitions(f"PartitionName=gpu {words}")
    return Target(found, tuple(nodes))


def subjects(asked: Asked, *where: Target, enforce: str = "NO") -> list[str]:
    facts = SiteFacts({"EnforcePartLimits": enforce}, {}, NODES, accounts=None)
    return [each.subject for each in limits.faults(asked, where, SITE, facts)]


def asked(**wishes) -> Asked:
    return Asked(**{"stage": "train", "argv": ("sbatch",), "nodes": 2, "cpus": 8, "memory_mib": 16000} | wishes)


def test_a_list_of_partitions_needs_one_or_all():
    """EnforcePartLimits=ALL wants each to take the job; a partition that is down does not count then, as seen on 22.05."""
    small = partition(MaxNodes="1")
    assert subjects(asked(), partition(), small) == []
    assert subjects(asked(), partition(), small, enforce="ALL") == ["nodes"]
    assert subjects(asked(), small, small) == ["nodes"]
    assert subjects(asked(), partition(State="DOWN"), partition(), enforce="ALL") == []
    assert subjects(asked(), partition(State="DOWN")) == ["partition"]


def test_all_limits_are_told_at_once():
    """A person corrects them in one go; of two for one key the first is told."""
    where = partition(
        MaxNodes="1", MaxTime="01:00:00", AllowAccounts="physics", MaxCPUsPerNode="4", MaxMemPerNode="8000"
    )
    wishes = asked(time_s=3601, gpus=1, cpus=9, memory_mib=16001)
    assert subjects(wishes, where) == [
        "nodes", "time", "account", "cpus_per_node", "memory_gib_per_node", "partition", "cpus_per_node", "memory_gib_per_node",
    ]  # fmt: skip


def test_a_limit_that_is_met_exactly_is_met():
    """Nothing below the largest allowed value is refused."""
    where = partition(
        MaxNodes="2", MinNodes="2", MaxTime="01:00:00", AllowAccounts="Me", MaxCPUsPerNode="8", MaxMemPerNode="16000"
    )
    assert subjects(asked(time_s=3600), where) == []


def test_a_partition_that_ends_jobs_before_they_are_asked_to_stop():
    """`stop_lead_s` is 120."""
    assert subjects(asked(), partition(DefaultTime="00:02:00", MaxTime="1-00:00:00")) == ["max_time"]
    assert subjects(asked(), partition(DefaultTime="00:02:01", MaxTime="00:03:00")) == []
    assert subjects(asked(), partition(DefaultTime="NONE", MaxTime="00:01:00")) == ["max_time"]
    assert subjects(asked(), partition(DefaultTime="NONE", MaxTime="UNLIMITED")) == []


def test_nodes_that_are_down_are_waited_for():
    """SLURM accepts such a job; `--test-only` alone would call it impossible."""
    broken = [node(0), node(1), node(2, "DOWN"), node(3, "IDLE+RESERVED")]
    three = asked(nodes=3)
    assert limits.waits_for_nodes(three, [partition(broken)])
    assert not limits.waits_for_nodes(asked(), [partition(broken)])
    assert not limits.waits_for_nodes(asked(nodes=3, cpus=9), [partition(broken)])
    assert not limits.waits_for_nodes(asked(nodes=3, exclude=frozenset({"n2", "n3"})), [partition(broken)])
    assert subjects(asked(nodes=3, exclude=frozenset({"n2", "n3"})), partition(broken)) == ["exclude"]
