"""Damage to the newest checkpoint of a `launcher` run: it is found, named, and the newest whole checkpoint is used."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from random import Random

from launcher.runs import checkpoints, events
from launcher.runs.paths import RunDir
from tests.faults.bed import ONE_RANK, STEPS, TWO_RANKS, Bed, bed, said, start
from tests.faults.mutate import KINDS, Mutation, mutate
from tests.faults.outcome import Outcome
from tests.support import trained

CASES = (*ONE_RANK, *TWO_RANKS)
SAVED = (STEPS - 5, STEPS - 4, STEPS - 3, STEPS - 2)
"""The checkpoints that are there; the last one is damaged, and two steps remain to be trained."""


def found(seed: int, trials: range) -> Outcome:
    """Each mutation is judged by what the choice of a checkpoint says; nothing is started."""
    outcome = Outcome()
    with tempfile.TemporaryDirectory(prefix="mutations-") as folder:
        beds = {case: bed(case) for case in CASES}
        runs = {case: made.stopped_at(Path(folder) / case, SAVED) for case, made in beds.items()}
        for trial in trials:
            case = CASES[trial % len(CASES)]
            mutation = damage(beds[case], runs[case], f"{seed}-{trial}", kind_of(trial), outcome)
            outcome.trials += 1
            outcome.counts[mutation.kind] += 1
            if wrong := _wrong_choice(runs[case], mutation):
                outcome.fail(f"seed {seed}, trial {trial}, {case}, {mutation}: {wrong}")
    return outcome


def resumed(seed: int, trials: range) -> Outcome:
    """Each mutation is followed by a start that trains to the end."""
    outcome = Outcome()
    for trial in trials:
        made = bed(CASES[trial % len(CASES)])
        with tempfile.TemporaryDirectory(prefix="mutations-") as folder:
            run = made.stopped_at(Path(folder) / "run", SAVED)
            mutation = damage(made, run, f"{seed}-{trial}", kind_of(trial), outcome)
            outcome.trials += 1
            outcome.counts[mutation.kind] += 1
            if wrong := _wrong_resume(made, run, mutation):
                outcome.fail(f"seed {seed}, trial {trial}, {made.case}, {mutation}: {wrong}")
    return outcome


def kind_of(trial: int) -> str:
    """The kind of mutation of a trial: each case sees each kind."""
    return KINDS[trial // len(CASES) % len(KINDS)]


def damage(made: Bed, run: RunDir, seed: str, kind: str, outcome: Outcome) -> Mutation:
    """Put whole checkpoints into place and damage the newest; what changes nothing is counted and drawn again."""
    random = Random(seed)
    while True:
        shutil.rmtree(run.checkpoints)
        for step in SAVED:
            shutil.copytree(made.whole.checkpoints / f"checkpoint-{step}", run.checkpoints / f"checkpoint-{step}")
        newest, older = (run.checkpoints / f"checkpoint-{step}" for step in (SAVED[-1], SAVED[-2]))
        if mutation := mutate(random, kind, newest, older):
            return mutation
        outcome.counts["changed nothing, drawn again"] += 1


def _expected(mutation: Mutation) -> int:
    return SAVED[-1 - mutation.bad]


def _wrong_choice(run: RunDir, mutation: Mutation) -> str | None:
    choice = checkpoints.newest(run)
    step = choice.checkpoint.step if choice.checkpoint else 0
    if step != _expected(mutation):
        return f"{step} is taken as the newest whole one"
    return wrong_names(mutation, choice.passed_over[0].reason, run.checkpoints / f"checkpoint-{SAVED[-1]}")


def wrong_names(mutation: Mutation, reason: str, folder: Path) -> str | None:
    """What is wrong with a reason: it must name a damaged file, and no other file of the checkpoint."""
    words = set(re.split(r"[\s:;,()`]+", reason))
    files = {path.name for path in folder.rglob("*")} | set(mutation.files)
    named = words & files
    if not named & set(mutation.files) or named - set(mutation.files) - {"MANIFEST.json"}:
        return f"the reason names other files: {reason}"
    return None


def _wrong_resume(made: Bed, run: RunDir, mutation: Mutation) -> str | None:
    before = len(events.read(run.events))
    damaged = {path.name for path in (run.checkpoints / f"checkpoint-{SAVED[-1]}").iterdir()}
    result = start(run, 2, made.ranks).wait()
    happened = events.read(run.events)[before:]
    if set(result.codes) != {0}:
        return f"did not start: {said(run, 2, made.ranks)}"
    first = next((number for number, event in enumerate(happened) if event["event"] == "step"), len(happened))
    told = [event for event in happened[:first] if event["event"] == "quarantine"]
    begun = next(event["step"] for event in happened if event["event"] == "start")
    if begun != _expected(mutation) or len(told) != mutation.bad:
        return f"started from {begun} after putting {len(told)} aside"
    aside = run.root / str(told[0].get("moved_to", ""))
    if not damaged - set(mutation.files) <= {path.name for path in aside.iterdir()}:
        return f"the damaged checkpoint is not in {told[0].get('moved_to')}"
    if trained.weights(run.model) != made.weights:
        return "the weights differ from those of the undisturbed run"
    return wrong_names(mutation, told[0]["reason"], aside)
