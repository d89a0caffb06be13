"""Runs as people read them: the table of `status`, the screen of one run, the last lines of `run`."""

from __future__ import annotations

import shlex
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

from launcher import text
from launcher.cli import queue_text
from launcher.cli.look import Look
from launcher.render import evaltable, goodput_text, speed_text
from launcher.render.report_facts import plan_of
from launcher.render.speed_text import Compared
from launcher.runs import checkpoints, names
from launcher.runs.attempts import Attempt
from launcher.runs.paths import RunDir
from launcher.runs.progress import Progress

_BARS = "▁▂▃▄▅▆▇█"
_SPARKS = 10
_ATTEMPTS = 10
"""Attempts shown one by one; of a longer history, the last."""


def runs_table(looks: Sequence[Look]) -> str:
    """All runs, one line each; why a run has failed stands below it, with the command that shows more."""
    lines = [["RUN", "WHERE", "STATE", "STEP", "LOSS", "HELD-OUT", "ETA", "GOODPUT"]]
    lines += [_row(each) for each in looks]
    shown = text.table(lines, right=frozenset({3, 4})).splitlines()
    for number in range(len(looks), 0, -1):
        if looks[number - 1].state.name == "failed":
            each = looks[number - 1]
            shown.insert(number + 1, f"    {each.state.reason}  →  {next_commands(each)[0]}")
    away = next((each.away for each in looks if each.away), None)
    if away:
        shown.append(queue_text.away(away))
    return "\n".join(shown)


def run_screen(each: Look) -> str:
    """One run: where it stands, how fast, what is safe, what happened, what to type next."""
    slurm = each.slurm
    sections = {
        "slurm": queue_text.away(slurm.away) if slurm and slurm.away else None,
        "jobs": queue_text.jobs(slurm, each.now) if slurm and slurm.jobs else None,
        "speed": _speed(each),
        "spill": each.measures.spill if each.measures else None,
        "loss": _loss(each),
        "safe": _safe(each),
        "goodput": goodput_text.line(each.goodput),
        "history": _history(each),
        "grace": each.shortfall.sentence() if each.shortfall else None,
        "why": each.state.reason if each.state.name == "failed" else None,
        "tracking": sync_line(each.run_dir),
        "next": " · ".join(next_commands(each)),
    }
    width = max(len(each.run_dir.name), 7) + 2
    head = f"{each.run_dir.name.ljust(width)}{each.where} · {_headline(each)}"
    told = (f"{name.ljust(width)}{_indented(told, width)}" for name, told in sections.items() if told)
    return "\n".join([head, *told])


def as_json(each: Look) -> dict[str, Any]:
    """One run for programs."""
    seen = each.seen
    return {
        "name": each.run_dir.name,
        "directory": str(each.run_dir.root.resolve()),
        "where": each.where,
        "state": each.state.name,
        "reason": each.state.reason,
        "step": seen.step,
        "max_steps": seen.max_steps,
        "loss": seen.loss,
        "learning_rate": seen.learning_rate,
        "tokens_per_s": seen.tokens_per_s and round(seen.tokens_per_s, 1),
        "memory_gib": seen.memory_gib,
        "seconds_per_step": seen.seconds_per_step,
        "seconds_left": each.seconds_left,
        "measured": each.measures.as_json() if each.measures else None,
        "predicted": speed_text.as_json(plan_of(each.run_dir)),
        "eval_loss": {name: {"first": seen.first_eval[name], "last": last} for name, last in seen.last_eval.items()},
        "checkpoint_step": seen.saved_step,
        "steps_at_risk": seen.at_risk,
        "stage": seen.stage if each.state.name == "running" else None,
        "progress": {"what": seen.what, "share": seen.share} if _preparing(each) and seen.what else None,
        "goodput": each.goodput.as_json(),
        "attempts": [asdict(attempt) for attempt in each.attempts],
        "slurm": queue_text.as_json(each.slurm) if each.slurm else None,
    }


def next_commands(each: Look) -> list[str]:
    """What a person may want to type now."""
    return queue_text.next_commands(each) or _next_commands(each)


