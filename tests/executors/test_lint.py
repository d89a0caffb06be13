"""Each mistake that was met in people's scripts, made in ours: the rule finds it, at its line, and nothing else does."""

from __future__ import annotations

import json
import re

import pytest

from launcher.cli.main import main
from launcher.errors import Exit
from launcher.executors.slurm import lint
from launcher.executors.slurm.script import Script
from tests.support import golden

FOLDER = golden.ROOT / "slurm"
C10D = '--rdzv-backend c10d --rdzv-endpoint "$MASTER_ADDR:$MASTER_PORT"'
STEP = "srun --nodes=2 --ntasks-per-node=1"

# (rule, file, what stands there, what somebody would write, a piece of the line that is named)
MISTAKES = {
    "S1 the batch shell expands": ("expanded-early", "train.sbatch", 'bash "$RUN/slurm/node.sh"', 'bash -c "NODE=$SLURM_NODEID bash node.sh"', "slice"),
    "S1 in an export": ("expanded-early", "train.sbatch", "slice=$!", 'export NODE_RANK="${SLURM_PROCID}"\nslice=$!', "NODE_RANK"),
    "S2 node rank with c10d": ("node-rank", "node.sh", '--master-addr "$MASTER_ADDR"', C10D, "exec"),
    "S3 or else this host": ("address", "node.sh", "export OMP_NUM_THREADS=8", "MASTER_ADDR=$(scontrol show hostnames | head -n1 || echo localhost)", "localhost"),
    "S3 where srun was typed": ("address", "node.sh", '--master-addr "$MASTER_ADDR"', '--master-addr "$SLURM_LAUNCH_NODE_IPADDR"', "exec"),
    "S3 two nodes, one host": ("address", "node.sh", '--master-addr "$MASTER_ADDR"', "--master-addr 127.0.0.1", "exec"),
    "S4 one core each": ("cpus-per-task", "train.sbatch", 'export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"', ":", "slice"),
    "S5 tasks": ("tasks", "train.sbatch", "#SBATCH --ntasks-per-node=1 ", "#SBATCH --ntasks-per-node=4 ", "--ntasks-per-node=4"),
    "S5 tasks of all": ("tasks", "train.sbatch", "#SBATCH --ntasks-per-node=1 ", "#SBATCH -n 8 ", "-n 8"),
    "S5 tasks of the step": ("tasks", "train.sbatch", STEP, "srun --nodes=2 --ntasks-per-node=4", "slice"),
    "S6 to every process": ("signal", "train.sbatch", "--signal=B:USR1@120", "--signal=USR1@120", "--signal"),
    "S7 in the foreground": ("foreground", "train.sbatch", "\n) &\n", "\n)\n", "slice"),
    "S7 waits once": ("wait-once", "train.sbatch", re.compile(r"while kill.*?\nfi\n", re.DOTALL), "", "wait"),
    "S7 traps CONT": ("trap-cont", "train.sbatch", "slice=\n", "slice=\ntrap : CONT\n", "CONT"),
    "S8 30 s": ("signal", "train.sbatch", "B:USR1@120", "B:USR1@30", "--signal"),
    "S8 torchrun's 30 s": ("shutdown-timeout", "node.sh", "  --shutdown-timeout 600 \\\n", "", "exec"),
    "S8 no word at all": ("signal", "train.sbatch", "#SBATCH --signal=B:USR1@120 ", "# ", "#!/bin/bash"),
    "S9 the first address": ("address", "node.sh", "export OMP_NUM_THREADS=8", "export MASTER_ADDR=$(hostname -i)", "hostname"),
    "S10 any interface": ("interface", "node.sh", "export NCCL_SOCKET_IFNAME=ib0\n", "", "exec"),
    "S11 every rank fetches": ("downloads", "node.sh", "export OMP_NUM_THREADS=8", "hf download Qwen/Qwen3-0.6B", "hf download"),
    "S13 a folder from here": ("output", "train.sbatch", "--output=/home/me/runs/small/slurm/logs/", "--output=logs/", "--output"),
    "S14 memory": ("memory", "train.sbatch", re.compile(r"#SBATCH --(mem=\S+|exclusive) .*\n"), "", "#!/bin/bash"),
    "S14 the others wait": ("kill-on-bad-exit", "train.sbatch", " --kill-on-bad-exit=1", "", "slice"),
    "S15 no time to train": ("time", "train.sbatch", "--time=1-00:00:00", "--time=00:02:00", "--time"),
    "S16 all goes into the record": ("export", "train.sbatch", "--export=NONE", "--export=ALL", "--export"),
    "S16 by default": ("export", "train.sbatch", "#SBATCH --export=NONE ", "# ", "#!/bin/bash"),
    "S16 nothing reaches the ranks": ("export", "train.sbatch", "unset SLURM_EXPORT_ENV", ":", "slice"),
    "S16 in the script": ("secrets", "train.sbatch", "export NCCL_DEBUG=WARN", "export WANDB_API_KEY=0123456789", "WANDB"),
    "S16 by its shape": ("secrets", "node.sh", "export OMP_NUM_THREADS=8", "", ""),
    "S18 an empty log": ("open-mode", "train.sbatch", "#SBATCH --open-mode=append ", "# ", "--requeue"),
    "S19 twice": ("lock", "train.sbatch", '"$PYTHON" -m launcher.executors.slurm.slice "$RUN" -- \\\n', "", "exec"),
    "S20 a cancelled job": ("requeue", "train.sbatch", re.compile("trap .* TERM"), "trap 'scontrol requeue $SLURM_JOB_ID' TERM", "requeue"),
    "S20 by a function": ("requeue", "train.sbatch", re.compile("trap .* TERM"), "again() { scontrol requeue $SLURM_JOB_ID; }\ntrap again TERM", "trap again"),
    "S20 the whole array": ("requeue", "train.sbatch", 'exit "$code"', 'scontrol requeue "$SLURM_ARRAY_JOB_ID"', "scontrol requeue"),
    "a fixed port": ("port", "node.sh", '--master-port "$MASTER_PORT"', "--master-port 29500", "exec"),
    "an option too late": ("shape", "train.sbatch", "set -uo pipefail", "set -uo pipefail\n#SBATCH --time=99:00:00", "99:00"),
    "no interpreter": ("shape", "train.sbatch", "#!/bin/bash", "# bash", "# bash"),
    "the folder of the copy": ("script-folder", "train.sbatch", "RUN=/home/me/runs/small", 'RUN=$(dirname "$0")', "dirname"),
}  # fmt: skip


