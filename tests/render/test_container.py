"""Commands in a container: what is bound, what goes in, and what stays out of the options."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from launcher.cluster.load import load_cluster
from launcher.cluster.profile import Container
from launcher.cluster.schema import Site
from launcher.cluster.site import cluster_of
from launcher.errors import EnvironmentFault
from launcher.render import container, sbatch
from launcher.runs.paths import RunDir
from tests.support import golden, planning

APPTAINER = Container(runtime="apptainer", image="/images/launcher.sif", binds=("/opt/site", "/fast:/scratch"))
PYXIS = Container(runtime="pyxis", image="registry.site#ai/launcher:1", binds=("/opt/site", "/fast:/scratch"))
BOUND = (Path("/data/chats"), Path("/home/me/runs/small"), Path("/models"))
RUN = Path("/home/me/runs/small")
COMMAND = ["bash", f"{RUN}/slurm/node.sh"]


def made(folder: Path, *files: str) -> None:
    for each in files:
        path = folder / each
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")


@pytest.mark.parametrize("cuda", [True, False])
@pytest.mark.parametrize("box", [APPTAINER, PYXIS], ids=["apptainer", "pyxis"])
def test_a_command_as_it_is_started(box: Container, cuda: bool):
    """GPUs go in only where the plan uses them; Pyxis brings them by itself."""
    step = ["srun", "--nodes=2", *container.srun_options(box, BOUND, names=["NCCL_DEBUG", "HF_HOME"], workdir=RUN)]
    command = container.wrapped(COMMAND, box, BOUND, cuda=cuda, workdir=RUN)
    lines = [*container.exports(box, ["NCCL_DEBUG", "HF_HOME"]), *map(shlex.quote, step), *map(shlex.quote, command)]

    golden.check(f"render/container-{box.runtime}-{'cuda' if cuda else 'cpu'}.txt", "\n".join(lines) + "\n")


def test_what_a_variable_holds_is_in_no_option():
    """Everybody on a node can read commands."""
    (line,) = container.exports(APPTAINER, ["WANDB_API_KEY"])
    shell = ["bash", "-c", f'{line}; echo "$APPTAINERENV_WANDB_API_KEY"']

    assert (
        subprocess.run(shell, env={"WANDB_API_KEY": "a b'$x"}, capture_output=True, text=True, check=True).stdout
        == "a b'$x\n"
    )
    assert "a b" not in line


def test_packages_of_the_host_stay_out(tmp_path: Path):
    """A module's PYTHONPATH, or what the user has installed into ~/.local, is not what the image holds."""
    program = (
        "import os, site; print(os.environ.get('PYTHONPATH'), os.environ.get('PYTHONHOME'), site.ENABLE_USER_SITE)"
    )
    command = container.wrapped(["python3", "-c", program], PYXIS, (), cuda=False, workdir=tmp_path)
    env = {**os.environ, "PYTHONPATH": "/module", "PYTHONHOME": "/usr"}

    assert subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout == "None None False\n"


def test_folders_within_others_are_not_bound_twice(tmp_path: Path):
    """Data files by their folder, models by themselves."""
    made(tmp_path, "data/a.jsonl", "data/b.jsonl", "data/deep/c.jsonl", "models/x/config.json", "runs/small/plan.json")
    placement = {
        "data.train": [str(tmp_path / "data/a.jsonl"), str(tmp_path / "data/deep/c.jsonl")],
        "data.eval": str(tmp_path / "data/b.jsonl"),
        "model": str(tmp_path / "models/x"),
    }

    found = container.binds(placement, [tmp_path / "models", tmp_path / "not there"], tmp_path / "runs/small")

    assert found == (tmp_path / "data", tmp_path / "models", tmp_path / "runs/small")


def test_both_ends_of_a_link_are_bound(tmp_path: Path):
    """The path is what the plan names; what it leads to is where the bytes are."""
    made(tmp_path, "disk/chats/a.jsonl", "run/plan.json")
    (tmp_path / "data").symlink_to(tmp_path / "disk")
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone/b.jsonl").symlink_to(tmp_path / "disk/chats/a.jsonl")

    found = container.binds(
        {"data.a": str(tmp_path / "data/chats/a.jsonl"), "data.b": str(tmp_path / "alone/b.jsonl")},
        [],
        tmp_path / "run",
    )

    assert found == (tmp_path / "alone", tmp_path / "data/chats", tmp_path / "disk/chats", tmp_path / "run")


def test_a_model_of_the_hubs_cache_is_bound_with_its_blobs(tmp_path: Path):
    """The files of a revision are links into a folder beside it."""
    made(tmp_path, "hub/models--a--b/blobs/f00", "run/plan.json")
    revision = tmp_path / "hub/models--a--b/snapshots/abc"
    revision.mkdir(parents=True)
    (revision / "config.json").symlink_to("../../blobs/f00")

    assert container.binds({"model": str(revision)}, [], tmp_path / "run") == (
        tmp_path / "hub/models--a--b",
        tmp_path / "run",
    )


