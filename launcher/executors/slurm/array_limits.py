"""How many jobs a site takes at once, read before anything is queued: past some limits sbatch does not refuse, it waits."""

from __future__ import annotations

import getpass
import re
from collections.abc import Iterator
from dataclasses import dataclass

from launcher.cluster.schema import Site
from launcher.errors import EnvironmentFault, SubmissionError
from launcher.executors.slurm import client, site_facts

_LOOK_S = 15.0
_USUAL_ARRAY = 1001
_ENFORCED = re.compile(r"\b(limits|safe|all)\b")


@dataclass(frozen=True)
class Limit:
    """Most jobs at a time, SLURM's word for it, and how many of them are there."""

    most: int
    name: str
    there: int


def refuse(count: int, site: Site) -> int:
    """Nothing but the most elements of one array, where so many more jobs may be queued.

    Args:
        count: jobs about to be queued, each element of an array for one.
        site: where to.

    Raises:
        SubmissionError: they are too many.
        Unreachable: the controller does not answer.
    """
    config = site_facts.config(client.call("scontrol", "show", "config", timeout_s=_LOOK_S).out)
    for limit in _limits(config, site):
        if count > limit.most - limit.there:
            left = max(0, limit.most - limit.there)
            raise SubmissionError(
                f"asks for {count:,} jobs; {limit.name} is {limit.most:,}, and {limit.there:,} are there",
                hint=f"submit at most {left:,} now: fewer recipes or values; what is done or queued does not count again",
            )
    return int(config.get("MaxArraySize") or _USUAL_ARRAY)


def _limits(config: dict[str, str], site: Site) -> Iterator[Limit]:
    if (most := config.get("MaxJobCount", "")).isdigit():
        yield Limit(int(most), "the site's MaxJobCount", _queued("-t", "all"))
    if not _ENFORCED.search(config.get("AccountingStorageEnforce", "")):
        return
    user, account = getpass.getuser(), site.account
    of_account = [f"account={account}"] if account else []
    for most, group in _rows("assoc", [f"user={user}", *of_account], "MaxSubmitJobs,GrpSubmitJobs"):
        where = f"your MaxSubmitJobs{f' in account {account}' if account else ''}"
        mine = ["-u", user, *(["-A", account] if account else [])]
        if most.isdigit():
            yield Limit(int(most), where, _queued(*mine))
        if group.isdigit():
            yield Limit(int(group), where.replace("Max", "Grp"), _queued(*mine))
    if qos := site.queue.qos:
        for (most,) in _rows("qos", [qos], "MaxSubmitJobsPU"):
            if most.isdigit():
                yield Limit(int(most), f"MaxSubmitJobsPerUser of qos {qos}", _queued("-u", user, "-q", qos))


def _rows(what: str, which: list[str], columns: str) -> list[list[str]]:
    """What the site's accounting says; nothing where it does not answer."""
    try:
        answer = client.call("sacctmgr", "-nP", "show", what, *which, f"format={columns}", timeout_s=_LOOK_S)
    except (EnvironmentFault, client.Unreachable):
        return []
    rows = [line.split("|") for line in answer.out.splitlines()] if answer.code == 0 else []
    return [row for row in rows if len(row) == columns.count(",") + 1]


def _queued(*options: str) -> int:
    return len(client.call("squeue", "-h", "-a", "-r", *options, "-o", "%i", timeout_s=_LOOK_S).out.splitlines())
