"""A recipe against a site's profile, before any SLURM is asked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from launcher.cluster.load import load_cluster
from launcher.cluster.schema import Cluster
from launcher.errors import LauncherError
from tests.support import planning

PROFILE = """\
gpu: A100-40GB
gpus_per_node: 4
cpus_per_node: 32
memory_gib_per_node: 250
stop_lead_s: 300
queues:
  gpu: {max_time: "1-00:00:00"}
  cpu: {gpu: none}
  spare: {preemptible: true}
"""


@pytest.fixture
def site(tmp_path, monkeypatch):
    """`site("cpu")`: that queue of the profile."""
    monkeypatch.setenv("LAUNCHER_CLUSTERS", str(tmp_path))
    (tmp_path / "alpha.yaml").write_text(PROFILE)
    return lambda queue: load_cluster(f"alpha:{queue}")


def refused(folder, cluster: Cluster, *sets: str) -> list[str]:
    with pytest.raises(LauncherError) as caught:
        planning.plan(folder, *sets, cluster=cluster)
    return [each.replace(f"{folder}/", "") for each in planning.faults(caught.value)]


def test_more_time_than_the_queue_has_is_refused(tmp_path, site):
    """SLURM would say so too, but not before somebody is on a login node."""
    (said,) = refused(tmp_path, site("gpu"), "launch.time_limit='1-00:00:01'")
    assert "launch.time_limit: `1-00:00:01`, jobs on `alpha:gpu` may run 1-00:00:00" in said
    assert 'write `time_limit: "1-00:00:00"`' in said
    assert "or raise `max_time` at alpha.yaml:7:19" in said
    assert planning.plan(tmp_path, "launch.time_limit='1-00:00:00'", cluster=site("gpu")).jobs[1].time_limit_s == 86_400


def test_a_job_that_would_be_stopped_as_it_starts_is_refused(tmp_path, site):
    """`--signal=B:USR1@300` on a job of five minutes."""
    (said,) = refused(tmp_path, site("cpu"), "launch.time_limit='00:05:00'")
    assert "a job on `alpha:cpu` is asked to save and leave 300 s before its end: at once" in said
    assert "or lower `stop_lead_s` at alpha.yaml:5:14" in said
    assert planning.plan(tmp_path, "launch.time_limit='00:05:01'", cluster=site("cpu"))


@pytest.mark.parametrize("key", ["launch.gpus", "launch.gpus_per_node"])
def test_gpus_of_a_queue_without_are_refused_with_one_that_has_some(tmp_path, site, key):
    """`none` in the profile."""
    (said,) = refused(tmp_path, site("cpu"), f"{key}=2")
    assert f"{key}: asks for 2 GPUs, nodes of `alpha:cpu` have none" in said
    assert f"hint: choose `--cluster alpha:gpu`, or leave `{key[7:]}` out" in said


def test_a_preemptible_queue_asks_for_a_word_on_checkpoints(tmp_path, site):
    """Once the recipe has it, the person has thought of it."""

    def warned(*sets: str, queue: str = "spare") -> str:
        return "\n".join(planning.plan(tmp_path, *sets, cluster=site(queue)).warnings)

    assert "`checkpoint.save_steps` says how much that is (now 200 steps)" in warned()
    assert "save_steps` says" not in warned("checkpoint.save_steps=3")
    assert "save_steps` says" not in warned(queue="gpu")
    assert "launch.max_requeues 0: `alpha:spare` is preemptible" in warned("launch.max_requeues=0")


def test_nothing_of_it_concerns_a_job_in_its_allocation(tmp_path, site):
    """There the profile's limits have been applied, and the allocation is what it is."""
    inside = replace(site("spare"), inside=True)
    assert not [each for each in planning.plan(tmp_path, cluster=inside).warnings if "alpha:spare" in each]


def test_a_try_before_the_training_is_for_one_machine(tmp_path, site):
    """Ranks of a job are started by its script; a key that did nothing there would be believed."""
    (said,) = refused(tmp_path, site("gpu"), "launch.probe=true")
    assert "launch.probe: jobs on `alpha:gpu` make no try before they train" in said
    assert "on_oom: halve" in said
    assert planning.plan(tmp_path, "launch.probe=true").restart.probe == "first"
