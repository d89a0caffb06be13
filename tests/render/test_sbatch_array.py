"""The batch script of an array: read as a whole, and by the programs that will read it."""

import shutil
import subprocess
from pathlib import Path

import pytest

from launcher.cluster.load import load_cluster
from launcher.cluster.site import cluster_of
from launcher.render import sbatch_array
from launcher.runs import arrays
from launcher.runs.paths import RunDir
from tests.support import golden, planning

PROFILE = """\
gpu: H100
gpus_per_node: 4
gres: h100
cpus_per_node: 96
memory_gib_per_node: 1000
account: proj
queues: {gpu: {partition: gpu, max_time: "12:00:00"}}
"""


@pytest.fixture
def made(tmp_path: Path, monkeypatch):
    """`made(throttle)`: the folder of an array of three runs, and its script."""
    (tmp_path / "clusters").mkdir()
    (tmp_path / "clusters" / "alpha.yaml").write_text(PROFILE)
    monkeypatch.setenv("LAUNCHER_CLUSTERS", str(tmp_path / "clusters"))
    site = load_cluster("alpha").site
    plan = planning.plan(tmp_path, "launch.gpus=2", cluster=cluster_of(site))
    runs = [RunDir(tmp_path / "runs" / f"tiny-seed-{seed}") for seed in (1, 2, 3)]

    def make(throttle: int | None = None):
        array = arrays.create(tmp_path / "runs", "tiny-seed", f"{throttle or 0:016x}", runs)
        return array, sbatch_array.script(array, "tiny-seed", plan, site, tuple(runs), throttle)

    return make


def test_the_script_is_as_reviewed(made, tmp_path):
    _, text = made(2)
    golden.check("render/array.sbatch", text.replace(str(tmp_path), "/home/me"))


def test_shellcheck_finds_nothing(made, tmp_path):
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    (tmp_path / "x.sbatch").write_text(made(2)[1])
    done = subprocess.run(["shellcheck", tmp_path / "x.sbatch"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_each_element_becomes_the_script_of_its_own_run(made, tmp_path):
    """A real bash takes each index to its run, as the same process: SLURM's signals go to the one it started."""
    _, text = made()
    for seed in (1, 2, 3):
        script = tmp_path / "runs" / f"tiny-seed-{seed}" / "slurm" / "train.sbatch"
        script.parent.mkdir(parents=True)
        script.write_text(f'echo "{seed} $$ $SLURM_ARRAY_TASK_ID"')
    (tmp_path / "array").write_text(text)
    for index in (0, 1, 2):
        process = subprocess.Popen(
            ["bash", tmp_path / "array"], env={"SLURM_ARRAY_TASK_ID": str(index), "PATH": "/usr/bin:/bin"},
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.communicate()[0] == f"{index + 1} {process.pid} {index}\n"


def test_the_log_of_an_element_lies_in_its_run(made, tmp_path):
    """SLURM opens the path of `--output`, its `%a` filled in: through the link it leads into the run."""
    array, text = made()
    (output,) = [line.partition("=")[2] for line in text.splitlines() if line.startswith("#SBATCH --output=")]
    path = Path(output.replace("%a", "1").replace("%A", "88"))
    RunDir(tmp_path / "runs" / "tiny-seed-2").job_logs.mkdir(parents=True)
    path.write_text("said")
    assert RunDir(tmp_path / "runs" / "tiny-seed-2").job_log("train", "88_1")[0].read_text() == "said"
    assert not (array.links / "1").readlink().is_absolute(), "a copied folder of runs would lead to the old one"


def test_without_a_throttle_all_may_run(made):
    assert "#SBATCH --array=0-2\n" in made()[1]
