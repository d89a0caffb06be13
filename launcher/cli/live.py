"""Progress of a run on standard error: a live view on a terminal, plain lines anywhere else."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from launcher import text
from launcher.executors.stages import View
from launcher.runs.progress import Progress

if TYPE_CHECKING:
    from rich.progress_bar import ProgressBar
    from rich.table import Table

_LINE_EVERY_S = 10.0
"""Between two plain lines of ordinary steps: a log of a day's run stays readable."""
_REDRAW_EVERY_S = 0.25


@contextlib.contextmanager
def view() -> Iterator[View]:
    """The view that fits standard error."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield Lines()
        return
    screen = Screen()
    try:
        yield screen
    finally:
        screen.close()


class Lines:
    """One line per event worth one: the first and last step, evaluations, saves, and a step every ten seconds."""

    def __init__(self) -> None:
        self.progress = Progress()
        self._last_line_s = float("-inf")
        self._quiet = False
        self._faulted = False

    def note(self, line: str) -> None:
        """Show one line about the launcher's own doings."""
        self.show(line)

    def event(self, event: Mapping[str, Any]) -> None:
        """Show one event of the run, when it is worth a line."""
        self.progress.add(event)
        match event.get("event"):
            case "start":
                self._last_line_s = float("-inf")
            case "stage":
                self._last_line_s = time.monotonic()
        if event.get("event") == "step":
            self._step()
        elif event.get("event") == "progress":
            self._progress()
        elif line := describe(event):
            self.show(line)

    def output(self, line: str) -> None:
        """Show a line of a stage's output, up to an error, which is shown in its own place."""
        self._faulted = self._faulted or line.startswith(("error:", "Traceback"))
        if not self._faulted:
            self.show(f"  {line}")

    def tick(self) -> None:
        """Some time has passed."""

    def show(self, line: str) -> None:
        """Print a line; when the terminal has gone, the run goes on in silence."""
        if self._quiet:
            return
        try:
            print(line, file=sys.stderr, flush=True)
        except OSError:
            self._quiet = True
            sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115 - for the rest of the process

    def _step(self) -> None:
        seen, now = self.progress, time.monotonic()
        if seen.step == seen.max_steps or now - self._last_line_s >= _LINE_EVERY_S:
            self._last_line_s = now
            self.show(step_line(seen))

    def _progress(self) -> None:
        now = time.monotonic()
        if now - self._last_line_s >= _LINE_EVERY_S:
            self._last_line_s = now
            self.show(f"  {progress_line(self.progress)}")


