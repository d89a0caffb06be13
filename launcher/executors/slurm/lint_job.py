"""Rules on what a batch script asks of SLURM, and on how it hears of its end."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from launcher.executors.findings import Level
from launcher.executors.slurm.script import LAUNCHES, Line, Script
from launcher.plan.jobs import seconds

_SHORTEST_LEAD_S = 60
"""SLURM looks at time limits every 30 s, and may send the signal up to 60 s early or the end late."""
_LONG = re.compile(r"(?:^|[\s;&|(!])srun\s|launcher run\b|" + LAUNCHES.pattern)


@dataclass(frozen=True)
class Found:
    """One mistake: the line (of another file where `source` is set), and what to write."""

    level: Level
    number: int
    message: str
    hint: str
    source: str = ""


def at(line: Line, message: str, hint: str, level: Level = "error") -> Found:
    """A mistake in a command."""
    return Found(level, line.number, message, hint, line.source)


def _shape(script: Script) -> Iterator[Found]:
    if not script.text.startswith("#!"):
        yield Found("error", 1, "sbatch takes no script without `#!`", "begin with `#!/bin/bash`")
    if "\r\n" in script.text:
        yield Found("error", 1, "lines end as on Windows, which sbatch refuses", "`dos2unix FILE`")
    for number in script.late:
        yield Found("error", number, "sbatch reads no option behind the first command", "move it up")


def _script_folder(script: Script) -> Iterator[Found]:
    if line := script.said(r"dirname\s+\S*\$(?:0|\{?BASH_SOURCE)|\$\{(?:0|BASH_SOURCE(?:\[0\])?)%", script.batch):
        yield at(line, "SLURM runs a copy: this is the folder of the copy", "write the folder, or `$SLURM_SUBMIT_DIR`")


def _tasks(script: Script) -> Iterator[Found]:
    """Each torchrun starts the ranks of a node by itself."""
    if not any(LAUNCHES.search(line.text) for line in script.on_nodes):
        return
    message = "so many tasks a node, each of which starts torchrun, which starts as many ranks again"
    hint = "write `--ntasks-per-node=1`"
    for name, most in (("ntasks-per-node", 1), ("ntasks", script.nodes)):
        if (value := script.value(name)).isdigit() and int(value) > most:
            yield Found("error", script.options[name].number, message, hint)
    for line in script.steps:
        if re.search(r"--ntasks-per-node[= ](?!1\b)\d", line.text):
            yield at(line, message, hint)


def _cpus(script: Script) -> Iterator[Found]:
    option = script.options.get("cpus-per-task")
    if option is None or script.said(r"SRUN_CPUS_PER_TASK="):
        return
    for line in script.steps:
        if not re.search(r"\s(--cpus-per-task|-c)[= ]?", line.text):
            hint = 'write `export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"` in front'
            message = "since SLURM 22.05 srun does not inherit `--cpus-per-task`: every task gets one core"
            yield at(line, message, hint)


def _memory(script: Script) -> Iterator[Found]:
    if not {"mem", "mem-per-cpu", "mem-per-gpu", "exclusive"} & script.options.keys():
        message = "no `--mem`: the site's default may be a few GiB, and a rank beyond it is killed"
        yield Found("warning", 1, message, "write `--mem=…`, or `--mem=0` for all of a node")


def _bad_exit(script: Script) -> Iterator[Found]:
    for line in script.steps:
        if not re.search(r"\s(--kill-on-bad-exit|-K)\b", line.text):
            message = "when one node fails, the others wait for it until the time limit"
            yield at(line, message, "write `srun --kill-on-bad-exit=1`", "warning")


def _output(script: Script) -> Iterator[Found]:
    option = script.options.get("output")
    if option and "/" in option.value and not option.value.startswith("/"):
        message = "a log in a folder that is meant from where sbatch is typed; without it, the job fails without a word"
        yield Found("warning", option.number, message, "write the whole path, and make the folder before")


def _open_mode(script: Script) -> Iterator[Found]:
    again = script.said(r"\bscontrol\s+requeue\b") or script.options.get("requeue")
    if again and script.value("open-mode") != "append":
        yield Found("error", again.number, "a job that is queued again empties its log", "write `--open-mode=append`")


def _time(script: Script) -> Iterator[Found]:
    lead, limit = _lead(script), script.value("time")
    with contextlib.suppress(ValueError):
        if lead and re.fullmatch(r"(\d+-)?\d+:\d\d:\d\d", limit) and seconds(limit) <= lead:
            message = f"of {limit}, {lead} s are kept for saving: no time is left for training"
            yield Found("error", script.options["time"].number, message, "ask for more time")


def _signal(script: Script) -> Iterator[Found]:
    option = script.options.get("signal")
    if option is None:
        message = "nothing is said before the time limit: what is not saved by then is lost"
        yield Found("warning", 1, message, "write `--signal=B:USR1@120`, and a trap that has the ranks save")
        return
    if not option.value.startswith("B:"):
        message = "the signal goes to every process of the steps, torchrun too, which dies of it"
        hint = "write `--signal=B:USR1@120`: to the batch shell, whose trap has the ranks save"
        yield Found("error", option.number, message, hint)
    lead = _lead(script)
    if lead is not None and lead < _SHORTEST_LEAD_S:
        message = f"SLURM looks every 30 s: of {lead} s little may be left"
        yield Found("warning", option.number, message, "write `@120`")


def _saving_time(script: Script) -> Iterator[Found]:
    for line in script.everywhere:
        if LAUNCHES.search(line.text) and "accelerate" not in line.text and "--shutdown-timeout" not in line.text:
            message = "torchrun kills ranks that are saving after 30 s"
            yield at(line, message, "write `--shutdown-timeout 600`", "warning")


def _foreground(script: Script) -> Iterator[Found]:
    if not (traps := [line for line in script.batch if re.match(r"trap\b(?!\s+''|\s+-)", line.text)]):
        return
    for line in _not_grouped(script.batch):
        if line.waits and line not in traps and _LONG.search(line.text):
            message = "bash runs a trap when the command before it has ended: here, never in time"
            yield at(line, message, "put it into the background, `&`, and `wait` for it")


def _not_grouped(lines: Sequence[Line]) -> Iterator[Line]:
    """Lines outside of `( … ) &`, which runs in the background as a whole."""
    held: list[Line] | None = None
    for line in lines:
        if line.text.strip() == "(":
            held = []
        elif held is None:
            yield line
        elif line.text.strip().startswith(")"):
            yield from () if line.text.rstrip().endswith("&") else held
            held = None
        else:
            held.append(line)
    yield from held or ()


def _wait_once(script: Script) -> Iterator[Found]:
    waits = [line for line in script.batch if re.search(r"(?:^|[;&|]\s*|\bdo\s+)wait\b", line.text)]
    in_loop = any(re.match(r"(while|until)\b", line.text) for line in script.batch)
    if script.traps("USR1") and len(waits) == 1 and not in_loop:
        message = "a trapped signal ends `wait`, and the job with it"
        yield at(waits[0], message, 'write `while kill -0 "$pid" 2>/dev/null; do wait "$pid"; done`')


def _trap_cont(script: Script) -> Iterator[Found]:
    for line in script.traps("CONT"):
        message = "SLURM sends CONT beside each signal: bash then loses the other one"
        yield at(line, message, "do not trap CONT")


def _requeue(script: Script) -> Iterator[Found]:
    """After `scancel` the shell gets TERM, as at a time limit."""
    again = re.compile(r"\bscontrol\s+requeue\b")
    functions = {found[1] for found in re.finditer(r"(\w+)\s*\(\)\s*\{[^}]*scontrol\s+requeue", script.text)}
    for line in script.traps("TERM"):
        if again.search(line.text) or any(re.search(rf"\b{name}\b", line.text) for name in functions):
            message = "TERM comes with `scancel`, too: a job that somebody cancels is queued again"
            yield at(line, message, "queue again after USR1 only")
    for line in script.batch:
        if again.search(line.text) and re.search(r"SLURM_ARRAY_JOB_ID", line.text) and "ARRAY_TASK_ID" not in line.text:
            message = "the whole array is queued again, not this task"
            yield at(line, message, "write `${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID`")


def _lock(script: Script) -> Iterator[Found]:
    ours = r"launcher\.executors\.slurm\.slice|\blauncher run\b|-m launcher run\b|\bflock\b"
    started = next((line for line in script.on_nodes if LAUNCHES.search(line.text)), None)
    if started and "singleton" not in script.value("dependency") and not script.said(ours):
        message = "submitted twice, two jobs write the same checkpoints"
        hint = "write `--dependency=singleton`, or start it with `launcher run`"
        yield at(started, message, hint, "warning")


def _lead(script: Script) -> int | None:
    found = re.search(r"@(\d+)$", script.value("signal"))
    return int(found[1]) if found else None


RULES: dict[str, Callable[[Script], Iterator[Found]]] = {
    "shape": _shape,
    "script-folder": _script_folder,
    "tasks": _tasks,
    "cpus-per-task": _cpus,
    "memory": _memory,
    "kill-on-bad-exit": _bad_exit,
    "output": _output,
    "open-mode": _open_mode,
    "time": _time,
    "signal": _signal,
    "shutdown-timeout": _saving_time,
    "foreground": _foreground,
    "wait-once": _wait_once,
    "trap-cont": _trap_cont,
    "requeue": _requeue,
    "lock": _lock,
}
