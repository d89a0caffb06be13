"""What `sbatch --test-only` says against a job, as the key to change. SLURM's words are those of its slurm_errno.c."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from launcher.cluster.schema import Site
from launcher.executors.slurm import client, site_facts
from launcher.executors.slurm.asked import Asked
from launcher.executors.slurm.blame import Fault
from launcher.executors.slurm.site_facts import Node, SiteFacts
from launcher.text import nearest_of

NODES = "Requested node configuration is not available"
"""What it also says where nodes are only down, drained or reserved; such a job is accepted all the same."""


@dataclass(frozen=True)
class Refusal:
    """A sentence of SLURM's, and the subject that it is about."""

    pattern: str
    subject: str
    message: str
    hint: str


TABLE = (
    Refusal("[Ii]nvalid partition|No partition specified", "partition", "SLURM knows no partition {value}", "`sinfo -s` lists them"),
    Refusal("partition not available", "partition", "partition {value} is inactive or drained", "choose another queue"),
    Refusal("group not permitted", "partition", "your groups may not use partition {value}", "choose another queue, or ask the site to let you in"),
    Refusal("Access/permission denied", "partition", "partition {value} takes no jobs of yours from here, or only within a reservation", "choose another queue, or write `reservation: NAME`"),
    Refusal("Invalid account", "account", "SLURM does not take account {value}", "name yours with `--account NAME`"),
    Refusal("Invalid qos|[Qq][Oo][Ss] not permitted", "qos", "SLURM does not take qos {value}", "write one that you may use"),
    Refusal("violates accounting/QOS policy", "qos", "more than your account or qos allows a job", "ask for less (`launch.nodes`, `launch.time_limit`), or choose another `qos`"),
    Refusal("reservation is invalid", "reservation", "no reservation {value}, or it is over", "remove it"),
    Refusal("denied to requested reservation", "reservation", "reservation {value} is not for you", "remove it"),
    Refusal("Invalid feature", "constraint", "no node has the features {value}", "remove it"),
    Refusal("Invalid node name|nodes not in this partition", "exclude", "no node {value}", "remove it; `sinfo -N` lists the nodes"),
    Refusal("Node count specification invalid|violates.*[Nn]ode", "nodes", "more nodes than the queue allows a job, or fewer", "`scontrol show partition` has its limits"),
    Refusal("time limit is invalid|Invalid --time", "time", "a time that the queue does not allow", "`scontrol show partition` has its limits"),
    Refusal("[Mm]emory (required by task|specification)", "memory_gib_per_node", "more memory than the queue allows", "write what `scontrol show node` calls RealMemory"),
    Refusal("CPU count per node|[Mm]ore processors", "cpus_per_node", "more cores than nodes of the queue have", "write what `scontrol show node` calls CPUTot"),
    Refusal(r"generic resource|\(gres\)", "gres", "SLURM does not know the GPUs as {value}", "write the type as in `sinfo -o %G` (`gpu:TYPE:4`), or none"),
)  # fmt: skip
"""First match decides. Sentences that name an option of the profile's `directives` come before it."""


def said(asked: Asked, *, small: bool = False) -> str | None:
    """SLURM's own verdict on a job, in one line; None where it would take it. Nothing is queued, and no record is left.

    Args:
        asked: the job.
        small: ask for one node and a minute in its place: its sizes are known to be too large, and hide what else is wrong.

    Raises:
        Unreachable: the controller does not answer.
    """
    less = ("--nodes=1", "--cpus-per-task=1", "--mem=1M", "--time=1", "--gpus-per-node=0") if small else ()
    program, *words, script = asked.argv
    answer = client.call(program, "--test-only", *words, *less, script)
    return answer.error.removeprefix("allocation failure: ") if answer.code else None


def fault(text: str, asked: Asked, site: Site, facts: SiteFacts) -> Fault:
    """A refusal as the key to change."""
    if found := _directive(text, site):
        return found
    row = next((each for each in TABLE if re.search(each.pattern, text)), None)
    if row is None:
        again = f"`sbatch --test-only {asked.argv[-1]}` asks again" if asked.stage == "train" else "ask the site"
        extra = [*site.profile.directives, *site.queue.directives]
        options = f"it may be one of `directives` ({', '.join(extra)}); " if extra else ""
        return Fault("queue", f"SLURM refuses the job of `{asked.stage}`: {text}", options + again)
    value, names = _value(row.subject, asked, site, facts.nodes), _names(row.subject, facts)
    message = row.message.format(value=f"`{value}`" if value else "(none is named)")
    hint = nearest_of(value, names, f"there are: {', '.join(names)}") if names else row.hint
    return Fault("max_time" if row.subject == "time" and asked.stage != "train" else row.subject, message, hint)


def _directive(text: str, site: Site) -> Fault | None:
    """The raw option of the profile that the sentence names."""
    named = re.search(r"--([a-z][a-z-]+)|Invalid ([a-z]+) specification", text)
    option = f"--{named[1] or named[2]}".rstrip("s") if named else None
    for prefix, lines in (("", site.profile.directives), (f"queues.{site.queue_name}.", site.queue.directives)):
        for number, line in enumerate(lines):
            if option and line.partition("=")[0].rstrip("s") == option:
                message = f"SLURM does not take `{line}`: {text.partition(';')[0]}"
                return Fault(f"{prefix}directives.{number}", message, "correct it (`man sbatch`), or remove it")
    return None


def _value(subject: str, asked: Asked, site: Site, nodes: Sequence[Node]) -> str:
    """What was asked for; of nodes to stay away from, those that SLURM does not know."""
    if subject == "exclude":
        unknown = sorted(asked.exclude - {node.name for node in nodes})
        return ", ".join(unknown) or str(site.profile.exclude)
    found = getattr(site if subject in ("account", "gres") else site.queue, subject, None)
    return str(found or getattr(site.profile, subject, None) or "")


def _names(subject: str, facts: SiteFacts) -> Sequence[str]:
    """The names that would do; empty where SLURM does not list them."""
    match subject:
        case "constraint":
            return sorted({feature for node in facts.nodes for feature in node.features})
        case "reservation":
            return site_facts.reservations()
        case "account":
            return site_facts.accounts() or ()
        case "qos":
            return site_facts.qos() or ()
    return ()
