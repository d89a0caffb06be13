"""Training in tests without paying the imports each time: one server imports torch and TRL once, then forks ranks.

`run("tests.worker.cases:train", {"run_dir": "…"}, ranks=2)` calls that function in two forked processes that see the
environment torchrun would give them, waits, and returns exit codes, return values and log text. Nothing outlives the
test: a job dies with the connection of its client, the server with the process that started it.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
PRELOAD = (
    "torch",
    "torch.distributed",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.qwen3.modeling_qwen3",
    "transformers.models.llama.modeling_llama",
    "trl.trainer.sft_trainer",
    "peft",
    "bitsandbytes",
    "datasets",
    "accelerate",
    "trl.chat_template_utils",
    "pyarrow.parquet",
    "pydantic.main",
)


@dataclass(frozen=True)
class Result:
    """What became of one job: one entry per rank."""

    codes: tuple[int, ...]
    """Exit code of each rank; negative: the signal that ended it."""
    values: tuple[Any, ...]
    """Return value of each rank (JSON), None where the function did not return."""
    logs: tuple[str, ...]
    """Standard output and error of each rank (empty once a worker has redirected them)."""
    timed_out: bool

    @property
    def value(self) -> Any:
        """Return value of rank 0, after checking that every rank ended well."""
        assert not self.timed_out, "timed out:\n" + "\n".join(self.logs)
        assert set(self.codes) == {0}, f"exit codes {self.codes}:\n" + "\n".join(self.logs)
        return self.values[0]


class Job:
    """Ranks that are running; `kill` and `wait` act on all of them."""

    def __init__(self, connection: socket.socket, folder: Path, pids: tuple[int, ...]) -> None:
        self._connection = connection
        self._folder = folder
        self.pids = pids

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to every rank that still runs."""
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def resume(self) -> None:
        """Let stopped ranks go on."""
        self.kill(signal.SIGCONT)

    def wait(self, timeout: float = 120) -> Result:
        """Wait until all ranks have ended; after `timeout` seconds they are killed."""
        self._connection.settimeout(timeout)
        timed_out = False
        try:
            reply = _receive(self._connection)
        except TimeoutError:
            timed_out = True
            self.kill()
            self._connection.settimeout(10)
            reply = _receive(self._connection)
        self._connection.close()
        ranks = range(len(self.pids))
        result = Result(
            codes=tuple(reply["codes"]),
            values=tuple(_value(self._folder / f"value-{rank}.json") for rank in ranks),
            logs=tuple(_text(self._folder / f"log-{rank}.txt") for rank in ranks),
            timed_out=timed_out,
        )
        shutil.rmtree(self._folder, ignore_errors=True)
        return result


def run(
    function: str,
    args: Mapping[str, Any] | None = None,
    *,
    ranks: int = 1,
    env: Mapping[str, str | None] | None = None,
    torchrun: bool | None = None,
    timeout: float = 120,
) -> Result:
    """Call `module:function` with keyword arguments `args` (JSON) on `ranks` processes and wait."""
    return start(function, args, ranks=ranks, env=env, torchrun=torchrun).wait(timeout)


def start(
    function: str,
    args: Mapping[str, Any] | None = None,
    *,
    ranks: int = 1,
    env: Mapping[str, str | None] | None = None,
    torchrun: bool | None = None,
) -> Job:
    """Like `run`, without waiting. `torchrun` sets the distributed variables; default: for two ranks and more."""
    folder = Path(tempfile.mkdtemp(prefix="warm-"))
    base = {**os.environ, **(env or {})}
    request = {
        "function": function,
        "args": dict(args or {}),
        "ranks": ranks,
        "env": {key: value for key, value in base.items() if value is not None},
        "torchrun": ranks > 1 if torchrun is None else torchrun,
        "folder": str(folder),
        "cwd": str(Path.cwd()),
    }
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(server())
    connection.sendall(json.dumps(request).encode() + b"\n")
    return Job(connection, folder, tuple(_receive(connection)["pids"]))


_server: list[tuple[subprocess.Popen[bytes], str]] = []


def server() -> str:
    """Socket of the server; started on first use, with its imports done when this returns."""
    if "LAUNCHER_WARM_SOCKET" in os.environ:
        return os.environ["LAUNCHER_WARM_SOCKET"]
    if not _server:
        folder = tempfile.mkdtemp(prefix="warm-server-")
        path = f"{folder}/socket"
        process = subprocess.Popen([sys.executable, "-m", "tests.support.warm", path], cwd=ROOT, stdout=subprocess.PIPE)
        atexit.register(stop)
        _server.append((process, path))
        os.environ["LAUNCHER_WARM_SOCKET"] = path
        assert process.stdout is not None
        lines = iter(process.stdout.readline, b"")
        assert any(line == b"ready\n" for line in lines), "the warm server did not start"
    return _server[0][1]


