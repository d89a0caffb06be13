"""A plan traced by a worker: torch lives there, and a trace takes seconds. Reads no weights and asks no network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from launcher.errors import EnvironmentFault, Exit, RunFailed
from launcher.executors import packages
from launcher.plan import codec
from launcher.plan.types import Plan
from launcher.predict.traced import Trace

LIMIT_S = 180.0
"""Seconds after which a trace is given up; it takes 6 to 12 on a quiet machine, most of it to load libraries."""


def trace(plan: Plan, config: Mapping[str, Any], *, limit_s: float = LIMIT_S) -> Trace:
    """One training step of the plan's model, counted.

    Args:
        plan: what would run.
        config: the model's `config.json`.
        limit_s: seconds to wait.

    Raises:
        EnvironmentFault: this machine, or transformers, lacks what a trace needs; or the model cannot be traced.
        RunFailed: the trace failed, or took too long.
    """
    packages.require()
    request = {"plan": codec.dumps(replace(plan, prediction=None)), "config": dict(config)}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "launcher.worker.trace"],
            env={**os.environ, "PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1"},
            input=json.dumps(request),
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise RunFailed(f"the trace was not done after {limit_s:.0f} s", hint="plan without `--trace`") from None
    answer = _answer(done.stdout)
    if "error" in answer:
        raise EnvironmentFault(f"--trace: {answer['error']}", hint=answer["hint"])
    if done.returncode != Exit.DONE or not answer:
        last = [line for line in done.stderr.splitlines() if line.strip()][-1:]
        raise RunFailed(
            f"the trace ended with exit code {done.returncode}: {''.join(last)}", hint="plan without `--trace`"
        )
    return Trace.of(answer)


def _answer(text: str) -> dict[str, Any]:
    try:
        return dict(json.loads(text))
    except ValueError:
        return {}