@pytest.mark.parametrize("name", ["a,b", "a:b", "a b"])
def test_a_path_that_the_runtimes_would_split_is_refused(tmp_path: Path, name: str):
    """`--container-mounts` and `--bind` separate by these."""
    (tmp_path / name).mkdir()

    with pytest.raises(EnvironmentFault, match="cannot be bound into a container"):
        container.binds({}, [], tmp_path / name)


def test_the_root_is_never_bound():
    """It would cover the image."""
    with pytest.raises(EnvironmentFault, match="`/` cannot be bound"):
        container.binds({"data.train": "/train.jsonl"}, [], RUN)


def test_the_scripts_of_a_site_with_a_container(tmp_path: Path, monkeypatch):
    """Each node's script runs inside, by the interpreter there; the launcher that supervises it does not."""
    made(tmp_path, "runs/small/plan.json", "data/train.jsonl", "cache/hub/x", ".config/launcher/secrets.env")
    site = profile_of(tmp_path, monkeypatch, "apptainer", "{}/images/launcher.sif")
    plan = planning.plan(tmp_path, "launch.nodes=2", cluster=cluster_of(site))
    placement = {"data.sums": str(tmp_path / "data/train.jsonl")}
    run = RunDir(tmp_path / "runs/small")

    box = container.enclosure(site, placement, run.root, tmp_path / "runs/.cache", cuda=True)
    scripts = {path.name: text for path, text in sbatch.scripts(plan, site, run, "/env/bin/python", box).items()}

    text = f"# train.sbatch, from srun on\n{after(scripts['train.sbatch'], 'slice')}\n# node.sh\n{scripts['node.sh']}"
    golden.check("render/container-scripts.txt", text.replace(str(tmp_path), "/home/me"))
    assert 'export APPTAINERENV_NCCL_DEBUG="${NCCL_DEBUG-}"' in scripts["train.sbatch"]
    assert "PYTHON=/env/bin/python" in scripts["train.sbatch"]


def test_a_stage_of_one_process_in_a_container(tmp_path: Path, monkeypatch):
    """Pyxis makes containers for steps of srun only."""
    made(tmp_path, "runs/small/plan.json")
    run = tmp_path / "runs/small"
    boxes = [
        container.enclosure(
            profile_of(tmp_path, monkeypatch, runtime, "/i.sif"), {}, run, run.parent / ".cache", cuda=False
        )
        for runtime in ("apptainer", "pyxis")
    ]

    assert [box.alone(["python", "-V"])[:3] for box in boxes if box] == [
        ["apptainer", "exec", "--bind"],
        ["srun", "--nodes=1", "--ntasks=1"],
    ]


def test_a_cache_beside_the_runs_is_bound_with_them(tmp_path: Path, monkeypatch):
    """Prepared files are names of the same file in both, which no link across two mounts can be."""
    made(tmp_path, "runs/small/plan.json", "runs/.cache/files/x", "elsewhere/files/x")
    site = profile_of(tmp_path, monkeypatch, "apptainer", "/i.sif")

    beside = container.enclosure(site, {}, tmp_path / "runs/small", tmp_path / "runs/.cache", cuda=False)
    apart = container.enclosure(site, {}, tmp_path / "runs/small", tmp_path / "elsewhere", cuda=False)

    assert beside and apart
    assert beside.bound == (tmp_path / "runs",)
    assert apart.bound == (tmp_path / "elsewhere", tmp_path / "runs/small")


def profile_of(folder: Path, monkeypatch, runtime: str, image: str) -> Site:
    """A site of nodes with GPUs and a container."""
    text = (
        "{gpu: A100-40GB, gpus_per_node: 4, cpus_per_node: 64, memory_gib_per_node: 500, queues: {gpu: {max_time: '24:00:00'}},"
        f" paths: {{cache: {folder}/cache}}, scratch: /local, env: {{NCCL_DEBUG: INFO}},"
        f" container: {{runtime: {runtime}, image: {image.format(folder)}, binds: [/opt/site], python: /usr/bin/python3}}}}"
    )
    (folder / "clusters").mkdir(exist_ok=True)
    (folder / "clusters/alpha.yaml").write_text(text)
    monkeypatch.setenv("LAUNCHER_CLUSTERS", str(folder / "clusters"))
    monkeypatch.setenv("HOME", str(folder))
    for name in ("DATA", "MODELS", "CACHE", "RUNS"):
        monkeypatch.delenv(f"LAUNCHER_{name}", raising=False)
    found = load_cluster("alpha").site
    assert found is not None
    return found


def after(text: str, word: str) -> str:
    """The text from the line on that holds a word, up to an empty line."""
    lines = text.splitlines()
    first = next(number for number, line in enumerate(lines) if f".{word} " in line)
    return "\n".join(lines[first : lines.index("", first)]) + "\n"
