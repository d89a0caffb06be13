"""`report.html`: one page on one run, complete in itself, made from the files of the run alone."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from launcher import text
from launcher.plan.types import Plan
from launcher.render import evaltable, goodput_text
from launcher.render.chart import Line, chart, smoothed
from launcher.render.data_page import Data, data, environment
from launcher.render.evaltable import Measure
from launcher.render.report_facts import Facts, gather
from launcher.render.speed_text import Compared, Row
from launcher.runs import grace, names, state
from launcher.runs.attempts import Attempt
from launcher.runs.paths import RunDir

_COLOURS = 6
_WORDS = {None: "killed", 0: "done", 85: "saved and stopped", 130: "left at once"}


def html(run_dir: RunDir) -> str:
    """The page as text. Whatever the run has not produced yet is left out."""
    return environment().get_template("report.html.j2").render(page=_page(run_dir))


@dataclass(frozen=True)
class Verdict:
    """State of the run in one word, and the sentence that goes with it. `kind` chooses the colour."""

    word: str
    kind: str
    sentence: str


@dataclass(frozen=True)
class Drawing:
    """One chart for wide and one for narrow screens. The legend names lines that can be seen."""

    title: str
    legend: list[Line]
    wide: Markup
    narrow: Markup


@dataclass(frozen=True)
class Page:
    """All that the template shows, as text and drawings."""

    name: str
    subtitle: str
    verdict: Verdict
    figures: list[tuple[str, str]]
    charts: list[Drawing]
    measures: list[Measure]
    after: str
    remarks: list[str]
    samples: dict[str, list[tuple[str, str, str | None, str | None]]]
    warnings: list[str]
    decisions: list[tuple[str, str, str]]
    data: Data | None
    goodput: list[tuple[str, str]]
    measured: list[Row]
    attempts: list[list[str]]
    facts: list[tuple[str, str]]
    commands: list[tuple[str, str]]


def _page(run_dir: RunDir) -> Page:
    facts = gather(run_dir)
    found = evaltable.results(run_dir)
    measures = evaltable.measures(found)
    verdict = _verdict(facts)
    found_data = data(run_dir)
    return Page(
        name=run_dir.name,
        subtitle=_subtitle(facts.plan),
        verdict=verdict,
        figures=list(_figures(facts, measures)),
        charts=list(_charts(facts)),
        measures=measures,
        after=found.after,
        remarks=list(_remarks(facts)),
        samples=evaltable.pairs(found),
        warnings=list(_warnings(facts, found_data)),
        decisions=[(each.key, _value(each.value), each.reason) for each in facts.plan.decisions] if facts.plan else [],
        data=found_data,
        goodput=goodput_text.spans(facts.goodput),
        measured=Compared(facts.measures, facts.plan).rows() if facts.measures else [],
        attempts=[_attempt(facts, each, verdict) for each in facts.attempts],
        facts=list(_environment(facts)),
        commands=_commands(run_dir, verdict),
    )


def _verdict(facts: Facts) -> Verdict:
    """What `status` says, but a run that writes its report as its last act counts as done."""
    now = state.derive(facts.run_dir)
    steps = f"{facts.seen.step:,} of {facts.seen.max_steps:,} steps" if facts.seen.max_steps else "no step yet"
    word: str = now.name
    if word == "running" and facts.finished():
        word = "done"
    reason = f" · {now.reason}" if now.reason and word != "done" else ""
    kind = {"done": "good", "failed": "bad"}.get(word, "open")
    return Verdict(word, kind, steps + reason)


def _subtitle(plan: Plan | None) -> str:
    if plan is None:
        return ""
    model = plan.model.name or f"{plan.model.architecture or 'a model'} from its configuration"
    size = f"{text.count(plan.model.parameters)} parameters" if plan.model.parameters else None
    method = {"full": "full fine-tuning", "lora": "LoRA", "qlora": "QLoRA", "int8": "LoRA on an int8 base"}[plan.method]
    rank = f"r {plan.peft['r']}" if plan.peft and "r" in plan.peft else None
    return " · ".join(part for part in (plan.task, model, size, method, rank, plan.hardware) if part)


def _figures(facts: Facts, measures: Sequence[Measure]) -> Iterator[tuple[str, str]]:
    seen = facts.seen
    if seen.loss is not None:
        yield "training loss", f"{seen.loss:.4g}"
    for each in [m for m in measures if m.name != "loss"][:2] or measures[:2]:
        both = each.before is not None and each.after is not None
        shown = f"{each.show(each.before)} → {each.show(each.after)}" if both else each.show(each.after or each.before)
        yield f"{each.dataset} {each.name}", shown
    if seen.tokens_per_s is not None:
        yield "speed", f"{text.count(seen.tokens_per_s)} tokens/s"
    if seen.memory_gib is not None:
        yield "peak memory", f"{seen.memory_gib:.2f} GiB"
    if facts.attempts:
        yield "time", text.duration(sum(facts.seconds(each) for each in facts.attempts))
    if facts.goodput.share is not None:
        yield "goodput", f"{facts.goodput.share:.0%}"


def _charts(facts: Facts) -> Iterator[Drawing]:
    losses = [(float(step), loss) for step, loss in facts.seen.losses]
    span = max(5, len(losses) // 25) | 1
    lines = [
        Line("training, each log", losses, 0, "faint"),
        Line(f"training, mean of {span} logs", smoothed(losses, span), 0),
    ]
    for number, (label, points) in enumerate(facts.eval_losses().items()):
        lines.append(Line(f"eval {label}", points, 1 + number % (_COLOURS - 1), "marked"))
    yield from _drawn("Loss", lines, y="loss, nats per token", height=340)
    rates = [
        (float(event["step"]), float(event["learning_rate"]))
        for event in facts.steps()
        if event.get("learning_rate") is not None
    ]
    yield from _drawn("Learning rate", [Line("learning rate", rates, 0)], y="learning rate", height=180, from_zero=True)


def _drawn(title: str, lines: Sequence[Line], *, y: str, height: int, from_zero: bool = False) -> Iterator[Drawing]:
    wide, narrow = (
        chart(lines, x="optimizer step", y=y, width=width, height=height, from_zero=from_zero) for width in (1000, 380)
    )
    if wide:
        legend = [line for line in lines if line.points]
        yield Drawing(title, legend if len(legend) > 1 else [], wide, narrow)


def _remarks(facts: Facts) -> Iterator[str]:
    """Sets on which the model was better before its end."""
    for label, points in facts.eval_losses().items():
        step, lowest = min(points, key=lambda point: point[1])
        last_step, last = points[-1]
        if step < last_step and last > 1.02 * lowest:
            yield (
                f"The loss of {label} was lowest at step {step:,.0f} ({lowest:.3f}) and is {last:.3f} at step {last_step:,.0f}: "
                "since then the model has got worse on rows that it is not trained on."
            )


def _warnings(facts: Facts, found: Data | None) -> Iterator[str]:
    """What the plan, the data and the run itself gave reason to, each once."""
    said = [*(facts.plan.warnings if facts.plan else ()), *(found.warnings if found else ())]
    said += [str(event.get("message")) for event in facts.events if event.get("event") == "warning"]
    said += [
        f"saving step {event.get('step')} failed: {event.get('error')}"
        for event in facts.events
        if event.get("event") == "save_failed"
    ]
    said += [each.sentence() for each in grace.shortfalls(facts.events, facts.attempts)]
    yield from dict.fromkeys(said)


def _attempt(facts: Facts, each: Attempt, verdict: Verdict) -> list[str]:
    latest = each is facts.attempts[-1]
    open_word = verdict.word if latest and verdict.word in ("running", "done") else "killed"
    word = _WORDS.get(each.code, "failed") if each.code is not None else open_word
    time = facts.goodput.attempt(each.number)
    if word == "done" and not goodput_text.steps(time):
        word = goodput_text.without_steps(time)
    first = "-" if time is None or time.first_step_s is None else text.duration(time.first_step_s)
    lost = f"{time.lost_steps:,}" if time else "-"
    return [
        f"{each.number}", _utc(each.started), text.duration(facts.seconds(each)), each.host,
        goodput_text.steps(time) or "-", first, lost, word, each.error or "",
    ]  # fmt: skip


def _environment(facts: Facts) -> Iterator[tuple[str, str]]:
    start = facts.last("start")
    for name, key in (("ranks", "world_size"), ("device", "device"), ("dtype", "dtype"), ("wrapper", "wrapper")):
        if key in start:
            yield name, str(start[key])
    if "trainable" in start and "parameters" in start:
        share = start["trainable"] / max(1, start["parameters"])
        yield (
            "trained",
            f"{text.count(start['trainable'])} of {text.count(start['parameters'])} parameters ({share:.2%})",
        )
    if facts.plan:
        yield "launcher", facts.plan.launcher_version
    yield from sorted(facts.versions().items())


def _commands(run_dir: RunDir, verdict: Verdict) -> list[tuple[str, str]]:
    name = names.typed(run_dir)
    logs, status = (
        (f"launcher logs {name}", "what each step and each rank said"),
        (f"launcher status {name}", "where it stands"),
    )
    match verdict.word:
        case "done":
            return [(f"ls {names.short(run_dir.model)}", "the result: model or adapter, with its tokenizer"), logs]
        case "running":
            return [(f"launcher logs {name} -f", "follow it"), (f"launcher stop {name}", "save and leave"), status]
        case _:
            return [(f"launcher run {name}", "go on from the last checkpoint"), logs, status]


def _value(value: Any) -> str:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)


def _utc(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