def _next_commands(each: Look) -> list[str]:
    name = names.typed(each.run_dir)
    match each.state.name:
        case "running":
            return [f"launcher logs {name} -f", f"launcher stop {name} (saves, leaves)"]
        case "done":
            drawn = each.run_dir.report.exists()
            return [f"open {names.short(each.run_dir.report)} in a browser" if drawn else f"launcher report {name}"]
        case "failed":
            return [f"launcher logs {name}", f"launcher run {name} (goes on)"]
        case "prepared":
            return [f"launcher inspect {name} (read some rows)", f"launcher run {name} (trains)"]
        case "queued":
            return [f"launcher run {name}"]
        case _:
            return [f"launcher run {name} (goes on)"]


def sync_line(run_dir: RunDir) -> str | None:
    """What to type where there is a network, when W&B's figures were kept on disk."""
    if not run_dir.unsent:
        return None
    folder = shlex.quote(f"{names.short(run_dir.tracking)}/wandb/")
    return f"wandb sync {folder}offline-run-* (sends what W&B kept on disk; on a machine with network)"


def typed(verb: str, args: Namespace, run_dir: RunDir) -> str:
    """The line of another verb for what was typed here: the recipe with its `--set`, or the run."""
    if Path(args.recipe).is_file():
        sets = [word for each in args.set for word in ("--set", each)]
        home = [] if Path(args.runs).resolve() == names.default_root().resolve() else ["--runs", args.runs]
        return shlex.join(["launcher", verb, args.recipe, *sets, *home])
    return f"launcher {verb} {names.typed(run_dir)}"


def trains(action: str, args: Namespace, run_dir: RunDir) -> str:
    """What to type when the data is seen: the training, or its report where it is over."""
    if action == "finished":
        return f"launcher report {names.typed(run_dir)} (it is trained)"
    return f"{typed('run', args, run_dir)} (trains)"


def final(each: Look) -> str:
    """The last lines of `launcher run`: what came out, before and after, and where it lies."""
    seen, run_dir, done = each.seen, each.run_dir, each.state.name == "done"
    head = [("state", f"{run_dir.name} {_headline(each)}"), ("loss", _loss(each))]
    if seen.saved_step is not None and not done:
        head.append(("saved", f"checkpoint-{seen.saved_step}"))
    measured = [evaltable.before_after(run_dir), evaltable.answers(run_dir)] if done else []
    results = [names.short(folder) for folder in (run_dir.model, run_dir.merged) if folder.exists()]
    tail = [("result", " · ".join(results))] if results else []
    tail.append(("next", " · ".join(next_commands(each))))
    return "\n\n".join(block for block in [_titled(head), *measured, _titled(tail)] if block)


def _titled(lines: Sequence[tuple[str, str]]) -> str:
    return "\n".join(f"{title.ljust(8)}{line}" for title, line in lines if line)


def _row(each: Look) -> list[str]:
    seen, left = each.seen, each.seconds_left
    word: str = f"{each.state.name} ({each.state.reason})" if each.state.name == "stopped" else each.state.name
    if _never_started(each):
        word = "not started"
    if _preparing(each):
        word = "preparing" + ("" if seen.share is None else f" {seen.share:.0%}")
    eta = "-" if left is None else text.duration(left)
    if each.slurm:
        word, eta = queue_text.state(each), queue_text.eta(each) or eta
    return [
        each.run_dir.name,
        each.where,
        word,
        f"{seen.step}/{seen.max_steps}" if seen.max_steps else "-",
        "-" if seen.loss is None else f"{seen.loss:.3g}",
        ", ".join(_change(seen, name) for name in seen.last_eval) or "-",
        eta,
        "-" if each.goodput.share is None else f"{each.goodput.share:.0%}",
    ]


def _change(seen: Progress, name: str) -> str:
    """The latest loss on an eval set, and how far it has moved since the first."""
    first, last = seen.first_eval[name], seen.last_eval[name]
    return f"{last:.3g}" if first == last else f"{last:.3g} ({last - first:+.3g})"