def stop() -> None:
    """End the server and with it everything it started."""
    while _server:
        process, path = _server.pop()
        os.environ.pop("LAUNCHER_WARM_SOCKET", None)
        process.terminate()
        process.wait(10)
        shutil.rmtree(Path(path).parent, ignore_errors=True)


def _receive(connection: socket.socket) -> dict[str, Any]:
    block = b""
    while not block.endswith(b"\n"):
        part = connection.recv(65536)
        if not part:
            raise RuntimeError("the warm server closed the connection")
        block += part
    return dict(json.loads(block))


def _text(path: Path) -> str:
    """Empty for a rank that was killed before it opened its log."""
    return path.read_text(errors="replace") if path.is_file() else ""


def _value(path: Path) -> Any:
    return json.loads(path.read_text()) if path.is_file() else None


# ── the server ────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class _Running:
    connection: socket.socket
    pids: list[int]
    codes: dict[int, int] = field(default_factory=dict)
    failed_at: float | None = None


def _serve(path: str) -> None:
    _die_with_parent()
    for module in PRELOAD:
        importlib.import_module(module)
    import torch
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

    torch.set_num_threads(1)
    get_checkpoint_conversion_mapping("qwen3")  # compiles some thousand patterns, once per process
    gc.freeze()  # ranks need not search what they never free, nor copy its pages
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    print("ready", flush=True)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    jobs: list[_Running] = []
    while True:
        for key, _ in selector.select(0.02):
            if key.fileobj is listener:
                connection = listener.accept()[0]
                jobs.append(_launch(connection, _receive(connection), [job.connection for job in jobs] + [listener]))
                selector.register(connection, selectors.EVENT_READ)
            else:  # a client says nothing after its request: readable means gone
                _end([job for job in jobs if job.connection is key.fileobj])
                selector.unregister(key.fileobj)
        for job in [job for job in jobs if _reaped(job)]:
            jobs.remove(job)
            _reply(job, {"codes": [job.codes[pid] for pid in job.pids]})
            if job.connection in {key.fileobj for key in selector.get_map().values()}:
                selector.unregister(job.connection)
            job.connection.close()


def _launch(connection: socket.socket, request: dict[str, Any], inherited: list[socket.socket]) -> _Running:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    pids = []
    for rank in range(request["ranks"]):
        pid = os.fork()
        if pid == 0:
            for other in [*inherited, connection]:
                other.close()
            _become(request, rank, port)
        pids.append(pid)
    job = _Running(connection, pids)
    _reply(job, {"pids": pids})
    return job


def _become(request: dict[str, Any], rank: int, port: int) -> None:
    """The life of one forked rank. Never returns."""
    code = 1
    try:
        _die_with_parent()
        folder = Path(request["folder"])
        os.dup2(os.open(folder / f"log-{rank}.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 1)
        os.dup2(1, 2)
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["env"])
        if request["torchrun"]:
            os.environ.update(_torchrun(rank, request["ranks"], port))
        module, _, name = request["function"].partition(":")
        value = getattr(importlib.import_module(module), name)(**request["args"])
        (folder / f"value-{rank}.json").write_text(json.dumps(value))
        code = 0
    except SystemExit as stop_:
        code = stop_.code if isinstance(stop_.code, int) else int(stop_.code is not None)
    except BaseException:  # noqa: BLE001 - the rank reports whatever ended it
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _torchrun(rank: int, ranks: int, port: int) -> dict[str, str]:
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks, "GROUP_RANK": 0}
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "warm"}
    return {key: str(value) for key, value in numbers.items()} | address


def _reaped(job: _Running) -> bool:
    """Collect exit codes; as with torchrun, one failure ends the group, after a moment to speak."""
    for pid in job.pids:
        ended, status = os.waitpid(pid, os.WNOHANG) if pid not in job.codes else (0, 0)
        if ended:
            job.codes[pid] = os.waitstatus_to_exitcode(status)
            if job.codes[pid] != 0 and job.failed_at is None:
                job.failed_at = time.monotonic()
    if job.failed_at is not None and time.monotonic() - job.failed_at > 8:
        _end([job])
    return len(job.codes) == len(job.pids)


def _end(jobs: list[_Running]) -> None:
    for job in jobs:
        for pid in job.pids:
            if pid not in job.codes:
                os.kill(pid, signal.SIGKILL)


def _reply(job: _Running, message: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        job.connection.sendall(json.dumps(message).encode() + b"\n")


def _die_with_parent() -> None:
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


if __name__ == "__main__":
    _serve(sys.argv[1])
