"""Raw `sbatch` options of a profile: what may stand there, and which options have an owner."""

from __future__ import annotations

import re

from launcher.text import quote

_SHAPE = re.compile(r"--(?P<name>[a-z][a-z0-9-]*)(=[A-Za-z0-9_.,:@+/\[\]=-]+)?")

_RECIPE_NODES = "`launch.nodes` of the recipe"
_RECIPE_TIME = "`launch.time_limit` of the recipe, and `max_time` of the queue"
_GPUS = "`gpus_per_node` and `gres`"
_CPUS = "`cpus_per_node`"
_MEMORY = "`memory_gib_per_node`"
_PLAN = "the plan"
_LOGS = "the run directory, which holds the logs"
_CHAIN = "`stages`"
_SUBMIT = "`launcher run`, which submits the job"

OWNERS: dict[str, str] = {
    "account": "`account`, or `--account` of the command line",
    "partition": "`partition` of the queue",
    "qos": "`qos` of the queue",
    "reservation": "`reservation` of the queue",
    "constraint": "`constraint` of the queue",
    "exclude": "`exclude`",
    "job-name": "`name` of the recipe",
    "nodes": _RECIPE_NODES,
    "time": _RECIPE_TIME,
    "time-min": _RECIPE_TIME,
    "gpus": _GPUS,
    "gpus-per-node": _GPUS,
    "gpus-per-socket": _GPUS,
    "gpus-per-task": _GPUS,
    "gres": _GPUS,
    "cpus-per-task": _CPUS,
    "cpus-per-gpu": _CPUS,
    "mem": _MEMORY,
    "mem-per-cpu": _MEMORY,
    "mem-per-gpu": _MEMORY,
    "ntasks": _PLAN,
    "ntasks-per-node": _PLAN,
    "ntasks-per-gpu": _PLAN,
    "ntasks-per-core": _PLAN,
    "ntasks-per-socket": _PLAN,
    "tres-per-task": _PLAN,
    "array": _PLAN,
    "signal": "`stop_lead_s`",
    "requeue": "`requeue`",
    "no-requeue": "`requeue`",
    "output": _LOGS,
    "error": _LOGS,
    "input": _LOGS,
    "open-mode": _LOGS,
    "chdir": _LOGS,
    "export": "`env` and `secrets`: nothing else of your environment reaches a job",
    "export-file": "`env` and `secrets`: nothing else of your environment reaches a job",
    "get-user-env": "`env` and `setup`",
    "dependency": _CHAIN,
    "kill-on-invalid-dep": _CHAIN,
    "begin": _SUBMIT,
    "clusters": _SUBMIT,
    "comment": _SUBMIT,
    "hold": _SUBMIT,
    "wait": _SUBMIT,
    "wrap": _SUBMIT,
    "parsable": _SUBMIT,
    "quiet": _SUBMIT,
    "verbose": _SUBMIT,
    "test-only": _SUBMIT,
    "uid": _SUBMIT,
    "gid": _SUBMIT,
    "container": "`container`",
    "help": _SUBMIT,
    "usage": _SUBMIT,
    "version": _SUBMIT,
}
"""Long option of sbatch → who decides it."""

SHORT: dict[str, str] = {
    "A": "account", "a": "array", "b": "begin", "C": "constraint", "c": "cpus-per-task", "D": "chdir", "d": "dependency",
    "e": "error", "G": "gpus", "H": "hold", "h": "help", "i": "input", "J": "job-name", "M": "clusters", "N": "nodes",
    "n": "ntasks", "o": "output", "p": "partition", "Q": "quiet", "q": "qos", "t": "time", "V": "version",
    "v": "verbose", "W": "wait", "x": "exclude",
}  # fmt: skip
"""Short forms of owned options."""


def fault(line: str) -> tuple[str, str] | None:
    """What is wrong with one directive, and what to do; None where nothing is."""
    if (owned := _owned(line)) is not None:
        return f"{quote(line)}: `--{owned}` is not set here", f"remove it; it is decided by {OWNERS[owned]}"
    if not _SHAPE.fullmatch(line):
        wanted = "write `--name` or `--name=value`, without `#SBATCH`, blanks and quotes: `--exclusive`"
        return f"needs one long option of sbatch, got {quote(line)}", wanted
    return None


def _owned(line: str) -> str | None:
    """The owned option that a line sets. sbatch takes shortened names (`--part=x`), and so do we here."""
    words = re.match(r"\s*(?:#SBATCH\s+)?--(?P<name>[A-Za-z0-9-]+)|\s*(?:#SBATCH\s+)?-(?P<letter>[A-Za-z])", line)
    if words is None:
        return None
    if words["letter"]:
        return SHORT.get(words["letter"])
    name = words["name"].lower()
    return name if name in OWNERS else next((each for each in OWNERS if each.startswith(name)), None)