def pair(name: str) -> dict[str, str]:
    return {each: (FOLDER / name / each).read_text() for each in ("train.sbatch", "node.sh")}


def changed(text: str, old: str | re.Pattern[str], new: str) -> str:
    made = old.sub(new, text) if isinstance(old, re.Pattern) else text.replace(old, new)
    assert made != text, f"{old} does not stand there"
    return made


def found(texts: dict[str, str], *, internet: bool = False) -> list[tuple[str, str, int]]:
    """(rule, file, line)."""
    script = Script(texts["train.sbatch"], {"node.sh": texts["node.sh"]})
    return [
        (each.key, each.place.source, each.place.line)
        for each in lint.findings(script, "train.sbatch", internet=internet)
    ]


@pytest.mark.parametrize("name", [name for name in MISTAKES if name != "S16 by its shape"])
def test_a_mistake_is_found_at_its_line(name: str):
    """Only that one, by the rule that is made for it."""
    rule, file, old, new, piece = MISTAKES[name]
    texts = pair("two-nodes")
    texts[file] = changed(texts[file], old, new)
    seen = found(texts)
    assert [each[0] for each in seen] == [rule]
    _, source, line = seen[0]
    assert source == ("node.sh" if piece == "exec" else file)
    assert piece in texts[source].splitlines()[line - 1]


