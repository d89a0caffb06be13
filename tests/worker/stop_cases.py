"""What the forked ranks of `test_stop.py` run: real ranks that get real signals at chosen places."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any

Place = tuple[Any, str, Callable[..., int | None]]
"""Where a function lives, its name, and how to read the step that a call of it belongs to."""


def _places() -> dict[str, Place]:
    from launcher.worker import evaluate, measure
    from launcher.worker.faults import ExitNote
    from launcher.worker.tasks import sft
    from launcher.worker.trainer import Trainer

    def of_trainer(trainer: Any, *_: Any, **__: Any) -> int:
        return int(trainer.state.global_step)

    def of_end(_job: Any, trainer: Any, *_: Any, **__: Any) -> int:
        return int(trainer.state.global_step)

    def nowhere(*_: Any, **__: Any) -> None:
        return None

    return {
        "load": (sft, "load_model", nowhere),
        "step": (Trainer, "training_step", of_trainer),
        "save": (Trainer, "_save_rng_state", of_trainer),
        "loss": (measure, "_collated", of_trainer),
        "generate": (evaluate, "generate_all", of_trainer),
        "leave": (sft, "end", of_end),
        "result": (sft, "save_result", of_end),
        "note": (ExitNote, "write", nowhere),
    }


def rank(
    run_dir: str,
    place: str = "",
    step: int | None = None,
    asked: Sequence[int] = (),
    number: int = signal.SIGTERM,
    slow: dict[str, float] | None = None,
) -> None:
    """A rank that sends itself a signal at `place` (once, when it is one of those `asked`), and is `slow` (seconds) at others."""
    from launcher.worker import main

    if place and int(os.environ["RANK"]) in asked:
        _before(_places()[place], step, lambda: os.kill(os.getpid(), number))
    for name, seconds in (slow or {}).items():
        _before(_places()[name], None, lambda seconds=seconds: time.sleep(seconds), once=False)
    raise SystemExit(main.main(run_dir, os.getppid()))


def _before(place: Place, step: int | None, act: Callable[[], object], *, once: bool = True) -> None:
    owner, name, step_of = place
    original = getattr(owner, name)
    done = False

    def acted(*args: Any, **kwargs: Any) -> Any:
        nonlocal done
        if not (once and done) and (step is None or step_of(*args, **kwargs) == step):
            done = True
            act()
        return original(*args, **kwargs)

    setattr(owner, name, acted)


def questions(batches: int, slow_rank: int, seconds: float) -> list[int]:
    """Before which batches, numbered from 0, the ranks ask one another; one rank takes `seconds` longer for each."""
    import torch.distributed as dist
    from transformers import TrainingArguments

    from launcher.worker import boundary
    from launcher.worker.stop import StopRequest

    args = TrainingArguments(output_dir="unused", use_cpu=True, report_to="none")
    between = boundary.Boundary(None, StopRequest(), None)  # type: ignore[arg-type] - neither is used here
    asked, seen = [], 0
    agreed = boundary.agreed

    def noted(*values: Any) -> list[float]:
        asked.append(seen)
        return agreed(*values)

    boundary.agreed = noted
    for _ in between.batches(args, range(batches)):
        seen += 1
        if args.process_index == slow_rank:
            time.sleep(seconds)
    if dist.is_initialized():
        dist.barrier()
    return asked


def needed(run_dir: str, step_s: float, blocked_s: float) -> dict[str, Any]:
    """What a time limit reckons with: at first, after a step, after a save that blocked; and whether 60 s are enough."""
    from pathlib import Path

    from launcher.runs.paths import RunDir
    from launcher.worker.time_limit import TimeLimit

    limit = TimeLimit(RunDir(Path(run_dir)), time.time() + 60)
    first = limit.needed_s()
    near_at_first = limit.is_near()
    limit.on_train_begin()
    time.sleep(step_s)
    limit.on_optimizer_step()
    limit.on_step_end()
    stepped = limit.needed_s()
    time.sleep(blocked_s)
    limit.on_save()
    return {
        "first": first,
        "stepped": stepped,
        "saved": limit.needed_s(),
        "near": [near_at_first, limit.is_near()],
    }


def cut_off(model: str, after: int) -> dict[str, Any]:
    """How often a generation of up to 50 tokens asks whether to go on, when the answer is no after so many tokens."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from launcher.worker.generate import answers

    tokenizer = AutoTokenizer.from_pretrained(model)
    asked = 0

    def interrupted() -> bool:
        nonlocal asked
        asked += 1
        return asked >= after

    network = AutoModelForCausalLM.from_pretrained(model)
    texts = answers(network, tokenizer, [[5, 6, 7], [8, 9]], max_new_tokens=50, interrupted=interrupted)
    return {"asked": asked, "texts": len(texts)}
