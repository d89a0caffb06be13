"""Who measures the result: a site's profile says it, and the chain of jobs follows."""

import dataclasses

import pytest

from launcher.cluster.profile import Profile
from launcher.cluster.schema import Cluster, Gpu, Site
from launcher.plan import codec
from launcher.render.plan_text import plan_text
from tests.support import planning

EVAL_SET = "data.eval_datasets=[{label: held_out, from: sums, fraction: 0.1}]"
MERGE = "export.merge=true"


def alpha(evaluate, *, gpu=True):
    """A site of 8-core nodes, four GPUs each, that has the result measured like this."""
    profile = Profile.model_validate(
        {
            "cpus_per_node": 8,
            "memory_gib_per_node": 64,
            "queues": {"main": {}},
            "stages": {"evaluate": evaluate},
        }
    )
    kind, count = (Gpu("H100", 79.6, 79.6), 4) if gpu else (None, 0)
    return Cluster("alpha", kind, count, cpus_per_node=8, memory_gib=64.0, site=Site("alpha", profile, "main"))


def chain(plan):
    return [(job.stage, job.depends_on) for job in plan.jobs]


@pytest.mark.parametrize("evaluate", ["job", "auto"])
def test_a_job_of_its_own_stands_between_training_and_merge(tmp_path, evaluate):
    """With `auto` it is there for the case that the ranks have no time."""
    plan = planning.plan(tmp_path, EVAL_SET, MERGE, cluster=alpha(evaluate))
    assert plan.evaluation.final == evaluate
    assert chain(plan) == [
        ("prepare", ()),
        ("train", ("prepare",)),
        ("evaluate", ("train",)),
        ("export", ("evaluate",)),
    ]
    assert chain(planning.plan(tmp_path, EVAL_SET, cluster=alpha(evaluate)))[-1] == ("evaluate", ("train",))
    assert "`alpha` has the result measured " in plan_text(plan)


def test_the_job_is_one_process_with_the_threads_of_a_node(tmp_path):
    """It spreads nothing over ranks; beside a GPU eight threads are enough, without one all cores work."""
    plan = planning.plan(tmp_path, EVAL_SET, "sharding.strategy=fsdp2", cluster=alpha("job"))
    job = plan.jobs[-1]
    assert (job.nodes, job.processes, job.requeue, job.time_limit_s) == (1, 1, False, None)
    assert job.argv == ("{python}", "-m", "launcher.worker.stage", "{run_dir}", "evaluate")
    environment = {"OMP_NUM_THREADS": "8", "OMP_WAIT_POLICY": "PASSIVE"}
    assert job.env == {**environment, "PYTORCH_ALLOC_CONF": "expandable_segments:True"}
    assert planning.plan(tmp_path, EVAL_SET, cluster=alpha("job", gpu=False)).jobs[-1].env == environment


def test_otherwise_the_ranks_do_it(tmp_path):
    """On this machine; where the profile says so; where there is nothing to measure."""
    here = planning.plan(tmp_path, EVAL_SET, MERGE)
    for plan in (here, planning.plan(tmp_path, EVAL_SET, MERGE, cluster=alpha("train"))):
        assert plan.evaluation.final == "train"
        assert chain(plan)[1:] == [("train", ("prepare",)), ("export", ("train",))]
    nothing = planning.plan(tmp_path, cluster=alpha("job"))
    assert (nothing.evaluation.final, nothing.jobs[-1].stage) == ("train", "train")


def test_it_is_no_other_experiment(tmp_path):
    """A run goes on where the result is measured otherwise; a plan of before says nothing of it and means the ranks."""
    plan = planning.plan(tmp_path, EVAL_SET, cluster=alpha("job"))
    other = planning.plan(tmp_path, EVAL_SET, cluster=alpha("train"))
    assert plan.identity == other.identity
    older = dataclasses.replace(other, evaluation=dataclasses.replace(other.evaluation))
    text = codec.dumps(older).replace(',\n    "final": "train"', "")
    assert '"final"' not in text
    assert codec.loads(text).evaluation.final == "train"
