"""The plan's table of jobs: what gets one, what it waits for, and what a turn may cost."""

from dataclasses import replace

from launcher.cluster.profile import Profile, Queue, Stages
from launcher.cluster.schema import Cluster, Gpu, Site
from launcher.render.jobs_text import jobs_table
from tests.support import planning


def cluster(**profile):
    gpu = Gpu("A100-40GB", 39.4, 39.4)
    made = Profile(gpu="A100-40GB", gpus_per_node=4, cpus_per_node=64, memory_gib_per_node=480,
                   queues={"gpu": Queue(max_time="12:00:00"), "cpu": Queue(gpu="none")}, **profile)  # fmt: skip
    return Cluster("alpha:gpu", gpu, 4, 64, 480, nodes=8, site=Site("alpha", made, "gpu"))


def lines(tmp_path, where, *sets):
    return [line.split() for line in jobs_table(planning.plan(tmp_path, *sets, cluster=where), where.site)]


def test_by_default_the_training_is_the_only_job(tmp_path):
    table = lines(tmp_path, cluster(), "launch.gpus=8")
    assert [row[:2] for row in table[1:]] == [["-", "prepare"], ["1", "train"]]
    assert table[2][2:7] == ["gpu", "2", "×", "4", "12:00:00"]


def test_stages_of_their_own_wait_for_one_another(tmp_path):
    stages = Stages(prepare="job", evaluate="job", export="auto", queue="cpu")
    table = lines(tmp_path, cluster(stages=stages), "export.merge=true", "peft={r: 8}")
    assert [row[:3] for row in table[1:3]] == [["1", "prepare", "cpu"], ["2", "train", "gpu"]]
    assert "afterok:1" in table[2]
    assert table[-1][:3] == ["3", "export", "cpu"]


def test_a_turn_has_a_price(tmp_path):
    """8 GPUs × 12 h × 2 EUR = 192 EUR."""
    where = cluster(price_per_gpu_hour=2.0)
    plan = planning.plan(tmp_path, "launch.gpus=8", cluster=where)
    assert jobs_table(plan, where.site)[-1] == "a turn of the training costs at most 192.00 EUR: 8 GPUs × 12 h × 2"
    free = replace(where.site, profile=where.site.profile.model_copy(update={"price_per_gpu_hour": None}))
    assert "costs" not in jobs_table(plan, free)[-1]
