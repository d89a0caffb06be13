"""What SLURM refuses, and what it accepts and never starts: told before anything is queued, with the line to change."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from launcher.cluster.load import load_cluster
from launcher.errors import SubmissionErrors
from launcher.executors.slurm import checks, client, submit
from launcher.plan.facts import gather
from launcher.plan.make import make_plan
from launcher.runs.paths import RunDir
from tests.slurm.conftest import a_lab
from tests.slurm.lab import ROOT, Lab
from tests.slurm.settings import Settings
from tests.support import planning
from tests.support.until import until

PARTITIONS = (
    "PartitionName=closed Nodes=ALL AllowAccounts=physics,chemistry State=UP",
    "PartitionName=down Nodes=ALL State=DOWN",
    "PartitionName=drain Nodes=ALL State=DRAIN",
    "PartitionName=small Nodes=ALL MaxNodes=2 MaxMemPerNode=1000 MaxCPUsPerNode=2 State=UP",
    "PartitionName=wide Nodes=ALL MinNodes=2 State=UP",
    "PartitionName=reserved Nodes=ALL ReqResv=YES State=UP",
)
PROFILE = {
    "gpu": "H100",
    "gpus_per_node": 4,
    "gres": "h100",
    "cpus_per_node": 8,
    "memory_gib_per_node": 15.6,
    "stages.prepare": "job",
    "queues.q.partition": "main",
}

RECIPE = (
    planning.RECIPE.replace("16}", "144}") + "launch: {nodes: 1}\n"
)  # 144 rows divide by every number of GPUs below


@pytest.fixture(scope="module", params=["ALL", "NO"])
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A site that enforces its limits at submission, and one that accepts what it never starts."""
    settings = Settings(enforce_limits=request.param == "ALL", gpu_type="h100", requeue=False, extra=PARTITIONS)
    with a_lab(tmp_path_factory.mktemp("refusing"), settings) as lab:
        yield lab


