"""What the nodes of a job found about themselves before the ranks started, and what it comes to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from launcher.runs import versions
from launcher.runs.files import read_json, write_json
from launcher.runs.paths import RunDir

Finding = Literal["ok", "skipped", "warning", "bad", "odd", "fault"]
"""`bad`: this node's fault. `odd`: too, unless most nodes find the same: then the site is as it is. `fault`: nobody's here,
and another node would not help."""

_MOST_CLOCK_SKEW_S = 5.0


@dataclass(frozen=True)
class Check:
    """What one check came to, and why where that is not plain."""

    finding: Finding
    why: str = ""


@dataclass(frozen=True)
class NodeReport:
    """`node-I.json`. Times are Unix time in seconds."""

    start: str
    """Names this start of the nodes: those of another one of the same attempt are not meant."""
    node: int
    """Its number in the job, from 0; node 0 is where all meet."""
    nodes: int
    name: str
    """As the scheduler calls it."""
    host: str
    address: str | None
    """What its host name means to itself, which is what gloo tells the others; None where it means nothing."""
    address_fault: str
    """What is wrong with that address where nodes are several machines; empty where nothing is."""
    port: int
    """Where it listens during the preflight; on node 0 also the port on which the ranks will meet."""
    token: str
    written: float
    seconds: float
    """How long the preflight has taken by now."""
    done: bool = False
    """It has also tried to reach the others."""
    versions: dict[str, str] = field(default_factory=dict)
    checks: dict[str, Check] = field(default_factory=dict)
    unreachable: dict[str, str] = field(default_factory=dict)
    """Number of a node that could not be reached from this one → why."""
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Preflight:
    """What came of it: the ranks may start when nothing is bad, at fault or missing."""

    port: int | None
    """Where the ranks meet, on the first node; None where it has not reported."""
    bad: Mapping[str, str]
    """Node's name → why it is to be left out of the next start."""
    faults: tuple[str, ...]
    """What other nodes would not mend."""
    warnings: tuple[str, ...]
    missing: tuple[int, ...]
    """Numbers of nodes that have not reported, or not all; they are `bad` too where their names are known."""

    @property
    def ok(self) -> bool:
        """The ranks may start."""
        return not (self.bad or self.faults or self.missing)


def write(run_dir: RunDir, attempt: int, report: NodeReport) -> None:
    """Write `node-I.json` in one step.

    Raises:
        OSError: the run directory cannot be written.
    """
    write_json(run_dir.node_report(attempt, report.node), asdict(report))


def read(run_dir: RunDir, attempt: int, node: int) -> NodeReport | None:
    """One node's report; None when there is none, or half of one."""
    value = read_json(run_dir.node_report(attempt, node))
    try:
        return NodeReport(**{**value, "checks": {k: Check(**v) for k, v in value["checks"].items()}}) if value else None
    except (KeyError, TypeError, AttributeError):
        return None


def reports(run_dir: RunDir, attempt: int) -> dict[int, NodeReport]:
    """Number → report of each node of the newest start."""
    numbers = (path.stem.removeprefix("node-") for path in run_dir.attempt(attempt).glob("node-*.json"))
    found = [report for each in numbers if each.isdigit() and (report := read(run_dir, attempt, int(each)))]
    newest = max(found, key=lambda report: report.written).start if found else ""
    return {report.node: report for report in sorted(found, key=lambda each: each.node) if report.start == newest}


def verdict(run_dir: RunDir, attempt: int, names: Sequence[str] = ()) -> Preflight:
    """What the reports of an attempt come to. Reads, decides, changes nothing.

    Args:
        run_dir: the run.
        attempt: number of the attempt.
        names: the nodes of the job in order, as `scontrol show hostnames` lists them; without, a node that has not
            reported can only be numbered.
    """
    known = reports(run_dir, attempt)
    nodes = max([len(names), *(report.nodes for report in known.values())])
    missing = tuple(number for number in range(nodes) if number not in known or not known[number].done)
    if not known:
        return Preflight(
            None, {}, ("no node has reported: the preflight did not run, or could not write",), (), missing
        )
    bad = _Blame()
    for number in missing:
        if number in known:
            bad.add(known[number].name, "it has not come to the end of the preflight")
        elif number < len(names):
            bad.add(names[number], "it has not reported")
    faults = [*_own(known, bad), *_versions(run_dir, known, bad), *_reach(known, bad)]
    port = known[0].port if 0 in known else None
    return Preflight(port, bad.sentences(), tuple(dict.fromkeys(faults)), tuple(_warnings(known)), missing)


