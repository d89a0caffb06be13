"""What a lab is made of, and the files that SLURM's daemons read of it."""

from __future__ import annotations

import getpass
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """The knobs of a lab; the defaults are a site that preempts, requeues and refuses impossible requests."""

    nodes: int = 4
    cpus: int = 8
    gpus: int = 4
    gpu_type: str | None = None
    """`h100`: GPUs are `gpu:h100:4`, and a job may ask for the type."""
    memory_mb: int = 16000
    separate: bool = False
    """Every node is a host of its own: hostname, address, ports, process numbers. Root only."""
    accounting: bool = False
    """With slurmdbd, so that `sacct` and `sacctmgr` answer."""
    requeue: bool = True
    """False: JobRequeue=0, `scontrol requeue` is refused for jobs that did not ask for it with `--requeue`."""
    enforce_limits: bool = True
    """EnforcePartLimits=ALL. False: NO, what can never start is accepted and waits for ever."""
    preempt_signal: bool = True
    """A preempted job gets its own `--signal` at the start of its grace time; False: plain TERM to the steps."""
    kill_wait_s: int = 5
    """Seconds between TERM and KILL."""
    grace_s: int = 10
    """Seconds that a preempted job of the partition `low` gets."""
    max_array_size: int | None = None
    extra: tuple[str, ...] = ()
    """Further lines of slurm.conf."""


@dataclass(frozen=True)
class Site:
    """Where a lab is: its folder, its name, its ports, the addresses of its nodes."""

    directory: Path
    name: str
    """`lab3`; nodes are `lab3-node1` … and the cluster is called the same."""
    port: int
    """The controller's; the nodes' follow it, slurmdbd and its database take the last two of twenty."""
    first_job: int
    """Labs that are up side by side count from different numbers: jobs derive ports from them."""
    subnet: str
    """First three bytes of the addresses of separate nodes."""
    hostname: str
    """Of this machine."""

    @property
    def conf(self) -> Path:
        """What SLURM_CONF names, in every process of the lab."""
        return self.directory / "etc" / "slurm.conf"

    def node(self, number: int) -> str:
        """Name of a node, counted from 1."""
        return f"{self.name}-node{number}"


def write(site: Site, settings: Settings) -> None:
    """Make the lab's folder with its configuration and its fake GPUs."""
    folder = site.directory
    for name in ("etc", "log", "state", "run", "dev", "spool"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number in range(1, settings.nodes + 1):
        (folder / "spool" / site.node(number)).mkdir(exist_ok=True)
    for number in range(settings.gpus):
        gpu = folder / "dev" / f"nvidia{number}"
        gpu.unlink(missing_ok=True)
        gpu.symlink_to("/dev/null")  # slurmd counts only what leads to a device
    site.conf.write_text(slurm_conf(site, settings))
    # Without it slurmd looks for a cgroup mount that it then does not use, and refuses to start where there is none.
    (folder / "etc" / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
    kind = f"Type={settings.gpu_type} " if settings.gpu_type else ""
    devices = f"{folder}/dev/nvidia[0-{settings.gpus - 1}]"
    nodes = f"{site.name}-node[1-{settings.nodes}]"
    (folder / "etc" / "gres.conf").write_text(
        f"NodeName={nodes} Name=gpu {kind}File={devices}\n" if settings.gpus else ""
    )


def slurm_conf(site: Site, settings: Settings) -> str:
    """slurm.conf: no cgroups, no affinity, no MPI, more CPUs than the host has, and quick reactions."""
    folder, user, port = site.directory, getpass.getuser(), site.port
    lines = f"""
ClusterName={site.name}
SlurmctldHost={f"{site.hostname}({site.subnet}.254)" if settings.separate else "localhost(127.0.0.1)"}
SlurmctldPort={port}
AuthType=auth/munge
# cred_expire is also how long a requeued job waits before it may start again; the default is 120 s.
AuthInfo=socket={folder}/run/munge.sock,cred_expire=5
CredType=cred/munge
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd.%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.%n.log
SlurmctldDebug=verbose
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
MpiDefault=none
SwitchType=switch/none
PropagateResourceLimits=NONE
SlurmdParameters=config_overrides
EnforcePartLimits={"ALL" if settings.enforce_limits else "NO"}
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
SchedulerParameters=sched_min_interval=0,sched_interval=5,bf_interval=5,batch_sched_delay=0,requeue_delay=0
SlurmdTimeout=10
SlurmctldTimeout=5
InactiveLimit=0
KillWait={settings.kill_wait_s}
CompleteWait=0
MinJobAge=86400
FirstJobId={site.first_job}
ReturnToService=2
JobRequeue={int(settings.requeue)}
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/log/jobcomp.log
""".strip().splitlines()
    if settings.preempt_signal:
        lines.append("SlurmctldParameters=preempt_send_user_signal")
    if settings.max_array_size is not None:
        lines.append(f"MaxArraySize={settings.max_array_size}")
    if not settings.separate:  # Separate nodes must be reached by their addresses, and reach srun on this host.
        lines.append("CommunicationParameters=NoInAddrAny,NoCtldInAddrAny")
    if settings.accounting:
        lines += _accounting(site)
    lines += [*settings.extra, _nodes(site, settings), *_partitions(settings)]
    return "\n".join(lines) + "\n"


def _nodes(site: Site, settings: Settings) -> str:
    names = f"NodeName={site.name}-node[1-{settings.nodes}]"
    if settings.separate:
        place = f"NodeAddr={site.subnet}.[1-{settings.nodes}] Port={site.port + 1}"
    else:
        place = f"NodeHostname=localhost NodeAddr=127.0.0.1 Port=[{site.port + 1}-{site.port + settings.nodes}]"
    kind = f"{settings.gpu_type}:" if settings.gpu_type else ""
    gres = f" Gres=gpu:{kind}{settings.gpus}" if settings.gpus else ""
    return f"{names} {place} CPUs={settings.cpus} RealMemory={settings.memory_mb}{gres} State=UNKNOWN"


def _partitions(settings: Settings) -> list[str]:
    """Higher tiers preempt lower ones, by requeue; what is `OFF` is never preempted."""
    day = "MaxTime=1-00:00:00 DefaultTime=01:00:00"
    rows = {
        "main": f"Default=YES {day} PriorityTier=10 PreemptMode=OFF",
        "low": f"{day} PriorityTier=1 PreemptMode=REQUEUE GraceTime={settings.grace_s}",
        "low_nograce": f"{day} PriorityTier=1 PreemptMode=REQUEUE GraceTime=0",
        "high": f"{day} PriorityTier=100 PreemptMode=OFF",
        "short": "MaxTime=00:01:00 DefaultTime=00:01:00 PriorityTier=10 PreemptMode=OFF",
    }
    return [f"PartitionName={name} Nodes=ALL DefMemPerCPU=100 State=UP {row}" for name, row in rows.items()]


def _accounting(site: Site) -> list[str]:
    return [
        "AccountingStorageType=accounting_storage/slurmdbd",
        "AccountingStorageHost=localhost",
        f"AccountingStoragePort={site.port + 18}",
        f"AccountingStoragePass={site.directory}/run/munge.sock",  # not taken from AuthInfo
        "AccountingStorageTRES=gres/gpu",
        "AccountingStoreFlags=job_comment,job_env,job_script",
    ]