class Site:
    """A profile of the lab, and runs that want to go there."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab, self.folder = lab, folder

    def profile(self, keys: dict[str, object]) -> Path:
        """The profile with some keys changed, each on a line of its own; None takes one out."""
        (self.folder / "clusters").mkdir(exist_ok=True)
        path = self.folder / "clusters" / "lab.yaml"
        path.write_text(_yaml({key: value for key, value in (PROFILE | keys).items() if value is not None}))
        return path

    def run(self, keys: dict[str, object], sets: tuple[str, ...], account: str | None = None) -> partial[object]:
        """`launcher run` from the plan on, for a recipe with some keys."""
        self.profile(keys)
        cluster = load_cluster("lab", account=account)
        loaded = planning.recipe(self.folder, RECIPE, sets)
        plan = make_plan(loaded, cluster, gather(loaded, cluster)).plan
        run_dir = RunDir(self.folder / "run")
        run_dir.root.mkdir(exist_ok=True)
        assert cluster.site
        return partial(submit.chain, run_dir, plan, cluster.site, loaded)

    def check(self, keys: dict[str, object] | None = None, sets: tuple[str, ...] = ()) -> None:
        """What comes before submission, and nothing more."""
        run_dir, plan, site, loaded = self.run(keys or {}, sets).args
        submit.write_scripts(run_dir, plan, site)
        checks.refuse(run_dir, plan, plan.jobs, site, loaded)

    def refused(
        self, keys: dict[str, object] | None = None, sets: tuple[str, ...] = (), account: str | None = None
    ) -> list[str]:
        """Each error with its hint, and paths without their folders."""
        with pytest.raises(SubmissionErrors) as caught:
            self.run(keys or {}, sets, account)()
        assert self.lab.run(["scontrol", "-o", "show", "job"]).stdout.strip() == "No jobs in the system"
        said = [f"{error}\nhint: {error.hint}" for error in caught.value.errors]
        return [each.replace(f"{self.folder}/clusters/", "").replace(f"{self.folder}/", "") for each in said]


def _yaml(keys: dict[str, object]) -> str:
    """`a.b: 1` as nested mappings, in the order of the keys."""
    lines: list[str] = []
    before: list[str] = []
    for key, value in sorted(keys.items(), key=lambda pair: pair[0].count(".")):
        *path, name = key.split(".")
        shared = 0
        while shared < min(len(path), len(before)) and path[shared] == before[shared]:
            shared += 1
        lines += [f"{'  ' * depth}{path[depth]}:" for depth in range(shared, len(path))]
        lines.append(f"{'  ' * len(path)}{name}: {value}")
        before = path
    return "\n".join(lines) + "\n"


@pytest.fixture
def site(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    for name, value in lab.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LAUNCHER_CLUSTERS", str(tmp_path / "clusters"))
    return Site(lab, tmp_path)


@pytest.mark.parametrize(
    ("keys", "sets", "said", "hint"),
    [
        ({"queues.q.partition": "mian"}, (), "lab.yaml:10:16: queues.q.partition: no partition `mian`", "did you mean `main`?"),
        ({}, ("launch.nodes=9",), "--set launch.nodes=9: launch.nodes: asks for 9 nodes, partition `main` allows a job 4", "write `nodes: 4`, or `gpus: 16` in its place"),
        ({}, ("launch.nodes=null", "launch.gpus=36"), "--set launch.gpus=36: launch.gpus: asks for 9 nodes,", "`gpus: 16`"),
        ({}, ("launch.time_limit='2-00:00:00'",), "launch.time_limit: asks for 2-00:00:00, partition `main` allows 1-00:00:00", 'write `time_limit: "1-00:00:00"`'),
        ({"queues.q.max_time": '"9-00:00:00"'}, (), "lab.yaml:11:15: queues.q.max_time: asks for 9-00:00:00,", 'write `max_time: "1-00:00:00"`'),
        ({"queues.q.partition": "closed"}, (), "lab.yaml:10:5: queues.q.account: partition `closed` wants an account, none is named", "it takes: physics, chemistry (`--account NAME`)"),
        ({"queues.q.partition": "closed", "account": "phisics"}, (), "lab.yaml:6:10: account: partition `closed` does not take account `phisics`", "did you mean `physics`?"),
        ({"queues.q.partition": "down"}, (), "queues.q.partition: partition `down` is DOWN", "wait until"),
        ({"queues.q.partition": "drain"}, (), "queues.q.partition: partition `drain` is DRAIN", "wait until"),
        ({"queues.q.partition": "wide"}, (), "small.yaml:7:17: launch.nodes: asks for 1 node, partition `wide` wants at least 2", "write `nodes: 2`"),
        ({"queues.q.partition": "reserved"}, (), "queues.q.partition: partition `reserved` takes no jobs of yours", "reservation: NAME"),
        ({"queues.q.constraint": "a100"}, (), "lab.yaml:11:17: queues.q.constraint: no node of its partition has `a100`", "they have none"),
        ({"queues.q.reservation": "mine"}, (), "lab.yaml:11:18: queues.q.reservation: no reservation `mine`", "there are none"),
        ({"exclude": "node9"}, (), "lab.yaml:6:10: exclude: no node `node9`", "`sinfo -N` lists the nodes"),
        ({"memory_gib_per_node": 99}, (), "lab.yaml:5:22: memory_gib_per_node: asks for 1 node with 98334 MiB, partition `main` has none", "write `memory_gib_per_node: 15.6`"),
        ({"cpus_per_node": 99}, ("launch.nodes=2",), "lab.yaml:4:16: cpus_per_node: asks for 2 nodes with 99 cores, partition `main` has none", "write `cpus_per_node: 8`"),
        ({"gpus_per_node": 8}, (), "lab.yaml:2:16: gpus_per_node: asks for 1 node with 8 GPUs, partition `main` has none", "write `gpus_per_node: 4`"),
        ({"gres": "a100"}, (), "lab.yaml:3:7: gres: partition `main` has no GPUs of type `a100`", "did you mean `h100`?"),
        ({"directives": "[--bogus=1]"}, (), "lab.yaml:6:14: directives.0: SLURM does not take `--bogus=1`: unrecognized option '--bogus=1'", "man sbatch"),
        ({"queues.q.directives": "[--exclusive, --licenses=foo]"}, (), "lab.yaml:11:31: queues.q.directives.1: SLURM does not take `--licenses=foo`: Invalid license", "man sbatch"),
        ({"directives": "[--tmp=999999]"}, (), "queues.q: SLURM refuses the job of `train`: Requested node configuration is not available", "(--tmp=999999)"),
        ({"queues.q.partition": "short", "queues.q.max_time": '"00:03:00"'}, (), "queues.q.max_time: asks for 00:03:00, partition `short` allows 00:01:00", '"00:01:00"'),
    ],
)  # fmt: skip
def test_one_thing_is_wrong(site: Site, keys: dict[str, object], sets: tuple[str, ...], said: str, hint: str) -> None:
    """It is told at its line, with the value and a way out, however the site treats its limits."""
    got = site.refused(keys, sets)
    assert len(got) == 1, got
    (found,) = got
    assert said in found
    assert hint in found.partition("hint: ")[2]


def test_account_of_the_command_line_is_named_as_such(site: Site) -> None:
    (found,) = site.refused({"queues.q.partition": "closed", "account": "physics"}, account="maths")
    assert found.startswith("--account: partition `closed` does not take account `maths`")


def test_everything_that_is_wrong_is_told_at_once(site: Site) -> None:
    """The recipe's keys first, then the profile's from top to bottom."""
    keys: dict[str, object] = {
        "gres": "a100",
        "cpus_per_node": 16,
        "exclude": "node9",
        "directives": "[--licenses=foo]",
    }
    keys |= {"queues.q.constraint": "x86", "queues.q.reservation": "mine"}
    found = site.refused(keys, ("launch.nodes=9", "launch.time_limit='2-00:00:00'"))
    assert [each.split(": ")[1] for each in found] == [
        "launch.nodes", "launch.time_limit",
        "gres", "cpus_per_node", "exclude", "directives.0", "queues.q.constraint", "queues.q.reservation",
    ]  # fmt: skip


def test_the_smaller_question_makes_no_faults_of_its_own(site: Site) -> None:
    """Of a job with a fault SLURM is asked again with one node, which this partition does not take."""
    (found,) = site.refused({"queues.q.partition": "wide", "gres": "a100"}, ("launch.nodes=2",))
    assert "gres: partition `wide` has no GPUs of type `a100`" in found


def test_a_node_too_many_is_excluded(site: Site) -> None:
    (found,) = site.refused({"exclude": site.lab.site.node(1)}, ("launch.nodes=4",))
    assert "exclude: 3 nodes of partition `main` are left without these, the run asks for 4" in found
    site.check({"exclude": site.lab.site.node(1)}, ("launch.nodes=3",))


def test_a_list_of_partitions_is_held_to_what_the_site_wants(site: Site) -> None:
    """One partition takes three nodes, the other does not."""
    keys: dict[str, object] = {"queues.q.partition": '"main,small"', "cpus_per_node": 2, "memory_gib_per_node": 0.9}
    if site.lab.settings.enforce_limits:
        (found,) = site.refused(keys, ("launch.nodes=3",))
        assert "launch.nodes: asks for 3 nodes, partition `small` allows a job 2" in found
    else:
        site.check(keys, ("launch.nodes=3",))


def test_what_fits_passes(site: Site) -> None:
    """Whole nodes, all of them, for as long as may be; on a site with JobRequeue=0 too, where `--requeue` is a job's own word."""
    site.check({"queues.q.max_time": '"1-00:00:00"'}, ("launch.nodes=4",))
    assert site.lab.run(["squeue", "-h", "-t", "all"]).stdout == ""


