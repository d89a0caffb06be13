"""Measure the model before, during and after training, without changing the training by a bit."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate.utils import gather_object, send_to_device
from datasets import Dataset, load_from_disk
from transformers import PreTrainedTokenizerBase, Trainer, TrainerCallback

from launcher.plan.types import GeneratePlan, Plan
from launcher.runs import events, files
from launcher.runs.paths import RunDir
from launcher.worker import metrics
from launcher.worker.beats import beat
from launcher.worker.boundary import Abandoned, Boundary
from launcher.worker.generate import answers
from launcher.worker.random_state import undisturbed
from launcher.worker.reality import is_sharded

Batches = Callable[[Sequence[int]], Iterator[int]]
When = Literal["base", "step", "final"]
SAMPLES = 20


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
    """Losses and answers at the start (the untuned model), at the planned steps, and at the end.

    A stop request abandons a measurement between two batches, without a trace; the next start makes it again.
    """

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
        self._untold: list[tuple[Literal["eval", "score", "warning"], dict[str, Any]]] = []
        self.prompts = {spec.dataset: _prompts(run_dir, spec) for spec in self.plan.generate}

    def on_train_begin(self, *_: object, **__: object) -> None:
        """Score the untuned model, once per run, or what an earlier attempt had to abandon at the step it left at."""
        when: When = "base" if self.trainer.state.global_step == 0 else "step"
        known = gather_object([self._file(when).exists()])[0]
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
        if not self._measure("final", generate=True):
            self.boundary.leave(self.trainer.args, self.trainer.state)

    def _is_due(self) -> bool:
        state = self.trainer.state
        every = _due(state.global_step, self.plan.eval_steps) or self._generates()
        return every and state.global_step < state.max_steps

    def _generates(self) -> bool:
        return _due(self.trainer.state.global_step, self.plan.generate_steps)

    def _file(self, when: When) -> Path:
        name = f"step-{self.trainer.state.global_step}" if when == "step" else when
        return self.run_dir.evals / f"{name}.json"

    def _measure(self, when: When, *, generate: bool) -> bool:
        """Make a measurement and tell of it. False when it was abandoned: then nothing is told, and nothing has changed."""
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
            files.write_json(self._file(when), {**record, "losses": losses, "sets": sets})
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
            values = {name: _finite(x) for name, x in metrics.score(spec.metrics, texts, references).items()}
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


def mean_loss(trainer: Trainer, rows: Dataset, *, batch_size: int, batches: Batches = iter) -> float | None:
    """Mean negative log-likelihood in nats per trained token of the set; None when it is not finite.

    The same for any batch size and number of ranks, but for rounding. Call it on every rank, model in eval mode.
    `batches` goes through the starts of the batches and may abandon the measurement by an error of its own.
    """
    share = _share([len(ids) for ids in rows["input_ids"]], trainer.args.process_index, trainer.args.world_size)
    total, tokens = 0.0, 0
    for start in batches(range(0, len(share.rows), batch_size)):
        batch = _collated(trainer, rows, share, start, batch_size)
        with torch.no_grad(), trainer.compute_loss_context_manager():
            output = trainer.model(**batch, fused_lm_head=True)
        total -= output.log_probs.sum(dtype=torch.float32).item()
        tokens += int(output.label_mask.sum().item())
    parts = gather_object([(total, tokens)])
    return _finite(sum(part[0] for part in parts) / max(1, sum(part[1] for part in parts)))


def generate_all(
    trainer: Trainer,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    spec: GeneratePlan,
    *,
    batches: Batches = iter,
    interrupted: Callable[[], bool] = lambda: False,
) -> list[str]:
    """Answers to all prompts, in their order, each rank generating a share. Call it on every rank.

    Args:
        trainer: holds the model, in eval mode.
        tokenizer: its tokenizer.
        prompts: token ids.
        spec: how many prompts at once, and how long an answer may be.
        batches: goes through the starts of the batches; may abandon the measurement by an error of its own.
        interrupted: asked after each token; when true, answers are cut off, and `batches` must abandon them.

    Raises:
        RuntimeError: generation failed on a rank; raised on all of them.
    """
    share = _share([len(prompt) for prompt in prompts], trainer.args.process_index, trainer.args.world_size)
    error: str | None = None
    texts: list[str] = []
    for start in batches(range(0, len(share.rows), spec.batch_size)):
        if error is None:  # a rank that failed goes through the other batches too: all ask one another in between
            try:
                with trainer.compute_loss_context_manager():
                    texts += answers(
                        trainer.model,
                        tokenizer,
                        [prompts[i] for i in share.rows[start : start + spec.batch_size]],
                        max_new_tokens=spec.max_new_tokens,
                        interrupted=interrupted,
                        together=trainer.args.world_size > 1 and any(map(is_sharded, trainer.model.parameters())),
                    )
            except Exception as fault:  # noqa: BLE001 - agreed by all ranks below
                torch.cuda.empty_cache()
                error = f"{type(fault).__name__}: {fault}"
    gathered = gather_object([(error, list(zip(share.rows[: share.counted], texts, strict=False)))])
    errors = [f"{fault} (rank {rank})" for rank, (fault, _) in enumerate(gathered) if fault]
    if errors:
        raise RuntimeError(errors[0])
    return [text for _, text in sorted(pair for _, pairs in gathered for pair in pairs)]


@dataclass(frozen=True)
class _Share:
    """Row numbers for one rank; those behind the first `counted` only keep the ranks in step."""

    rows: list[int]
    counted: int


def _share(lengths: Sequence[int], rank: int, world_size: int) -> _Share:
    """Deal rows to ranks, longest first, so that each batch holds rows of like length and a lack of memory shows early.

    Every rank gets the same number of rows; where they do not divide, the last ones get a row that does not count.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    mine = order[rank::world_size]
    missing = -(-len(order) // world_size) - len(mine)
    return _Share(mine + order[-1:] * missing, len(mine))


def _collated(trainer: Trainer, rows: Dataset, share: _Share, start: int, batch_size: int) -> Any:
    columns = [name for name in ("input_ids", "labels", "seq_lengths") if name in rows.column_names]
    picked = [{name: rows[i][name] for name in columns} for i in share.rows[start : start + batch_size]]
    for row in picked[max(0, share.counted - start) :]:
        row["labels"] = [-100] * len(row["labels"])
    return send_to_device(trainer.data_collator(picked), trainer.args.device)


def _prompts(run_dir: RunDir, spec: GeneratePlan) -> list[dict[str, Any]]:
    with (run_dir.data / f"generate-{spec.dataset}.jsonl").open(encoding="utf-8") as file:
        return [json.loads(line) for line in file][: spec.max_rows]


def _due(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0


def _since(started: float) -> float:
    return round(time.monotonic() - started, 3)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
