"""What contradicts itself in a profile whose keys are each fine."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from launcher.cluster import directives
from launcher.cluster.profile import Profile, Queue
from launcher.errors import UsageError
from launcher.recipe.contradiction import Contradiction
from launcher.recipe.patterns import LABEL, VARIABLE, WORDS
from launcher.text import nearest_of, quote

NO_GPU = "none"
_OWNED = {
    "OMP_NUM_THREADS": "remove it: the plan sets it from the cores of a rank",
    "CUDA_VISIBLE_DEVICES": "remove it: SLURM sets it to the GPUs of the job",
    "HF_HOME": "write `paths: {cache: …}` instead",
    "HF_HUB_OFFLINE": "write `internet: false` instead",
    "TRANSFORMERS_OFFLINE": "write `internet: false` instead",
    "HF_DATASETS_OFFLINE": "write `internet: false` instead",
    "NCCL_SOCKET_IFNAME": "write `network: {interface: …}` instead",
    "GLOO_SOCKET_IFNAME": "write `network: {interface: …}` instead",
}
_OWNED_PREFIXES = re.compile(
    r"(LAUNCHER|SLURM|SBATCH|SRUN|SLURMD|MASTER|TORCHELASTIC|ROLE|GROUP)_|(LOCAL_)?(RANK|WORLD_SIZE)$"
)
_SECRETS_FILE = "write it into the file that `secrets` names (NAME=VALUE, mode 0600)"
_SECRET_NAME = re.compile(r"(^|_)(TOKEN|API_?KEY|SECRET|SECRET_KEY|ACCESS_KEY|PASSWORD|PASSWD)$", re.IGNORECASE)

ASSIGNED_SECRET = re.compile(
    r"\b(\w*(?:TOKEN|API_?KEY|SECRET|ACCESS_KEY|PASSWORD))=(?![\"']?\$|[\"']{2}|\s|$)", re.IGNORECASE
)
"""In a line of a shell: a variable that is a secret by its name, set to something that stands there."""


def contradictions(profile: Profile) -> Iterator[Contradiction]:
    """Everything in a profile that does not fit together or has another owner."""
    yield from _gpu("", profile.gpu)
    if profile.gres and profile.gpu is None:
        yield Contradiction("gres", "a GPU type without a GPU", "name the GPU: `gpu: A100-40GB`", also=("gpu",))
    yield from _count("", profile.gpu, profile.gpus_per_node)
    yield from _directives("directives", profile.directives)
    yield from _setup(profile.setup)
    yield from _variables("env", profile.env)
    yield from _variables("network.env", profile.network.env)
    for name, queue in profile.queues.items():
        yield from _queue(name, queue, profile)
    stage_queue = profile.stages.queue
    if stage_queue is not None and stage_queue not in profile.queues:
        listed = f"queues: {', '.join(profile.queues)}"
        hint = nearest_of(stage_queue, profile.queues, listed)
        yield Contradiction("stages.queue", f"no queue {quote(stage_queue)}", hint, also=("queues",))


def _queue(name: str, queue: Queue, profile: Profile) -> Iterator[Contradiction]:
    if not re.fullmatch(LABEL, name):
        yield Contradiction("queues", f"a queue's name needs {WORDS[LABEL]}, got {quote(name)}", "rename it")
        return
    key = f"queues.{name}."
    if queue.gpu != NO_GPU:
        yield from _gpu(key, queue.gpu)
    if queue.gpu == NO_GPU and queue.gpus_per_node:
        message = f"{queue.gpus_per_node} GPUs of a queue without GPUs (`gpu: {NO_GPU}`)"
        yield Contradiction(f"{key}gpus_per_node", message, "remove one of the two", also=(f"{key}gpu",))
    if queue.gpu and queue.gpu != NO_GPU:
        count = profile.gpus_per_node if queue.gpus_per_node is None else queue.gpus_per_node
        yield from _count(key, queue.gpu, count)
    elif queue.gpu is None and profile.gpu is None and queue.gpus_per_node:
        yield from _count(key, None, queue.gpus_per_node)
    yield from _directives(f"{key}directives", queue.directives)
    if queue.max_time and seconds(queue.max_time) <= profile.stop_lead_s:
        message = f"jobs of {queue.max_time} would be asked to stop {profile.stop_lead_s} s before their end: at once"
        yield Contradiction(f"{key}max_time", message, "allow more time, or lower `stop_lead_s`", also=("stop_lead_s",))


def _gpu(prefix: str, name: str | None) -> Iterator[Contradiction]:
    from launcher.catalog.gpus import gpu

    if name is None:
        return
    try:
        gpu(name)
    except UsageError as error:
        hint = f"{error.hint}; leave the key out for nodes without GPUs" if name == NO_GPU else str(error.hint)
        yield Contradiction(f"{prefix}gpu", f"no GPU {quote(name)} in the catalogue", hint)


def _count(prefix: str, gpu: str | None, count: int) -> Iterator[Contradiction]:
    also = ("gpu", "gpus_per_node", f"{prefix}gpu", f"{prefix}gpus_per_node")
    if gpu is None and count:
        hint = "name the GPU: `gpu: A100-40GB`, or write `gpus_per_node: 0`"
        yield Contradiction(f"{prefix}gpus_per_node", f"{count} GPUs, but not which", hint, also=also)
    if gpu is not None and not count:
        yield Contradiction(f"{prefix}gpu", "a GPU, but not how many", "add `gpus_per_node: 4`", also=also)


def _directives(key: str, lines: tuple[str, ...]) -> Iterator[Contradiction]:
    for number, line in enumerate(lines):
        if found := directives.fault(line):
            yield Contradiction(f"{key}.{number}", *found)


def _setup(lines: tuple[str, ...]) -> Iterator[Contradiction]:
    for number, line in enumerate(lines):
        if found := ASSIGNED_SECRET.search(line):
            message = f"{found[1]} is a secret by its name, and profiles are shared"
            yield Contradiction(f"setup.{number}", message, _SECRETS_FILE)


def _variables(key: str, variables: Mapping[str, str]) -> Iterator[Contradiction]:
    for name in variables:
        if not re.fullmatch(VARIABLE, name):
            message = f"a variable's name has letters, digits and `_`, and no digit first, got {quote(name)}"
            yield Contradiction(f"{key}.{name}", message, "rename it")
        elif name in _OWNED:
            yield Contradiction(f"{key}.{name}", "not set here", _OWNED[name])
        elif _OWNED_PREFIXES.match(name):
            yield Contradiction(f"{key}.{name}", "not set here", "remove it: launcher, torchrun and SLURM set it")
        elif _SECRET_NAME.search(name):
            yield Contradiction(f"{key}.{name}", "a secret by its name, and profiles are shared", _SECRETS_FILE)


def seconds(time: str) -> int:
    """A time limit, `HH:MM:SS` or `D-HH:MM:SS`, in seconds."""
    days, _, clock = time.rpartition("-")
    hours, minutes, rest = (int(part) for part in clock.split(":"))
    return (int(days or 0) * 24 + hours) * 3600 + minutes * 60 + rest