class Screen(Lines):
    """A bar that stays at the bottom, with the lines of everything else above it."""

    def __init__(self) -> None:
        super().__init__()
        from rich.console import Console
        from rich.live import Live

        self._console = Console(stderr=True, highlight=False)
        # Without a refresh thread: a child must not be forked while a thread holds a lock.
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._drawn_s = 0.0
        self._live.start()

    def tick(self) -> None:
        """Draw the bar anew, at most four times a second."""
        now = time.monotonic()
        if self._quiet or now - self._drawn_s < _REDRAW_EVERY_S:
            return
        self._drawn_s = now
        with self._or_quiet():
            self._live.update(self._picture(), refresh=True)

    def show(self, line: str) -> None:
        """Print a line above the bar."""
        with self._or_quiet():
            self._console.print(line, markup=False, soft_wrap=True)

    def close(self) -> None:
        """Leave the terminal as it was."""
        with self._or_quiet():
            self._live.stop()

    def _step(self) -> None:
        """Steps are in the bar."""

    def _progress(self) -> None:
        """So is where a long stage stands."""

    def _picture(self) -> Table:
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        seen = self.progress
        grid = Table.grid(padding=(0, 1))
        grid.add_column()
        grid.add_column(no_wrap=True, overflow="ellipsis")
        bar: ProgressBar | str = ""
        line = f"{seen.stage or 'starting'} …"
        if seen.what:
            bar = ProgressBar(total=1.0, completed=seen.share, width=24) if seen.share is not None else ""
            line = progress_line(seen)
        elif seen.max_steps:
            bar, line = ProgressBar(total=seen.max_steps, completed=seen.step, width=24), step_line(seen)
        grid.add_row(bar, line)
        return grid

    @contextlib.contextmanager
    def _or_quiet(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            self._quiet = True


def progress_line(seen: Progress) -> str:
    """What a long stage is doing, how much of it is done, and how fast it goes."""
    parts = [
        seen.what or seen.stage or "",
        None if seen.share is None else f"{seen.share:.0%}",
        None if seen.rows_per_s is None else f"{text.count(round(seen.rows_per_s))} rows/s",
    ]
    return "  ".join(part for part in parts if part)


def step_line(seen: Progress) -> str:
    """Step, loss, learning rate, speed, time left and memory, as far as they are known."""
    left = seen.seconds_left
    parts = [
        f"step {seen.step}/{seen.max_steps or '?'}",
        None if seen.loss is None else f"loss {seen.loss:.4g}",
        None if seen.learning_rate is None else f"lr {seen.learning_rate:.3g}",
        None if seen.tokens_per_s is None else f"{text.count(round(seen.tokens_per_s))} tok/s",
        None if left is None else f"{text.duration(left)} left",
        None if seen.memory_gib is None else f"{seen.memory_gib:.1f} GiB",
    ]
    return "  ".join(part for part in parts if part)


def describe(event: Mapping[str, Any]) -> str | None:
    """One event as a line; None for those that say nothing new to a person."""
    make = _LINES.get(str(event.get("event")))
    return make(event) if make else None


def _stage(event: Mapping[str, Any]) -> str | None:
    words = {"started": "…", "skipped": ": done before"}
    return f"{event.get('stage')}{words[event['state']]}" if event.get("state") in words else None


def _start(event: Mapping[str, Any]) -> str:
    ranks = event.get("world_size", 1)
    share = f"{text.count(event.get('trainable', 0))} of {text.count(event.get('parameters', 0))} parameters"
    return (
        f"training {share} on {event.get('device')}, {ranks} process{'es' if ranks != 1 else ''}, {event.get('dtype')}"
    )


def _eval(event: Mapping[str, Any]) -> str:
    loss = event.get("loss")
    return f"step {event.get('step')}  {event.get('dataset')} loss {'not finite' if loss is None else f'{loss:.4g}'}"


def _score(event: Mapping[str, Any]) -> str:
    scores = ", ".join(f"{name} {value:.3g}" for name, value in (event.get("metrics") or {}).items())
    when = f"step {event.get('step')}" if event.get("when") == "step" else event.get("when")
    return f"{when}  {event.get('dataset')}: {scores} on {event.get('rows')} rows"


def _export(event: Mapping[str, Any]) -> str:
    what = f"merged into the {event.get('base')} base: {text.gib(event.get('bytes', 0))} in {event.get('dtype')}"
    found = event.get("logits") or {}
    told = f"logits within {found.get('merged')} of the adapter's, which moves them by {found.get('adapter')}"
    away = (
        f"; within {found.get('trained')} of the trained model's" if found.get("trained") != found.get("merged") else ""
    )
    return f"{what}; {told}{away}"


def _commit(event: Mapping[str, Any]) -> str:
    return f"step {event.get('step')}  saved {event.get('checkpoint')} ({event.get('seconds')} s)"


def _stop(event: Mapping[str, Any]) -> str:
    step, cause = event.get("step"), event.get("cause")
    where = "before the first step" if step is None else f"step {step}"
    return f"{where}  stopping {'before the time limit' if cause == 'time limit' else 'on request'}"


def _save_failed(event: Mapping[str, Any]) -> str:
    return f"step {event.get('step')}  {event.get('error')}; training goes on"


def _quarantine(event: Mapping[str, Any]) -> str:
    where = f"put aside in {event['moved_to']}" if event.get("moved_to") else "left where it is"
    return f"{event.get('checkpoint')} is damaged, {where}: {event.get('reason')}; an older one is used"


_LINES: Mapping[str, Callable[[Mapping[str, Any]], str | None]] = {
    "stage": _stage,
    "start": _start,
    "eval": _eval,
    "score": _score,
    "commit": _commit,
    "export": _export,
    "save_failed": _save_failed,
    "quarantine": _quarantine,
    "stop": _stop,
    "warning": lambda event: f"warning: {event.get('message')}",
}
