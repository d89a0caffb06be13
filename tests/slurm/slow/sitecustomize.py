"""Slow storage for the ranks of a job, whose PYTHONPATH begins with this folder. LAB_SLOW names a file of delays.

It holds `{"events.jsonl": 0.1, "checkpoint-": 5}`: seconds that opening or renaming to a file whose name begins so takes.
A negative number makes it fail as a bug would. It is read each time, so that a test may change it. Delays cost no CPU: two
runs do not slow one another down.
"""

import json
import os
import sys
import time
from pathlib import Path


def _hear(event: str, args: tuple) -> None:
    if event == "os.rename":
        _wait(args[1])
    elif event == "open" and isinstance(args[2], int) and args[2] & os.O_APPEND:
        _wait(args[0])


def _wait(path: object) -> None:
    if not isinstance(path, str | bytes | os.PathLike):
        return
    name = Path(os.fsdecode(path)).name
    if name.startswith(("events.jsonl", "checkpoint-")):
        delays = json.loads(Path(os.environ["LAB_SLOW"]).read_text(encoding="utf-8"))
        seconds = next((delays[each] for each in delays if name.startswith(each)), 0)
        if seconds < 0:
            raise RuntimeError(f"{name} is not to be")
        time.sleep(seconds)


if "RANK" in os.environ and "LAB_SLOW" in os.environ:
    sys.addaudithook(_hear)