def test_nodes_that_are_away_for_now_are_waited_for(site: Site) -> None:
    """SLURM takes the job; its own `--test-only` calls it impossible, and a launcher that believed it would refuse good runs."""
    name = site.lab.site.node(1)
    site.lab.run(["scontrol", "update", f"nodename={name}", "state=drain", "reason=test"])
    try:
        impossible = site.lab.run(["sbatch", "--test-only", "-N4", "--wrap=true"], check=False)
        assert "not available" in impossible.stderr
        site.check({}, ("launch.nodes=4",))
        assert "directives.0" in site.refused({"directives": "[--bogus=1]"}, ("launch.nodes=4",))[0]
    finally:
        site.lab.run(["scontrol", "update", f"nodename={name}", "state=resume"])


def test_the_command_line_prints_them_and_ends_with_5(site: Site) -> None:
    """Each with its hint; no job, and the same command goes on once the key is right."""
    site.run({"queues.q.constraint": "a100", "internet": True}, ("launch.nodes=9",))
    argv = [sys.executable, "-m", "launcher", "run", "small.yaml", "--cluster", "lab", "--set", "launch.nodes=9"]
    env = {**site.lab.env, "LAUNCHER_CLUSTERS": str(site.folder / "clusters"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(argv, check=False, capture_output=True, text=True, cwd=site.folder, env=env, timeout=60)
    assert done.returncode == 5, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith(("error:", "hint:"))]
    assert [line.split(":")[0] for line in lines] == ["error", "hint", "error", "hint"]
    assert lines[0].startswith("error: --set launch.nodes=9: launch.nodes: asks for 9 nodes")
    assert "lab.yaml:12:17: queues.q.constraint: no node of its partition has `a100`" in lines[2]
    assert site.lab.run(["squeue", "-h", "-t", "all"]).stdout == ""


def test_without_the_controller_it_says_so_at_once(site: Site) -> None:
    """SLURM's own clients keep trying for 18 seconds."""
    chain = site.run({}, ())
    site.lab.stop_controller()
    try:
        before = time.monotonic()
        with pytest.raises(client.Unreachable, match="slurmctld does not answer"):
            chain()
        assert time.monotonic() - before < 5
    finally:
        site.lab.start_controller()
        until(lambda: site.lab.run(["squeue", "-h"], check=False).returncode == 0)
    assert site.lab.run(["squeue", "-h", "-t", "all"]).stdout == ""


@pytest.mark.slurm
@pytest.mark.parametrize("enforce", [True, False])
def test_a_site_with_accounts_names_those_one_has(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, enforce: bool
) -> None:
    """An account and a qos must exist, and be this user's; and a qos may allow more than the partition does."""
    enforced = "AccountingStorageEnforce=associations,limits,qos"
    settings = Settings(accounting=True, enforce_limits=enforce, gpu_type="h100", extra=(enforced, *PARTITIONS))
    with a_lab(tmp_path_factory.mktemp("accounts"), settings) as lab:
        user = lab.run(["id", "-un"]).stdout.strip()
        for words in (
            ["qos", "gold"],
            ["qos", "long", "flags=PartitionTimeLimit"],
            ["account", "physics"],
            ["user", user, "account=physics", "qos=normal,long"],
        ):
            lab.run(["sacctmgr", "-i", "add", *words])
        for name, value in lab.env.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("LAUNCHER_CLUSTERS", str(tmp_path / "clusters"))
        site = Site(lab, tmp_path)

        (found,) = site.refused({"account": "phisics"})
        assert "account: SLURM does not take account `phisics`" in found
        assert "did you mean `physics`? There are: physics" in found
        (found,) = site.refused({"account": "physics", "queues.q.qos": "gold"})
        assert "queues.q.qos: SLURM does not take qos `gold`" in found
        assert "ere are: normal, long" in found or "ere are: long, normal" in found
        site.check({"account": "physics"})

        beyond: dict[str, object] = {"account": "physics", "queues.q.max_time": '"2-00:00:00"'}
        (found,) = site.refused(beyond)
        assert "queues.q.max_time: asks for 2-00:00:00, partition `main` allows 1-00:00:00" in found
        site.check(beyond | {"queues.q.qos": "long"})


@pytest.mark.slurm
def test_a_job_requeues_itself_where_jobs_are_not_requeued_by_default(site: Site) -> None:
    """Why JobRequeue=0 is no fault: our jobs ask for it with `--requeue`."""
    script = '#!/bin/bash\n[ -n "${SLURM_RESTART_COUNT:-}" ] || { scontrol requeue $SLURM_JOB_ID; sleep 60; }'
    assert site.lab.wait(site.lab.sbatch(script, "--requeue"), "COMPLETED")["Restarts"] == "1"
