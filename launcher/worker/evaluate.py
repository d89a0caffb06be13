"""Measure the model before, during and after training, without changing the training by a bit."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from accelerate.utils import gather_object, send_to_device
from datasets import Dataset, load_from_disk
from transformers import PreTrainedTokenizerBase, Trainer, TrainerCallback

from launcher.plan.types import GeneratePlan, Plan
from launcher.runs import events, files
from launcher.runs.paths import RunDir
from launcher.worker import metrics
from launcher.worker.generate import answers
from launcher.worker.random_state import undisturbed

When = Literal["base", "step", "final"]
SAMPLES = 20


def callbacks(
    plan: Plan, run_dir: RunDir, trainer: Trainer, tokenizer: PreTrainedTokenizerBase
) -> list[TrainerCallback]:
    """The callback that measures; none when the plan names no eval set. Every rank needs it.

    Raises:
        EnvironmentFault: the package of a metric is missing.
    """
    metrics.require(name for spec in plan.evaluation.generate for name in spec.metrics)
    return [Evaluation(plan, run_dir, trainer, tokenizer)] if plan.data.eval_sources else []


class Evaluation(TrainerCallback):
    """Losses and answers at the start (the untuned model), at the planned steps, and at the end."""

    def __init__(self, plan: Plan, run_dir: RunDir, trainer: Trainer, tokenizer: PreTrainedTokenizerBase) -> None:
        self.plan = plan.evaluation
        self.run_dir = run_dir
        self.trainer = trainer
        self.tokenizer = tokenizer
        labels = [source.label for source in plan.data.eval_sources]
        self.rows = {label: load_from_disk(str(run_dir.prepared(f"eval-{label}"))) for label in labels}
        self.prompts = {spec.dataset: _prompts(run_dir, spec) for spec in self.plan.generate}

    def on_train_begin(self, *_: object, **__: object) -> None:
        """Score the untuned model, once per run."""
        known = gather_object([(self.run_dir.evals / "base.json").exists()])[0]
        if self.trainer.state.global_step == 0 and not known:
            self._measure("base", generate=True)

    def on_step_end(self, *_: object, **__: object) -> None:
        """Measure when a step of the plan is reached; the last step is measured at the end."""
        state = self.trainer.state
        generate = _due(state.global_step, self.plan.generate_steps)
        if (generate or _due(state.global_step, self.plan.eval_steps)) and state.global_step < state.max_steps:
            self._measure("step", generate=generate)

    def on_train_end(self, *_: object, **__: object) -> None:
        """Score the tuned model; a run that was stopped before its last step is not at its end."""
        if self.trainer.state.global_step >= self.trainer.state.max_steps:
            self._measure("final", generate=True)

    def _measure(self, when: When, *, generate: bool) -> None:
        started = time.monotonic()
        step = self.trainer.state.global_step
        with undisturbed(self.trainer.model):
            losses = {label: self._loss(label, when) for label in self.rows}
            specs = self.plan.generate if generate else ()
            sets = {spec.dataset: found for spec in specs if (found := self._score(spec, when)) is not None}
        if self.trainer.is_world_process_zero():
            name = f"step-{step}" if when == "step" else when
            record = {"when": when, "step": step, "seconds": round(time.monotonic() - started, 3)}
            files.write_json(self.run_dir.evals / f"{name}.json", {**record, "losses": losses, "sets": sets})
        self._log(losses, sets)

    def _loss(self, label: str, when: When) -> float | None:
        loss = mean_loss(self.trainer, self.rows[label], batch_size=self.plan.per_device_batch_size)
        self._event("eval", dataset=label, loss=loss, when=when)
        return loss

    def _score(self, spec: GeneratePlan, when: When) -> dict[str, Any] | None:
        """Generate and score one set; a failure on any rank becomes a warning on all, and the run goes on."""
        rows = self.prompts[spec.dataset]
        try:
            texts = generate_all(self.trainer, self.tokenizer, [row["prompt_ids"] for row in rows], spec)
            references = [row["reference"] for row in rows]
            values = {name: _finite(x) for name, x in metrics.score(spec.metrics, texts, references).items()}
        except Exception as error:  # noqa: BLE001 - hours of training are worth more than one evaluation
            self._event("warning", message=f"evaluation of `{spec.dataset}` failed: {error}")
            return None
        self._event("score", dataset=spec.dataset, metrics=values, rows=len(rows), when=when)
        samples = [
            {"prompt": row["prompt"], "reference": row["reference"], "output": text}
            for row, text in zip(rows[:SAMPLES], texts, strict=False)
        ]
        return {"rows": len(rows), "metrics": values, "samples": samples}

    def _event(self, event: Literal["eval", "score", "warning"], **fields: Any) -> None:
        if self.trainer.is_world_process_zero():
            events.append(self.run_dir.events, event, step=self.trainer.state.global_step, **fields)

    def _log(self, losses: dict[str, float | None], sets: dict[str, dict[str, Any]]) -> None:
        """Tell the trackers. `SFTTrainer.log` would mix in the averages of the training steps since the last log."""
        values = {f"eval_{label}_loss": loss for label, loss in losses.items()}
        values |= {
            f"eval_{label}_{name}": value for label, found in sets.items() for name, value in found["metrics"].items()
        }
        control = self.trainer.control
        log_is_due = control.should_log
        Trainer.log(self.trainer, {name: value for name, value in values.items() if value is not None})
        control.should_log = log_is_due  # logging clears it, and this step's training loss would go unlogged


def mean_loss(trainer: Trainer, rows: Dataset, *, batch_size: int) -> float | None:
    """Mean negative log-likelihood in nats per trained token of the set; None when it is not finite.

    The same for any batch size and number of ranks, but for rounding. Call it on every rank, model in eval mode.
    """
    share = _share([len(ids) for ids in rows["input_ids"]], trainer.args.process_index, trainer.args.world_size)
    total, tokens = 0.0, 0
    for start in range(0, len(share.rows), batch_size):
        batch = _collated(trainer, rows, share, start, batch_size)
        with torch.no_grad(), trainer.compute_loss_context_manager():
            output = trainer.model(**batch, fused_lm_head=True)
        total -= output.log_probs.sum(dtype=torch.float32).item()
        tokens += int(output.label_mask.sum().item())
    parts = gather_object([(total, tokens)])
    return _finite(sum(part[0] for part in parts) / max(1, sum(part[1] for part in parts)))


def generate_all(
    trainer: Trainer, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Sequence[int]], spec: GeneratePlan
) -> list[str]:
    """Answers to all prompts, in their order, each rank generating a share. Call it on every rank.

    Raises:
        RuntimeError: generation failed on a rank; raised on all of them.
    """
    share = _share([len(prompt) for prompt in prompts], trainer.args.process_index, trainer.args.world_size)
    error: str | None = None
    texts: list[str] = []
    try:
        with trainer.compute_loss_context_manager():
            texts = answers(
                trainer.model,
                tokenizer,
                [prompts[i] for i in share.rows],
                max_new_tokens=spec.max_new_tokens,
                batch_size=spec.batch_size,
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


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
