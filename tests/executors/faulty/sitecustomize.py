"""Python reads this at start where this folder is on PYTHONPATH: ranks of the attempts named in FAULT then fail.

FAULT is `what:step:attempt`, with `*` for every attempt: `kill` (SIGKILL), `code` (an exception), `memory-N` (a real
allocation that no machine can serve, as long as a pass has more than N rows) or `none`. Step `start` is before torch is
loaded. Each rank appends the rows of each pass to LEDGER: step, then the ids of one row a line.
"""

import importlib.abc
import importlib.util
import os
import signal
import sys
from pathlib import Path

WHAT, STEP, ATTEMPT = os.environ.get("FAULT", "none:0:0").split(":")


def strike(rows):
    if WHAT == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if WHAT == "code":
        raise KeyError("a bug")
    if WHAT.startswith("memory") and rows > int(WHAT.partition("-")[2]):
        import torch

        torch.empty(1 << 50)


def note(step, rows):
    if "LEDGER" in os.environ:
        with Path(os.environ["LEDGER"]).open("a") as file:
            file.writelines(f"{step} {' '.join(str(each) for each in row if each)}\n" for row in rows.tolist())


def arm(trainer):
    """Have the trainer fail in the first pass of the step."""
    train_step = trainer.training_step

    def broken(self, model, inputs, *args, **kwargs):
        if self.state.global_step >= int(STEP):
            self.store.settle()  # what was saved before counts: the tests are about what follows
            strike(len(inputs["input_ids"]))
        note(self.state.global_step + 1, inputs["input_ids"])
        return train_step(self, model, inputs, *args, **kwargs)

    trainer.training_step = broken


class Armed(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != "launcher.worker.trainer":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            arm(module.Trainer)

        spec.loader.exec_module = exec_module
        return spec


if "RANK" in os.environ and "TORCHELASTIC_RUN_ID" in os.environ and ATTEMPT in ("*", os.environ["LAUNCHER_ATTEMPT"]):
    if STEP == "start":
        strike(0)
    sys.meta_path.insert(0, Armed())
