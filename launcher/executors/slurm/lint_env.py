"""Rules on how the nodes of a script find each other, on what they see, and on what others see."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath

from launcher.cluster.checks import ASSIGNED_SECRET
from launcher.executors.slurm.lint_job import Found, at
from launcher.executors.slurm.script import LAUNCHES, Script
from launcher.text import SECRET

_OF_A_TASK = ("SLURM_PROCID", "SLURM_NODEID", "SLURM_LOCALID")


def _expanded_early(script: Script) -> Iterator[Found]:
    for line in script.batch:
        for name in _OF_A_TASK:
            if line.expands(name):
                message = f"the batch shell replaces ${name} once: it is 0 for every task"
                yield at(line, message, f'write `\\${name}` within `srun bash -c "…"`, or a script that srun starts')


def _node_rank(script: Script) -> Iterator[Found]:
    c10d = script.said(r"--rdzv[-_]backend[= ]c10d")
    if c10d and (line := script.said(r"--node[-_]rank")):
        message = "c10d numbers the nodes by itself and does not heed `--node-rank`"
        yield at(line, message, "write `--master-addr` and `--master-port` instead of the rendezvous", "warning")


def _address(script: Script) -> Iterator[Found]:
    hint = 'write `MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n1)`'
    faults = {
        r"\|\|\s*echo\s+[\"']?(localhost|127\.0\.0\.1)": "where the name is not found, every node trains alone",
        r"SLURM_LAUNCH_NODE_IPADDR": "this is where srun was typed, which need not be a node of the job",
        r"\$\(\s*hostname\s+-[iI]\b": "the first address of a host may be 127.0.1.1, or one that others do not reach",
    }
    if script.nodes > 1:
        own = r"(MASTER_ADDR=|--master[-_]addr[= ])[\"']?(localhost|127\.0\.0\.1)"
        faults[own] = f"{script.nodes} nodes, each of which would meet itself"
    for pattern, message in faults.items():
        if line := script.said(pattern):
            yield at(line, message, hint)


def _port(script: Script) -> Iterator[Found]:
    if line := script.said(r"(MASTER_PORT=|--master[-_]port[= ])[\"']?\d+"):
        message = "a fixed port: a second job on the node fails, or meets the ranks of the first"
        yield at(line, message, "write `MASTER_PORT=$((20000 + SLURM_JOB_ID % 10000))`", "warning")


def _interface(script: Script) -> Iterator[Found]:
    started = next((line for line in script.on_nodes if LAUNCHES.search(line.text)), None)
    if started and script.nodes > 1 and not script.said(r"NCCL_SOCKET_IFNAME="):
        message = "NCCL may choose a bridge of containers, or a slow network"
        yield at(started, message, "write `export NCCL_SOCKET_IFNAME=^lo,docker`, or name it", "warning")


def _downloads(script: Script) -> Iterator[Found]:
    fetch = r"\b(hf|huggingface-cli)\s+download\b|snapshot_download|\bpip3?\s+install\b|\bgit\s+clone\b|\b(wget|curl)\s"
    if line := script.said(fetch, script.on_nodes):
        message = "every task fetches it, into the same folder at the same time"
        yield at(line, message, "fetch it before, where you type sbatch: `launcher fetch`")


def offline(script: Script) -> Iterator[Found]:
    """Where nodes reach no hub, what asks it waits for minutes, or for ever."""
    started = next((line for line in script.on_nodes if LAUNCHES.search(line.text)), None)
    if started and not script.said(r"HF_HUB_OFFLINE=[\"']?1"):
        yield at(started, "the nodes do not reach the hub, and will ask it", "write `export HF_HUB_OFFLINE=1`")


def _export(script: Script) -> Iterator[Found]:
    value = script.value("export")
    option = script.options.get("export")
    if not value.startswith(("NONE", "NIL")):
        message = "your environment, secrets and all, goes into the job's record"
        number = option.number if option else 1
        yield Found("warning", number, message, "write `--export=NONE`, and load what the job needs in the script")
    elif script.steps and not script.said(r"unset\s+SLURM_EXPORT_ENV|--export=ALL"):
        message = "`--export=NONE` holds for srun, too: what the script sets does not reach the ranks"
        yield at(script.steps[0], message, "write `unset SLURM_EXPORT_ENV` in front")


def _secrets(script: Script) -> Iterator[Found]:
    hint = "remove it, revoke it, and write it into a file that only you may read (`secrets` of a profile)"
    for number, line in enumerate(script.raw, 1):
        found = ASSIGNED_SECRET.search(line)
        if found or SECRET.search(line):
            name = f" ({found[1]})" if found else ""
            yield Found("error", number, f"a secret{name}: `scontrol write batch_script` shows the script", hint)


def _mounts(script: Script) -> Iterator[Found]:
    """Of Pyxis and Apptainer: the folder that is written to."""
    boxes = r"--container-image|\b(apptainer|singularity)\s+(exec|run)\b"
    if (line := script.said(boxes, script.steps)) is None:
        return
    mounts = re.findall(r"--container-mounts[= ](\S+)|(?:--bind|-B)[= ](\S+)", line.text)
    seen = [part.split(":")[0].strip("'\"") for pair in mounts for each in pair if each for part in each.split(",")]
    run = next((found[1] for each in script.batch if (found := re.match(r"RUN=[\"']?(/[^\s\"']*)", each.text))), None)
    if not seen or (run and not any(PurePosixPath(run).is_relative_to(each) for each in seen)):
        message = f"the container does not see {run or 'what the job writes to'}: it fails at its first checkpoint"
        yield at(line, message, "bind it: `--container-mounts=DIR:DIR`, `--bind DIR`")


RULES: dict[str, Callable[[Script], Iterator[Found]]] = {
    "expanded-early": _expanded_early,
    "node-rank": _node_rank,
    "address": _address,
    "port": _port,
    "interface": _interface,
    "downloads": _downloads,
    "export": _export,
    "secrets": _secrets,
    "mounts": _mounts,
}