def test_a_credential_is_known_by_its_shape():
    """Whatever the variable is called."""
    texts = pair("two-nodes")
    texts["train.sbatch"] = texts["train.sbatch"].replace("NCCL_DEBUG=WARN", "X=hf_" + "a1" * 17)
    assert [each[0] for each in found(texts)] == ["secrets"]


def test_nodes_without_the_hub():
    """S12: what asks it would wait; where the nodes reach it, they may ask."""
    texts = {name: text.replace("export HF_HUB_OFFLINE=1\n", "") for name, text in pair("two-nodes").items()}
    assert [each[0] for each in found(texts)] == ["offline"]
    assert found(texts, internet=True) == []


@pytest.mark.parametrize("box", ["apptainer", "pyxis"])
def test_a_container_that_does_not_see_the_run(box: str):
    """S17: its first checkpoint would fail."""
    texts = pair(box)
    assert found(texts) == []
    outside = {"apptainer": ("--bind /home/me ", "--bind /data "), "pyxis": ("/home/me:/home/me", "/data:/data")}[box]
    texts["train.sbatch"] = changed(texts["train.sbatch"], *outside)
    assert [each[0] for each in found(texts)] == ["mounts"]


def test_every_rule_is_shown_to_find_something():
    """And every mistake has a number of the list, from 1 to 20."""
    assert {each[0] for each in MISTAKES.values()} | {"mounts", "offline"} == {*lint.RULES, "offline"}
    numbers = {int(name[1 : name.index(" ")]) for name in MISTAKES if name.startswith("S")} | {12, 17}
    assert numbers == set(range(1, 21))


def test_names_in_single_quotes_are_for_the_nodes():
    """`srun bash -c '… $SLURM_NODEID'` and `\\$SLURM_NODEID` are right."""
    texts = pair("two-nodes")
    right = 'bash -c \'N=$SLURM_NODEID exec bash "$0"\' "$RUN/slurm/node.sh" # $SLURM_PROCID'
    texts["train.sbatch"] = texts["train.sbatch"].replace('bash "$RUN/slurm/node.sh"', right)
    assert found(texts) == []


PERSONS = """\
#!/bin/bash
#SBATCH -J train -N 2
#SBATCH --ntasks-per-node 4
#SBATCH --mem=0 --signal=USR1@60
#SBATCH -o logs/%j.out
srun torchrun --nnodes 2 --node_rank $SLURM_NODEID \\
  --rdzv_backend c10d train.py
"""


def test_the_command_names_line_and_fix(tmp_path, capsys, monkeypatch):
    """Of a script that somebody brings along."""
    (tmp_path / "mine.sbatch").write_text(PERSONS)
    monkeypatch.chdir(tmp_path)
    assert main(["doctor", "--script", "mine.sbatch"]) == Exit.ENVIRONMENT
    said = capsys.readouterr().out
    assert "error   mine.sbatch:3: tasks: so many tasks a node" in said
    assert "        hint: write `--ntasks-per-node=1`" in said
    assert "error   mine.sbatch:4: signal: the signal goes to every process" in said
    assert "warning mine.sbatch:5: output: " in said
    assert "error   mine.sbatch:6: expanded-early: " in said
    assert said.splitlines()[-1] == "mine.sbatch: 3 errors, 7 warnings"

    assert main(["doctor", "--script", "mine.sbatch", "--json"]) == Exit.ENVIRONMENT
    assert json.loads(capsys.readouterr().out)["findings"][0]["file"] == "mine.sbatch"
    assert main(["doctor", "--script", "none.sbatch"]) == Exit.ENVIRONMENT
    assert main(["doctor", "--script", "mine.sbatch", "--write"]) == Exit.USAGE


def test_our_scripts_are_clean_by_the_command(capsys):
    """Warnings would do no harm there, but would be noise."""
    assert main(["doctor", "--script", str(FOLDER / "two-nodes" / "train.sbatch")]) == Exit.DONE
    assert capsys.readouterr().out.endswith(": 0 errors, 0 warnings\n")
