"""What the files of a run say, read once for its report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from launcher.errors import LauncherError
from launcher.plan import codec
from launcher.plan.types import Plan
from launcher.runs import attempts, checkpoints, events, state
from launcher.runs.attempts import Attempt
from launcher.runs.goodput import Goodput, measure
from launcher.runs.measures import Measures, measures
from launcher.runs.paths import RunDir
from launcher.runs.progress import Progress, progress


@dataclass(frozen=True)
class Facts:
    """One run at one moment. What it has not produced yet is empty or None."""

    run_dir: RunDir
    plan: Plan | None
    events: list[dict[str, Any]]
    seen: Progress
    attempts: list[Attempt]
    goodput: Goodput
    measures: Measures | None = None

    def last(self, name: str) -> Mapping[str, Any]:
        """The newest event of this name; empty when there is none."""
        return next((event for event in reversed(self.events) if event.get("event") == name), {})

    def finished(self) -> bool:
        """Training ended well and did not begin again, and no stage is left or under way."""
        if self.seen.stage or state.left(self.run_dir):
            return False
        for event in reversed(self.events):
            if event.get("event") == "end":
                return bool(event.get("state") == "finished")
            if event.get("event") in ("start", "step"):
                return False
        return False

    def steps(self) -> list[dict[str, Any]]:
        """Step events of the course that counts: what a later attempt trained again replaces what came before."""
        made: list[dict[str, Any]] = []
        for event in self.events:
            if event.get("event") in ("start", "resume"):
                made = [each for each in made if each["step"] <= event.get("step", 0)]
            elif event.get("event") == "step" and isinstance(event.get("step"), int):
                made.append(event)
        return made

    def eval_losses(self) -> dict[str, list[tuple[float, float]]]:
        """Set → (step, loss) in the order of the steps; of a step measured twice, the later."""
        found: dict[str, dict[int, float]] = {}
        for event in self.events:
            if event.get("event") == "eval" and event.get("loss") is not None:
                found.setdefault(str(event.get("dataset")), {})[int(event.get("step", 0))] = event["loss"]
        return {
            label: [(float(step), loss) for step, loss in sorted(points.items())] for label, points in found.items()
        }

    def seconds(self, attempt: Attempt) -> float:
        """Wall time of an attempt; of one that has not noted its end, until its last event."""
        later = [each.started for each in self.attempts if each.started > attempt.started]
        until = min(later, default=float("inf"))
        heard = [event["time"] for event in self.events if attempt.started <= event.get("time", 0) < until]
        return max(0.0, (attempt.ended or max(heard, default=attempt.started)) - attempt.started)

    def versions(self) -> dict[str, str]:
        """Package → version, as the newest complete checkpoint was made with; empty without a checkpoint."""
        newest = checkpoints.newest(self.run_dir, contents=False).checkpoint
        return dict(newest.manifest.get("versions") or {}) if newest else {}


def gather(run_dir: RunDir) -> Facts:
    """Read the files of a run."""
    seen = events.read(run_dir.events)
    found = (attempts.read(run_dir, number) for number in attempts.numbers(run_dir))
    tried = [each for each in found if each]
    return Facts(run_dir, plan_of(run_dir), seen, progress(seen), tried, measure(seen, tried), measures(seen))


def plan_of(run_dir: RunDir) -> Plan | None:
    """The plan that the run goes by; None where it cannot be read."""
    try:
        return codec.loads(run_dir.plan.read_text(encoding="utf-8"))
    except (OSError, LauncherError):
        return None  # a run whose plan cannot be read still has losses and scores to show
