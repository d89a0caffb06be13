"""The same kills and mutations on a plain TRL script: same model, rows, settings and versions, and no launcher."""

from __future__ import annotations

import functools
import re
import shutil
import statistics
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from launcher.runs import events
from tests.faults.bed import MARK, Bed, Case, Step, bed, of_event
from tests.faults.mutate import MANIFEST, mutate
from tests.faults.mutations import CASES, SAVED, kind_of
from tests.faults.outcome import Outcome
from tests.faults.storm import ATTEMPT_S, Saves
from tests.faults.strike import Aim, draw, strike
from tests.support import trained, warm

_OPERATIONS = 80
"""Of one rank in an attempt of three saves."""
CRASHED, WRONG, EXACT = "refused to start", "trained on wrongly, without an error", "went on exactly"


@dataclass(frozen=True)
class Plain:
    """The plain script's undisturbed run of one case."""

    bed: Bed
    out: Path
    steps: dict[int, Step]
    weights: str
    save_s: float

    def wrong(self, out: Path, since: int) -> bool:
        """A step after the first `since` reported ones went otherwise than undisturbed."""
        return any(self.steps.get(step) != seen for step, seen in _reported(out)[since:])


@functools.cache
def plain(case: Case) -> Plain:
    """Train a case once per process, with every checkpoint kept."""
    made = bed(case)
    out = Path(tempfile.mkdtemp(prefix="faults-plain-"))
    result = start(made.whole.root, out, made.ranks).wait()
    assert set(result.codes) == {0}, result.logs
    return Plain(made, out, dict(_reported(out)), trained.weights(out / "result"), _save_s(out))


def start(run: Path, out: Path, ranks: int, **faults: int) -> warm.Job:
    """Start the script, with the settings of a run directory."""
    args = {"run_dir": str(run), "out": str(out), **faults}
    return warm.start("tests.faults.plain_rank:train", args, ranks=ranks, env={MARK: str(out)})


def _reported(out: Path) -> list[tuple[int, Step]]:
    return [(e["step"], of_event(e)) for e in events.read(out / "steps.jsonl") if e["event"] == "step"]


def _save_s(out: Path) -> float:
    """Seconds of a save, from the report of its step until it is done: the median."""
    noted = events.read(out / "steps.jsonl")
    times = [{e["step"]: e["time"] for e in noted if e["event"] == name} for name in ("step", "save")]
    return statistics.median(times[1][step] - times[0][step] for step in times[1])


def storm(cases: tuple[Case, ...], seed: int, trials: range) -> Outcome:
    """Kill the script as `launcher` is killed. Where it cannot go on, a person removes the newest checkpoint."""
    outcome, random = Outcome(), Random(f"{seed}-{trials.start}")
    with tempfile.TemporaryDirectory(prefix="storm-") as folder:
        while outcome.trials < len(trials):
            made = plain(cases[outcome.counts["runs ended"] % len(cases)])
            out = Path(folder) / "out"
            out.mkdir()
            _storm_one(made, out, random, outcome, len(trials))
            outcome.counts["runs ended"] += 1
            shutil.rmtree(out)
    return outcome


def _storm_one(made: Plain, out: Path, random: Random, outcome: Outcome, kills: int) -> None:
    """One run until it is finished or spoiled."""
    ranks = made.bed.ranks
    while True:
        aim = draw(random, ranks, save_s=made.save_s, attempt_s=ATTEMPT_S[ranks], operations=_OPERATIONS)
        before, known = len(_reported(out)), _checkpoints(out)
        result, hit = _attempt(made, out, aim if outcome.trials < kills else None)
        if hit:
            outcome.trials += 1
            outcome.counts["inside a save" if _torn(made, out) else "elsewhere"] += 1
        if made.wrong(out, before):
            outcome.counts[WRONG] += 1
            outcome.fail(f"{made.bed.case}: after a kill, steps differ from the undisturbed run")
            return
        if not hit and set(result.codes) == {0}:
            outcome.counts["runs finished"] += 1
            if trained.weights(out / "result") != made.weights:
                outcome.fail(f"{made.bed.case}: the weights differ from the undisturbed run")
            return
        if not hit:
            outcome.counts[CRASHED] += 1
            outcome.counts[f"{CRASHED}, older checkpoints were whole"] += len(known) > 1
            outcome.fail(f"{made.bed.case}: {last_line(result.logs)}")
            shutil.rmtree(out / f"checkpoint-{max(known)}")


def _attempt(made: Plain, out: Path, aim: Aim | None) -> tuple[warm.Result, bool]:
    at = {"victim": aim.victim or 0, "operation": aim.number} if aim and aim.kind == "operation" else {}
    saves = Saves(out)
    job = start(made.bed.prepared.root, out, made.bed.ranks, **at)
    return strike(job, aim, saves.begun) if aim else (job.wait(), False)


def _checkpoints(out: Path) -> list[int]:
    return [int(path.name.partition("-")[2]) for path in out.glob("checkpoint-*")]


def _torn(made: Plain, out: Path) -> bool:
    """The newest checkpoint lacks files or ends early; or an old one does, which was being deleted."""
    whole = made.out / f"checkpoint-{max(made.steps)}"
    sizes = {path.name: path.stat().st_size for path in whole.iterdir() if path.name != "trainer_state.json"}
    for folder in out.glob("checkpoint-*"):
        found = {path.name: path.stat().st_size for path in folder.iterdir()}
        if "trainer_state.json" not in found or any(found.get(name, -1) < 0.9 * size for name, size in sizes.items()):
            return True
    return False


def last_line(logs: Iterable[str]) -> str:
    """The last line of the log of the rank that failed first, not of one that lost its partner."""
    lines = [log.strip().splitlines()[-1][:200] for log in logs if log.strip()]
    return re.sub(r"/\S*/(?=checkpoint-)", "", next((line for line in lines if "gloo" not in line), "no output"))


def mutations(seed: int, trials: range) -> Outcome:
    """Damage the newest of four checkpoints, then start the script again."""
    outcome = Outcome()
    for trial in trials:
        made = plain(CASES[trial % len(CASES)])
        with tempfile.TemporaryDirectory(prefix="mutations-") as folder:
            done = _damage(made, Path(folder), f"{seed}-{trial}", kind_of(trial), outcome)
            result = start(made.bed.prepared.root, Path(folder), made.bed.ranks).wait()
            outcome.trials += 1
            outcome.counts[seen := _judged(made, Path(folder), result)] += 1
            if seen != EXACT:
                outcome.fail(f"{made.bed.case}, {done}: {last_line(result.logs) if seen == CRASHED else seen}")
    return outcome


def _damage(made: Plain, out: Path, seed: str, kind: str, outcome: Outcome) -> str:
    random = Random(seed)
    while True:
        for step in SAVED:
            shutil.rmtree(out / f"checkpoint-{step}", ignore_errors=True)
            shutil.copytree(made.out / f"checkpoint-{step}", out / f"checkpoint-{step}")
        done = mutate(random, kind, out / f"checkpoint-{SAVED[-1]}", out / f"checkpoint-{SAVED[-2]}")
        if done:
            return str(done).replace(f" {MANIFEST}", "")
        outcome.counts["changed nothing, drawn again"] += 1


def _judged(made: Plain, out: Path, result: warm.Result) -> str:
    if set(result.codes) != {0}:
        return CRASHED
    return EXACT if trained.weights(out / "result") == made.weights else WRONG
