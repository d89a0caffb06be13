"""SLURM's words for why a job waits and how it ended, in plain ones."""

from __future__ import annotations

from collections.abc import Mapping

WAITS: Mapping[str, str] = {
    "BeginTime": "SLURM starts it again in a moment",
    "Dependency": "it comes after other jobs of the run",
    "DependencyNeverSatisfied": "a job before it has failed, so it never starts",
    "JobHeldAdmin": "an administrator holds it",
    "JobHeldUser": "it is held",
    "Licenses": "licences are all in use",
    "NodeDown": "a node that it needs is down",
    "PartitionDown": "the partition is closed for now",
    "PartitionInactive": "the partition is closed for now",
    "PartitionNodeLimit": "it asks for more nodes than the partition gives to a job, so it may never start",
    "PartitionTimeLimit": "it asks for more time than the partition gives to a job, so it may never start",
    "Priority": "jobs of higher priority come first",
    "Reservation": "it waits for its reservation",
    "Resources": "it is next, when enough nodes are free",
    "ReqNodeNotAvail": "nodes that it needs are not available, perhaps before a maintenance",
}
"""Reason → what it means."""
_LIMITS = ("Assoc", "QOS", "MaxJob", "MaxNode", "MaxMem", "MaxCpu")

ENDS: Mapping[str, str] = {
    "BOOT_FAIL": "its nodes did not start up",
    "CANCELLED": "cancelled with scancel",
    "COMPLETED": "its job ended without running it",
    "DEADLINE": "it could not end before its deadline, so SLURM gave it up",
    "FAILED": "its job failed before the launcher could say why",
    "NODE_FAIL": "a node failed, and SLURM did not queue the job again",
    "OUT_OF_MEMORY": "it used more memory of a node than its job had asked for, and was killed",
    "PREEMPTED": "its nodes were given to another job, and SLURM did not queue it again",
    "REFUSED": "SLURM refused the job",
    "REVOKED": "its job was taken back by SLURM",
    "TIMEOUT": "its time limit ended the job before it could save and queue itself again",
    "UNKNOWN": "SLURM has forgotten the job, which ended without a word of the launcher",
}
"""State → what became of the run, where the run itself did not live to say it."""
KILLED = "the launcher in its job was killed"
"""FAILED, where it had begun and said nothing more."""


def wait(reason: str) -> str | None:
    """What a reason to wait means; None for one that is not known."""
    word = reason.partition(",")[0].strip()
    if "requeued" in word and "held" in word:  # launch failed requeued held, job requeued in held state
        return "SLURM could not start it, and holds it"
    if word.startswith(_LIMITS):
        return "a limit of the account or the quality of service is reached"
    return WAITS.get(word)


def held(reason: str) -> bool:
    """It stays where it is until somebody lets it go."""
    return "Held" in reason or "held" in reason


def end(state: str, reason: str = "") -> str:
    """How a job ended that left the run no time to say so."""
    if reason == "JobLaunchFailure":
        return "SLURM could not start the job on its node"
    if reason == "DependencyNeverSatisfied":
        return "a job before it failed"
    return ENDS.get(state, f"its job ended: {state}")
