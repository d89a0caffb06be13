"""What a person sees when a profile is wrong: everything at once, with file:line, value and fix, byte for byte."""

import pytest

from launcher.cli.main import main
from tests.recipe.writing import SHORT
from tests.support import golden

CASES = {
    "many": """\
gpu: A100-40G
gpus_per_node: "4"
gres: -x
cpus_per_nod: 128
memory_gib_per_node: 0
queues:
  gpu: {partition: a b, max_time: 24, max_node: 16, directives: [--exclusive, --part=x, -N 3, exclusive]}
  cpu: {gpu: none, gpus_per_node: 2}
  empty:
  a.b: {}
  quick: {max_time: "00:02:00"}
paths: {data: data, cache: $USER/x y}
modules: [cuda/12.8, "a b"]
env: {OK: "1", A: 1, B-C: x, RANK: "2", WANDB_API_KEY: x, HOME2: $HOME}
network: {interface: -x, env: {NCCL_SOCKET_IFNAME: ib0}}
stages: {queue: cp, prepare: sometimes}
container: {runtime: docker}
partition: gpu
currency: euro
""",
    "secret": "cpus_per_node: 1\nmemory_gib_per_node: 1\nqueues: {q: {}}\nsetup: [export HF_TOKEN=hf_"
    + "A" * 30
    + ", export WANDB_API_KEY=abc123, export HF_TOKEN=$(cat ~/token)]\n",
    "no-gpu-count": "gpu: H100\ncpus_per_node: 1\nmemory_gib_per_node: 1\nqueues: {q: {}, c: {gpu: none}}\nstages: {queue: x}\n",
    "not-yaml": "gpu: [H100\n",
    "list": "- gpu: H100\n",
    "empty": "",
}


@pytest.mark.parametrize("case", CASES)
def test_the_message_is_as_reviewed(case, tmp_path, monkeypatch, capsys):
    """Exit 2, and the name of the file as it is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAUNCHER_CLUSTERS", ".")
    (tmp_path / "alpha.yaml").write_text(CASES[case], encoding="utf-8")
    (tmp_path / "recipe.yaml").write_text(SHORT, encoding="utf-8")
    code = main(["plan", "recipe.yaml", "--cluster", "alpha"])
    golden.check(f"cluster/{case}.txt", f"{capsys.readouterr().err}exit {code}\n")
