"""`python -m launcher.worker.stage RUN prepare`: stages that run before or after training, as plain processes."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path

from launcher.runs import attempts
from launcher.runs.paths import RunDir
from launcher.worker.faults import Ending, ExitNote, ending_of
from launcher.worker.process import die_with_parent


def main(root: str, stage: str) -> int:
    """Run one stage of the run at `root` and leave its note. Returns the exit code: 0, 2 data, 4 environment, 6 other."""
    if stage != "prepare":
        _say(f"unknown stage `{stage}`")
        return 2
    run_dir = RunDir(Path(root).resolve())
    attempt = int(os.environ.get("LAUNCHER_ATTEMPT", "0")) or max(attempts.numbers(run_dir), default=1)
    note = ExitNote(run_dir.attempt(attempt) / "exit-prepare.json", run_dir.stage_log(attempt, "prepare"), run_dir.root)
    ending = _prepare(run_dir)
    note.write(ending.prepare_code, ending)
    if ending.error:
        _say(f"error: {ending.error}")
    if ending.hint:
        _say(f"hint:  {ending.hint}")
    return ending.prepare_code


def _prepare(run_dir: RunDir) -> Ending:
    try:
        import datasets
        import transformers

        from launcher.worker import metrics
        from launcher.worker.data.prepare import prepare
        from launcher.worker.job import load

        datasets.disable_progress_bars()
        transformers.utils.logging.disable_progress_bar()
        job = load(run_dir.root)
        metrics.require(name for spec in job.plan.evaluation.generate for name in spec.metrics)
        made = prepare(job, _say)
        _say("data is ready" if made else "data is ready (nothing changed)")
    except Exception as error:  # noqa: BLE001 - every end is reported in the note
        ending = ending_of(error, run_dir.root)
        if ending.cause == "code":
            traceback.print_exc()
        return ending
    return Ending("finished")


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    die_with_parent(os.getppid())
    sys.exit(main(*sys.argv[1:]))
