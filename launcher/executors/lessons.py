"""What a run's files say it has taught; `launcher.plan.lessons` says what that is."""

from __future__ import annotations

from dataclasses import dataclass

from launcher.cluster import calibrations
from launcher.errors import LauncherError
from launcher.plan import codec, lessons
from launcher.predict.calibration import Point
from launcher.runs import events, record
from launcher.runs.measures import measures
from launcher.runs.paths import RunDir
from launcher.version import VERSION


@dataclass(frozen=True)
class Lesson:
    """One run: what it teaches about which device, or why it teaches nothing."""

    name: str
    done: bool
    device: str | None = None
    point: Point | None = None
    why: str | None = None


def lesson(run_dir: RunDir) -> Lesson:
    """Read a run's record, events and the plan of the attempt that was measured."""
    done, known = run_dir.done.exists(), record.read(run_dir)
    measured = measures(events.read(run_dir.events))
    device = calibrations.device_of(measured.device) if measured and measured.device else None
    file = run_dir.attempt_plan(measured.attempt) if measured else run_dir.plan
    try:
        plan = codec.loads((file if file.is_file() else run_dir.plan).read_text(encoding="utf-8"))
    except OSError as error:
        return Lesson(run_dir.name, done, device, why=f"its plan cannot be read: {error.strerror}")
    except LauncherError as error:
        return Lesson(run_dir.name, done, device, why=error.message)
    if plan.launcher_version != VERSION:
        why = f"launcher {plan.launcher_version} has planned it, whose formulas may be others"
        return Lesson(run_dir.name, done, device, why=why)
    found = lessons.point(known.id if known else run_dir.name, run_dir.name, plan, measured)
    if isinstance(found, str):
        return Lesson(run_dir.name, done, device, why=found)
    return Lesson(run_dir.name, done, device, found)
