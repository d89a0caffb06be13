"""Contradictions between how long a recipe trains, what it measures and what it watches."""

from __future__ import annotations

from collections.abc import Iterator

from launcher.recipe.contradiction import Contradiction
from launcher.recipe.schema import Recipe
from launcher.text import nearest_of, quote

_BY_METRIC = ("greedy", "reduce_lr_on_plateau")
_WITH_FLOOR = ("cosine_with_min_lr", "cosine_warmup_with_min_lr")


def schedule(recipe: Recipe) -> Iterator[Contradiction]:
    """Steps, warm-up and learning-rate schedule."""
    training = recipe.training
    if training.max_steps == 0:
        yield Contradiction("training.max_steps", "trains nothing", "write -1 for whole epochs, or at least 1")
    shape, kwargs = training.lr_scheduler_type, (training.model_extra or {}).get("lr_scheduler_kwargs") or {}
    if shape in _BY_METRIC:
        yield Contradiction(
            "training.lr_scheduler_type",
            f"{quote(shape)} follows an eval loss, which the trainer does not measure here",
            "write `lr_scheduler_type: cosine`, or another schedule by steps",
        )
    if shape in _WITH_FLOOR and not {"min_lr", "min_lr_rate"} & set(kwargs):
        yield Contradiction(
            "training.lr_scheduler_type",
            f"{quote(shape)} needs the rate to end at",
            "add `lr_scheduler_kwargs: {min_lr_rate: 0.1}`, a share of the learning rate",
            ("training.lr_scheduler_kwargs",),
        )
    if 0 < training.max_steps < training.warmup_steps:
        yield Contradiction(
            "training.warmup_steps",
            f"{training.warmup_steps:g} steps of warm-up in {training.max_steps} steps",
            "write fewer, or a share below 1",
            ("training.max_steps",),
        )


def evaluation(recipe: Recipe) -> Iterator[Contradiction]:
    """Sets that are measured or generated from, and metrics that are watched or judged."""
    wanted, labels = recipe.evaluation, [each.label for each in recipe.data.eval_datasets]
    asked = [each.dataset for each in wanted.generate]
    for number, each in enumerate(wanted.generate):
        if each.dataset in asked[:number]:
            yield Contradiction(
                f"evaluation.generate.{number}.dataset",
                f"{quote(each.dataset)} stands here twice",
                "name it once, with all its metrics in one list",
            )
        if each.dataset not in labels:
            listed = f"eval sets: {', '.join(labels)}" if labels else "add it to `data.eval_datasets`"
            yield Contradiction(
                f"evaluation.generate.{number}.dataset",
                f"no eval set {quote(each.dataset)}",
                nearest_of(each.dataset, labels, listed),
                ("data.eval_datasets",),
            )
    if wanted.eval_steps is not None and not labels:
        yield Contradiction(
            "evaluation.eval_steps",
            "there is no eval set to measure",
            "add `eval_datasets: [{label: held_out, from: all, fraction: 0.02}]` to `data`",
            ("data.eval_datasets",),
        )
    if wanted.generate_steps is not None and not wanted.generate:
        yield Contradiction(
            "evaluation.generate_steps",
            "there is nothing to generate",
            "add `generate: [{dataset: LABEL}]`",
            ("evaluation.generate",),
        )
    yield from _metrics(recipe, labels)


def _metrics(recipe: Recipe, labels: list[str]) -> Iterator[Contradiction]:
    """Metrics that are watched or judged must be measured."""
    evaluation = recipe.evaluation
    losses = [f"eval_{label}_loss" for label in labels]
    scores = [f"eval_{each.dataset}_{metric}" for each in evaluation.generate for metric in each.metrics]
    watched = {"checkpoint.keep_best": recipe.checkpoint.keep_best}
    if evaluation.early_stopping:
        watched["evaluation.early_stopping.metric"] = evaluation.early_stopping.metric
    for key, metric in watched.items():
        if metric is not None:
            yield from _known_metric(key, metric, losses)
            if metric in losses and evaluation.eval_steps is None:
                yield Contradiction(
                    key,
                    f"{quote(metric)} is not measured during training",
                    "add `evaluation: {eval_steps: 200}`",
                    ("evaluation.eval_steps",),
                )
    for number, gate in enumerate(evaluation.gates):
        yield from _known_metric(f"evaluation.gates.{number}.metric", gate.metric, [*losses, *scores])
        if gate.min is gate.max is gate.min_delta_vs_base is None:
            yield Contradiction(
                f"evaluation.gates.{number}", "has no condition", "add `min`, `max` or `min_delta_vs_base`"
            )


def _known_metric(key: str, metric: str, known: list[str]) -> Iterator[Contradiction]:
    if metric in known:
        return
    listed = (
        f"metrics: {', '.join(known)}"
        if known
        else "add an eval set to `data.eval_datasets`: each gives `eval_LABEL_loss`"
    )
    hint = nearest_of(metric, known, listed)
    yield Contradiction(key, f"no metric {quote(metric)}", hint, ("data.eval_datasets", "evaluation.generate"))
