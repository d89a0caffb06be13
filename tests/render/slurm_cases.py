"""Sites and recipes whose scripts are kept as golden files, and read by shellcheck and by our own rules."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from launcher.cluster.load import load_cluster
from launcher.cluster.schema import Site
from launcher.cluster.site import cluster_of
from launcher.plan.types import Plan
from launcher.render import container, sbatch
from launcher.runs.paths import RunDir
from tests.support import planning

PYTHON = "/env/bin/python"
A100 = {"gpu": "A100-40GB", "gpus_per_node": 4, "cpus_per_node": 64, "memory_gib_per_node": 480}
DAY = {"partition": "gpu", "max_time": "24:00:00", "max_nodes": 8}
BOX = {"image": "/images/launcher.sif", "python": "python3", "binds": ["/opt/site"]}


@dataclass(frozen=True)
class Case:
    """A profile as YAML says it, and what the recipe asks for."""

    profile: dict[str, Any]
    sets: tuple[str, ...] = ()
    run: str = "runs/small"
    account: str | None = None
    queue: str = ""
    home: dict[str, str] = field(default_factory=dict)
    """Files below the home folder."""


def site(changes: dict[str, Any] | None = None, **queue: Any) -> dict[str, Any]:
    return {**A100, "queues": {"gpu": {**DAY, **queue}}, **(changes or {})}


CASES = {
    "one-gpu": Case(site({"internet": True}), ("launch.processes=1",)),
    "two-nodes": Case(
        site(
            {
                "gres": "a100", "modules": ["cuda/12.8", "gcc/13"], "setup": ["ulimit -n 65536", "umask 027"],
                "env": {"NCCL_DEBUG": "WARN", "GREETING": "it's 5 o'clock; & so"}, "exclude": "node[013-014]",
                "network": {"interface": "ib0", "env": {"NCCL_IB_HCA": "mlx5"}}, "directives": ["--mail-type=END"],
                "secrets": "~/keys/secrets.env", "paths": {"cache": "/shared/cache"}, "scratch": "$TMPDIR",
            },
            qos="long", constraint="(nvlink&ib)|new", reservation="workshop", directives=["--exclusive"],
        ),
        ("launch.nodes=2",), account="project42",
    ),
    "no-requeue": Case(site({"requeue": False, "stop_lead_s": 300}), ("launch.nodes=2", "launch.time_limit=02:00:00")),
    "cpu": Case(
        {"cpus_per_node": 8, "memory_gib_per_node": 30, "queues": {"cpu": {"max_time": "1-00:00:00", "max_nodes": 4}}},
        ("launch.nodes=2", "launch.processes=2"), home={".config/launcher/secrets.env": "HF_TOKEN=x\n"},
    ),
    "apptainer": Case(site({"container": {"runtime": "apptainer", **BOX}}), ("launch.nodes=2",)),
    "pyxis": Case(site({"container": {"runtime": "pyxis", **BOX}}), ("launch.nodes=2",)),
    "offload": Case(site(), ("sharding.strategy=zero3", "sharding.offload=optimizer")),
    "odd-paths": Case(site(), ("name=0-odd..name_",), run="runs,=2024/~a+b@c/v1.0:x"),
}  # fmt: skip


def made(case: Case, folder: Path) -> tuple[Plan, Site, RunDir]:
    """The plan of a case, its site, and where its run lies, below `folder`, which is the home folder too."""
    (folder / "clusters").mkdir(exist_ok=True)
    (folder / "clusters" / "alpha.yaml").write_text(yaml.safe_dump(case.profile, sort_keys=False))
    for name, text in case.home.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    found = load_cluster(f"alpha{case.queue}", account=case.account).site
    assert found is not None
    return planning.plan(folder, *case.sets, cluster=cluster_of(found)), found, RunDir(folder / case.run)


def texts(case: Case, folder: Path) -> dict[str, str]:
    """Name → text of its scripts, with `/home/me` for `folder`."""
    plan, found, run = made(case, folder)
    box = container.enclosure(
        found,
        {"data.sums": str(folder / "train.jsonl")},
        run.root,
        run.root.parent / ".cache",
        cuda=plan.device == "cuda",
    )
    scripts = sbatch.scripts(plan, found, run, PYTHON, box)
    return {path.name: text.replace(str(folder), "/home/me") for path, text in scripts.items()}
