"""Measure the model before, during and after training, without changing the training by a bit."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from accelerate.utils import gather_object
from datasets import load_from_disk
from transformers import PreTrainedTokenizerBase, Trainer, TrainerCallback

from launcher.plan.types import EvaluationPlan, GeneratePlan, Plan
from launcher.runs import events, files
from launcher.runs.paths import RunDir
from launcher.worker import metrics
from launcher.worker.beats import beat
from launcher.worker.boundary import Abandoned, Boundary
from launcher.worker.measure import finite, generate_all, mean_loss
from launcher.worker.random_state import undisturbed

When = Literal["base", "step", "final"]
SAMPLES = 20
_SLOWER = 1.5
"""The tuned model may give longer answers than the one that was measured, on a machine that is busier."""


def callbacks(
    plan: Plan, run_dir: RunDir, trainer: Trainer, tokenizer: PreTrainedTokenizerBase, boundary: Boundary
) -> list[TrainerCallback]:
    """The callback that measures; none when the plan names no eval set. Every rank needs it, before `boundary`.

    Raises:
        EnvironmentFault: the package of a metric is missing.
    """
    metrics.require(name for spec in plan.evaluation.generate for name in spec.metrics)
    return [Evaluation(plan, run_dir, trainer, tokenizer, boundary)] if plan.data.eval_sources else []


class Evaluation(TrainerCallback):
    """Losses and answers at the start (the untuned model), at the planned steps, and, where the plan has it here, at the end.

    A stop request abandons a measurement between two batches, without a trace; the next start makes it again.
    """

    def __init__(
        self, plan: Plan, run_dir: RunDir, trainer: Trainer, tokenizer: PreTrainedTokenizerBase, boundary: Boundary
    ) -> None:
        self.plan = plan.evaluation
        self.run_dir = run_dir
        self.trainer = trainer
        self.boundary = boundary
        self.measurement = Measurement(plan, run_dir, trainer, tokenizer, boundary)

    def on_train_begin(self, *_: object, **__: object) -> None:
        """Score the untuned model, once per run, or what an earlier attempt had to abandon at the step it left at."""
        when: When = "base" if self.trainer.state.global_step == 0 else "step"
        known = gather_object([self.measurement.file(when).exists()])[0]
        if not known and (when == "base" or self._is_due()):
            self._measure(when, generate=when == "base" or self._generates())

    def on_step_end(self, *_: object, **__: object) -> None:
        """Measure when a step of the plan is reached; the last step is measured at the end."""
        if self._is_due():
            self._measure("step", generate=self._generates())

    def on_train_end(self, *_: object, **__: object) -> None:
        """Score the tuned model; a run that was stopped before its last step is not at its end."""
        if self.trainer.state.global_step < self.trainer.state.max_steps:
            return
        if not self._measures_the_end():
            if self.trainer.is_world_process_zero():  # what an older result scored is not this one's
                self.measurement.file("final").unlink(missing_ok=True)
        elif not self._measure("final", generate=True):
            self.boundary.leave(self.trainer.args, self.trainer.state)

    def _measures_the_end(self) -> bool:
        """These ranks do it, and no job of its own; with `auto`, when it will be over before the time is."""
        if self.plan.final == "auto":
            return self.boundary.has_time(self.trainer.args, predicted_s(self.run_dir, self.plan))
        return self.plan.final == "train"

    def _is_due(self) -> bool:
        state = self.trainer.state
        every = _due(state.global_step, self.plan.eval_steps) or self._generates()
        return every and state.global_step < state.max_steps

    def _generates(self) -> bool:
        return _due(self.trainer.state.global_step, self.plan.generate_steps)

    def _measure(self, when: When, *, generate: bool) -> bool:
        return self.measurement.make(when, generate=generate)


class Measurement:
    """All eval sets, measured by the model as it stands. Every rank needs it and must make the same measurements."""

    def __init__(
        self, plan: Plan, run_dir: RunDir, trainer: Trainer, tokenizer: PreTrainedTokenizerBase, boundary: Boundary
    ) -> None:
        self.plan = plan.evaluation
        self.run_dir = run_dir
        self.trainer = trainer
        self.tokenizer = tokenizer
        self.boundary = boundary
        labels = [source.label for source in plan.data.eval_sources]
        self.rows = {label: load_from_disk(str(run_dir.prepared(f"eval-{label}"))) for label in labels}
        self.prompts = {spec.dataset: _prompts(run_dir, spec) for spec in self.plan.generate}
        self._untold: list[tuple[Literal["eval", "score", "warning"], dict[str, Any]]] = []

    def file(self, when: When) -> Path:
        """Where it is written."""
        return self.run_dir.evaluation(f"step-{self.trainer.state.global_step}" if when == "step" else when)

    def make(self, when: When, *, generate: bool) -> bool:
        """Measure and tell of it. False when it was abandoned: then nothing is told, and nothing has changed."""
        beat("evaluate")
        started = time.monotonic()
        self._untold.clear()
        specs = self.plan.generate if generate else ()
        try:
            with undisturbed(self.trainer.model):
                losses = {label: self._loss(label, when) for label in self.rows}
                sets = {spec.dataset: found for spec in specs if (found := self._score(spec, when)) is not None}
        except Abandoned:
            return False
        if self.trainer.is_world_process_zero():
            record = {"when": when, "step": self.trainer.state.global_step, "seconds": _since(started)}
            files.write_json(self.file(when), {**record, "losses": losses, "sets": sets})
            for name, fields in self._untold:
                events.append(self.run_dir.events, name, step=self.trainer.state.global_step, **fields)
        self._log(losses, sets)
        return True

    def _loss(self, label: str, when: When) -> float | None:
        started = time.monotonic()
        loss = mean_loss(
            self.trainer, self.rows[label], batch_size=self.plan.per_device_batch_size, batches=self._batches
        )
        self._tell("eval", dataset=label, loss=loss, when=when, seconds=_since(started))
        return loss

    def _score(self, spec: GeneratePlan, when: When) -> dict[str, Any] | None:
        """Generate and score one set; a failure on any rank becomes a warning on all, and the run goes on."""
        started = time.monotonic()
        rows = self.prompts[spec.dataset]
        prompts = [row["prompt_ids"] for row in rows]
        try:
            texts = generate_all(
                self.trainer,
                self.tokenizer,
                prompts,
                spec,
                batches=self._batches,
                interrupted=self.boundary.interrupted,
            )
            references = [row["reference"] for row in rows]
            values = {name: finite(x) for name, x in metrics.score(spec.metrics, texts, references).items()}
        except Abandoned:
            raise
        except Exception as error:  # noqa: BLE001 - hours of training are worth more than one evaluation
            self._tell("warning", message=f"evaluation of `{spec.dataset}` failed: {error}")
            return None
        self._tell("score", dataset=spec.dataset, metrics=values, rows=len(rows), when=when, seconds=_since(started))
        samples = [
            {"prompt": row["prompt"], "reference": row["reference"], "output": text}
            for row, text in zip(rows[:SAMPLES], texts, strict=False)
        ]
        return {"rows": len(rows), "metrics": values, "samples": samples}

    def _batches(self, starts: Sequence[int]) -> Iterator[int]:
        return self.boundary.batches(self.trainer.args, starts)

    def _tell(self, event: Literal["eval", "score", "warning"], **fields: Any) -> None:
        """An event of this measurement, kept until it is whole: one that is abandoned will be made again."""
        self._untold.append((event, fields))

    def _log(self, losses: dict[str, float | None], sets: dict[str, dict[str, Any]]) -> None:
        """Tell the trackers. `SFTTrainer.log` would mix in the averages of the training steps since the last log."""
        control = self.trainer.control
        log_is_due = control.should_log
        Trainer.log(self.trainer, logged(losses, sets))
        control.should_log = log_is_due  # logging clears it, and this step's training loss would go unlogged


def logged(losses: Mapping[str, float | None], sets: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """One measurement as a log: metric → value, without those that have none."""
    values = {f"eval_{label}_loss": loss for label, loss in losses.items()}
    values |= {
        f"eval_{label}_{name}": value for label, found in sets.items() for name, value in found["metrics"].items()
    }
    return {name: value for name, value in values.items() if value is not None}


def predicted_s(run_dir: RunDir, plan: EvaluationPlan) -> float | None:
    """Seconds that the last measurement may take: half as long again as the slowest of this run that made all of it.

    None where there was none.
    """
    sets = {spec.dataset for spec in plan.generate}
    made = [record for path in run_dir.evals.glob("*.json") if (record := files.read_json(path)) is not None]
    seconds = [float(record.get("seconds") or 0.0) for record in made if sets <= set(record.get("sets") or {})]
    return _SLOWER * max(seconds) if seconds else None


def _prompts(run_dir: RunDir, spec: GeneratePlan) -> list[dict[str, Any]]:
    with (run_dir.data / f"generate-{spec.dataset}.jsonl").open(encoding="utf-8") as file:
        return [json.loads(line) for line in file][: spec.max_rows]


def _due(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0


def _since(started: float) -> float:
    return round(time.monotonic() - started, 3)