class _Blame:
    """Node → why, one sentence after another."""

    def __init__(self) -> None:
        self._why: dict[str, list[str]] = {}

    def add(self, node: str, why: str) -> None:
        self._why.setdefault(node, []).append(why)

    def sentences(self) -> dict[str, str]:
        return {node: "; ".join(dict.fromkeys(why)) for node, why in self._why.items()}


def _most(part: int, nodes: int) -> bool:
    """More than half of several nodes."""
    return nodes > 1 and 2 * part > nodes


def _own(known: Mapping[int, NodeReport], bad: _Blame) -> Iterator[str]:
    """What nodes found wrong with themselves; yields what is the fault of none of them."""
    for check in dict.fromkeys(name for report in known.values() for name in report.checks):
        found = [(report, report.checks[check]) for report in known.values() if check in report.checks]
        odd = [(report, each) for report, each in found if each.finding == "odd"]
        of_the_site = _most(len(odd), len(known))
        if of_the_site:
            yield f"{odd[0][1].why} (on {odd[0][0].name}; {len(odd)} of {len(known)} nodes find the like)"
        for report, each in found:
            if each.finding == "bad" or (each.finding == "odd" and not of_the_site):
                bad.add(report.name, each.why)
        # What all share is said once, in the words of the first.
        yield from [each.why for _, each in found if each.finding == "fault"][:1]


def _versions(run_dir: RunDir, known: Mapping[int, NodeReport], bad: _Blame) -> tuple[str, ...]:
    by_node = {report.name: report.versions for report in known.values()}
    odd, faults = versions.odd_ones(by_node, versions.submitted(run_dir))
    for node, why in odd.items():
        bad.add(node, why)
    return faults


def _reach(known: Mapping[int, NodeReport], bad: _Blame) -> Iterator[str]:
    """Who cannot be reached; yields what is the fault of none.

    All try the first node, and it tries all. Where most of them fail, the first node is to blame; else those that fail;
    of two, either may be. A node whose own name leads back to itself is to blame in any case, unless most are so.
    """
    pairs = {(by, int(to)): why for by, report in known.items() for to, why in report.unreachable.items()}
    looped = {to: known[to] for _, to in pairs if to in known and known[to].address_fault}
    if _most(len(looped), len(known)):
        first = known[min(looped)]
        yield f"{first.address_fault} (on {first.name}; {len(looped)} of {len(known)} nodes find the like)"
        return
    for report in looped.values():
        bad.add(report.name, report.address_fault)
    failing = {by or to: why for (by, to), why in pairs.items() if to not in looped}
    others = len(known) - 1
    if failing and others == 1:
        for report in known.values():
            bad.add(report.name, next(iter(failing.values())))
    elif _most(len(failing), others) and 0 in known:
        bad.add(known[0].name, f"{len(failing)} of {others} nodes and it cannot reach one another: {_first(failing)}")
    else:
        for number, why in failing.items():
            bad.add(known[number].name, why)


def _first(failing: Mapping[int, str]) -> str:
    return failing[min(failing)]


def _warnings(known: Mapping[int, NodeReport]) -> Iterator[str]:
    for report in known.values():
        yield from (f"{report.name}: {each.why}" for each in report.checks.values() if each.finding == "warning")
        skew = float(report.figures.get("clock_skew_s") or 0)
        if abs(skew) > _MOST_CLOCK_SKEW_S:
            yield f"{report.name}: its clock is {skew:+.0f} s off that of {known[0].name if 0 in known else 'the first node'}"
    drivers = {report.name: str(report.figures["driver"]) for report in known.values() if "driver" in report.figures}
    if len(set(drivers.values())) > 1:
        yield "NVIDIA drivers differ: " + ", ".join(f"{driver} on {node}" for node, driver in drivers.items())