def _headline(each: Look) -> str:
    seen = each.seen
    word = queue_text.headline(each) if each.slurm else _word(each)
    if _preparing(each) and seen.what:
        done = "" if seen.share is None else f" {_bar(seen.share)} {seen.share:.0%}"
        return f"{word} · {seen.what}{done}"
    if each.state.name == "running" and seen.stage in ("evaluate", "export"):
        return f"{word} · {seen.what or seen.stage}"
    if not seen.max_steps:
        return word + (f" · {seen.stage}" if seen.stage and each.state.name == "running" and not each.slurm else "")
    return f"{word} · {seen.step}/{seen.max_steps} {_bar(seen.step / seen.max_steps)} {seen.step / seen.max_steps:.0%}"


def _word(each: Look) -> str:
    if _never_started(each):
        return "not started"
    word: str = "preparing" if _preparing(each) else each.state.name
    if each.state.name == "running" and each.attempts:
        word += f" for {text.duration(each.now - each.attempts[-1].started)}"
    return f"{word} ({each.state.reason})" if each.state.reason and word != "failed" else word


def _never_started(each: Look) -> bool:
    """It is in no queue: there was no attempt, and SLURM was not asked for a job, or has refused it."""
    return each.state.name == "queued" and each.slurm is None


def _preparing(each: Look) -> bool:
    return each.state.name == "running" and each.seen.stage == "prepare"


def _bar(share: float, width: int = 20) -> str:
    eighths = round(min(max(share, 0), 1) * width * 8)
    partial = " ▏▎▍▌▋▊▉"[eighths % 8] if eighths % 8 else ""
    return f"▕{('█' * (eighths // 8) + partial).ljust(width)}▏"


def _speed(each: Look) -> str:
    if each.measures is None:
        return f"{text.duration(each.seconds_left)} left" if each.seconds_left is not None else ""
    return Compared(each.measures, plan_of(each.run_dir)).line(each.seconds_left)


def _loss(each: Look) -> str:
    seen = each.seen
    if seen.loss is None:
        return ""
    line = f"{seen.loss:.4g} {sparkline([loss for _, loss in seen.losses])}"
    held_out = [f"{name} {seen.first_eval[name]:.4g} → {last:.4g}" for name, last in seen.last_eval.items()]
    return "   ".join([line.rstrip(), " · ".join(held_out)]).rstrip()


def sparkline(values: Sequence[float]) -> str:
    """Values as ten bars or fewer, each the mean of its share; from the lowest to the highest of them."""
    finite = [value for value in values if abs(value) < float("inf")]
    if len(finite) < 2:
        return ""
    count = min(_SPARKS, len(finite))
    edges = [len(finite) * number // count for number in range(count + 1)]
    means = [sum(finite[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, span = min(means), max(means) - min(means)
    return "".join(_BARS[round((value - low) / span * (len(_BARS) - 1)) if span else 0] for value in means)


def _safe(each: Look) -> str:
    choice = checkpoints.newest(each.run_dir, contents=False)
    step = choice.checkpoint.step if choice.checkpoint else 0
    parts = []
    if choice.checkpoint:
        ago = text.duration(max(0, each.now - (each.seen.saved_time or each.now)))
        parts.append(f"{choice.checkpoint.path.name}, {ago} ago")
    elif each.seen.step:
        parts.append("no checkpoint yet")
    if each.state.name == "running" and each.seen.step:
        parts.append(f"a kill now costs {max(0, each.seen.step - step)} steps")
    parts += [f"{refused.path.name} {refused.reason}" for refused in choice.passed_over]
    return " · ".join(parts)


def _history(each: Look) -> str:
    shown = each.attempts[-_ATTEMPTS:]
    earlier = len(each.attempts) - len(shown)
    lines = [text.counted(earlier, "earlier attempt")] if earlier else []
    if shown:
        before = [None, *each.attempts][earlier:]
        lines.append(text.table([_attempt(each, *pair) for pair in zip(before, shown, strict=False)]))
    return "\n".join(lines)


def _attempt(each: Look, before: Attempt | None, attempt: Attempt) -> list[str]:
    running = attempt is each.attempts[-1] and each.state.name == "running"
    return goodput_text.row(attempt, each.goodput.attempt(attempt.number), running=running, before=before)


def _indented(lines: str, width: int) -> str:
    return lines.replace("\n", "\n" + " " * width)
