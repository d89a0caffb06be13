"""`python -m launcher.worker.stage RUN STAGE`: what runs before or after training, as plain processes.

`prepare` makes the data; `inspect` writes some of its rows as JSON to standard output; `evaluate` measures the result;
`export` merges it into its base. The first two do not load torch or its family unless they have something to make: a
second `prepare` must cost no more than a look.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from launcher.errors import LauncherError
from launcher.runs import attempts, secrets_file
from launcher.runs.paths import RunDir
from launcher.worker.faults import Ending, ExitNote, ending_of
from launcher.worker.process import die_with_parent

_QUIET = {"HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}


def main(root: str, stage: str, *arguments: str) -> int:
    """Run one stage of the run at `root`. Returns the exit code: 0, 2 data, 4 environment, 85 left on request, 6 other."""
    os.environ.update(_QUIET)
    run_dir = RunDir(Path(root).resolve())
    if stage == "prepare":
        return _noted(run_dir, stage, lambda _: _prepare(run_dir))
    if stage == "evaluate":
        return _noted(run_dir, stage, lambda _: _evaluate(run_dir))
    if stage == "export":
        return _noted(run_dir, stage, lambda attempt: _export(run_dir, attempt, *arguments))
    if stage == "inspect":
        return _inspect(run_dir, arguments)
    _say(f"unknown stage `{stage}`")
    return 2


def _noted(run_dir: RunDir, stage: str, work: Callable[[int], None]) -> int:
    """Do the work of a stage, which takes the attempt's number, and leave a note of how that ended."""
    attempt = int(os.environ.get("LAUNCHER_ATTEMPT", "0")) or max(attempts.numbers(run_dir), default=1)
    note = ExitNote(run_dir.attempt(attempt) / f"exit-{stage}.json", run_dir.stage_log(attempt, stage), run_dir.root)
    try:
        secrets_file.load()
        work(attempt)
        ending = Ending("finished")
    except Exception as error:  # noqa: BLE001 - every end is reported in the note
        ending = _ending(error, run_dir)
    note.write(ending.stage_code, ending)
    _tell(ending)
    return ending.stage_code


def _prepare(run_dir: RunDir) -> None:
    from launcher.worker import metrics
    from launcher.worker.data.prepare import prepare
    from launcher.worker.data.progress import Progress
    from launcher.worker.job import load

    job = load(run_dir.root)
    metrics.require(name for spec in job.plan.evaluation.generate for name in spec.metrics)
    made = prepare(job, Progress(_say, run_dir, "prepare"))
    _say("data is ready" if made else "data is ready (nothing changed)")


def _evaluate(run_dir: RunDir) -> None:
    """Measure the result as one process on one device. A stop request is heard from here on."""
    from launcher.worker import process, stop

    stop.listen()
    process.forget_torchrun()
    process.see_one_gpu()

    from launcher.worker.evaluate_result import evaluate_result
    from launcher.worker.job import load

    _quiet()
    evaluate_result(load(run_dir.root))


def _export(run_dir: RunDir, attempt: int, base: str) -> None:
    """Merge the adapter into the `quantized` or `original` base."""
    from launcher.worker.job import load
    from launcher.worker.merge import merge

    _quiet()
    merge(load(run_dir.root), attempt, "quantized" if base == "quantized" else "original")


def _quiet() -> None:
    """No bars and no advice of transformers' in a log."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()


def _inspect(run_dir: RunDir, arguments: Sequence[str]) -> int:
    """Write rows as JSON. What libraries print goes to standard error: it must not get between."""
    answer = os.dup(1)
    os.dup2(2, 1)
    try:
        secrets_file.load()
        from launcher.worker.data.look import look
        from launcher.worker.job import load

        found = look(load(run_dir.root), rows=int(arguments[0]), source=arguments[1] if len(arguments) > 1 else None)
    except Exception as error:  # noqa: BLE001 - every end is told
        ending = _ending(error, run_dir)
        _tell(ending)
        return ending.stage_code
    with open(answer, "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor
        json.dump(found, file, ensure_ascii=False)
    return 0


def _ending(error: Exception, run_dir: RunDir) -> Ending:
    ending = ending_of(error, run_dir.root)
    if ending.cause == "code" and not isinstance(error, LauncherError):
        _say(traceback.format_exc().rstrip())
    return ending


def _tell(ending: Ending) -> None:
    if ending.error:
        _say(f"error: {ending.error}")
    if ending.hint:
        _say(f"hint:  {ending.hint}")


def _say(line: str) -> None:
    sys.stderr.write(secrets_file.hide(line) + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    die_with_parent(os.getppid())
    sys.exit(main(*sys.argv[1:]))
