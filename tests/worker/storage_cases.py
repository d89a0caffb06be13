"""Ranks with faults of storage (see `tests.support.warm`)."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import time
from typing import Any

from tests.support import cases


def slow_rank(run_dir: str) -> None:
    """A rank whose steps take 20 ms more, so that a test can change things between them."""
    from launcher.worker.trainer import Trainer

    train_step = Trainer.training_step

    def slow(self: Trainer, *args: Any, **kwargs: Any) -> Any:
        time.sleep(0.02)
        return train_step(self, *args, **kwargs)

    Trainer.training_step = slow
    cases.rank(run_dir)


def slow_rank_without_privileges(run_dir: str) -> None:
    """Like `slow_rank`, and permissions hold although the tests may run as root."""
    _drop_capabilities()
    slow_rank(run_dir)


def rank_whose_second_save_fails_to_sync(run_dir: str) -> None:
    """The device answers fsync with EIO, once, while step 8 is being saved."""
    from launcher.worker import store

    sync = store.sync

    def failing(path: Any) -> None:
        if path.name == "optimizer.pt" and path.parent.name == "checkpoint-8":
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        sync(path)

    store.sync = failing
    cases.rank(run_dir)


def rank_that_confirms_nothing_at_step_8(run_dir: str) -> None:
    """Rank 1 is silent about step 8; rank 0 waits for one second instead of minutes."""
    from launcher.worker import acks, store

    confirm = acks.Acks.confirm
    store._CONFIRM_S = 1.0
    acks.Acks.confirm = lambda self, step, files: None if step == 8 else confirm(self, step, files)
    cases.rank(run_dir)


def rank_that_pauses_at_step_8(run_dir: str, when: str) -> None:
    """SIGSTOP between the last look at the fence and the rename (`before`), or right behind it (`after`). No monitor ends it."""
    from launcher.worker import monitor, store

    monitor.start = lambda *_: None
    rename = store._renamed

    def pausing(staged: Any, target: Any) -> None:
        if when == "after":
            rename(staged, target)
        if target.name == "checkpoint-8":
            os.kill(os.getpid(), signal.SIGSTOP)
            time.sleep(0.5)  # the other threads may take the signal a moment later
        if when == "before":
            rename(staged, target)

    store._renamed = pausing
    cases.rank(run_dir)


def _drop_capabilities() -> None:
    """Give up CAP_DAC_OVERRIDE and its like: capset(2) with an empty set."""

    class Header(ctypes.Structure):
        _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))

    class Data(ctypes.Structure):
        _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.capset(ctypes.byref(Header(0x20080522, 0)), (Data * 2)()):
        raise OSError(ctypes.get_errno(), "capset")
