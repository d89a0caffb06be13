"""From recipe, hardware and facts to a plan. Pure: the same input gives the same bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from launcher.catalog.gpus import GpuRow
from launcher.cluster.schema import Cluster
from launcher.errors import LauncherError, RecipeError, RecipeErrors
from launcher.plan import checks, figures, merging, parts
from launcher.plan.advise import Advice, advise
from launcher.plan.batch import batch
from launcher.plan.choices import choose
from launcher.plan.estimate import estimate
from launcher.plan.facts import Facts, sources
from launcher.plan.foresee import foresee
from launcher.plan.identity import identity
from launcher.plan.jobs import evaluate_job, export_job, jobs
from launcher.plan.method import method_of
from launcher.plan.options import Picked
from launcher.plan.pins import Pins
from launcher.plan.refusals import refusals
from launcher.plan.resolved import resolved_recipe, resolved_training
from launcher.plan.trainer_args import trainer_args
from launcher.plan.types import SCHEMA, Plan
from launcher.plan.world import world
from launcher.recipe.load import LoadedRecipe
from launcher.version import VERSION

Placement = dict[str, str | list[str]]


@dataclass(frozen=True)
class Planned:
    """A plan, and the absolute paths on this machine, which stand in no plan.

    `placement` has the keys `model`, `tokenizer`, `adapter` and `data.LABEL` for what is local. `unresolved` holds
    what only a run needs: data whose `${name}` is not set on this machine. `pins` are the hub's files, by the same keys,
    that the recipe's lock file names.
    """

    plan: Plan
    placement: Placement
    unresolved: tuple[RecipeError, ...] = ()
    pins: Pins = field(default_factory=dict)


def make_plan(loaded: LoadedRecipe, cluster: Cluster, facts: Facts) -> Planned:
    """Decide everything that can be decided before anything runs.

    Args:
        loaded: the recipe.
        cluster: the hardware.
        facts: the model's configuration and what is known of the data.

    Raises:
        RecipeErrors: keys that nothing acts on yet and combinations that cannot train, all at once.
        RecipeError: sizes that do not divide, or more GPUs than there are.
    """
    merge = merging.faults(loaded, method_of(loaded.recipe, facts))
    wrong = [*refusals(loaded), *checks.faults(loaded, cluster, facts), *merge]
    if wrong:
        raise RecipeErrors(wrong)
    unresolved = tuple(_unresolved(loaded, facts))
    figures.forget()
    plan = foresee(loaded, cluster, facts, _plan, again=_again)
    return Planned(plan, _placement(facts), unresolved, facts.pins)


def places(loaded: LoadedRecipe, facts: Facts, rows: Sequence[GpuRow] | None = None) -> Advice:
    """Where in the catalogue of GPUs, or among those rows of it, the recipe fits.

    Raises:
        UsageError: the sizes of the model are not known.
    """
    return advise(loaded, facts, lambda *case: make_plan(*case).plan, _again, rows)


def _again(loaded: LoadedRecipe, cluster: Cluster, facts: Facts) -> Plan | None:
    """The plan of a changed recipe, with its prediction; None where it cannot train."""
    try:
        wrong = [*refusals(loaded), *checks.faults(loaded, cluster, facts)]
        return None if wrong else foresee(loaded, cluster, facts, _plan)
    except LauncherError:
        return None


def _plan(loaded: LoadedRecipe, cluster: Cluster, facts: Facts, picked: Picked) -> Plan:
    """The plan with what was chosen by prediction; it has none itself."""
    recipe, ranks = loaded.recipe, world(loaded, cluster)
    final = parts.final(recipe.data, cluster)
    sizes, sized = batch(loaded, ranks.size, picked.rows)
    method = method_of(recipe, facts)
    formats = tuple(facts.sources[source.label].format for source in recipe.data.datasets)
    choices = choose(recipe, cluster, ranks, method, formats, facts, picked)
    training = resolved_training(recipe.training, choices, sizes)
    data, evaluation = parts.data(recipe.data, choices, facts), parts.evaluation(recipe.evaluation, final)
    checkpoint = parts.checkpoint(recipe.checkpoint)
    expected = estimate(recipe.data, data.mixture, recipe.training, sizes.global_size, facts)
    sharding = parts.sharding(recipe, choices, facts, ranks)
    stages, environment = jobs(cluster, ranks, sharding, recipe.data.num_proc, recipe.launch.time_limit)
    export = merging.export(recipe, method)
    if final != "train":
        stages += (evaluate_job(cluster),)
    if export.merge and export.base:
        stages += (export_job(cluster.cpus_per_node, export.base, after=stages[-1].stage),)
    return Plan(
        schema=SCHEMA,
        launcher_version=VERSION,
        name=recipe.name,
        task=recipe.task,
        method=method,
        device=choices.device.value,
        hardware=parts.hardware(cluster, ranks),
        model=parts.model(recipe.model, choices, facts),
        quantization=parts.quantization(recipe.quantization, choices),
        peft=parts.peft(recipe.peft),
        data=data,
        batch=sizes,
        estimate=expected,
        trainer=trainer_args(
            training,
            device=choices.device.value,
            precision=choices.precision.value,
            batch=sizes,
            data=data,
            checkpoint=checkpoint,
            evaluation=evaluation,
            sharding=sharding,
        ),
        strategy=choices.strategy.value,
        checkpoint=checkpoint,
        evaluation=evaluation,
        tracking=parts.tracking(recipe.tracking),
        jobs=stages,
        decisions=(
            *choices.decided(),
            *parts.new_rows(recipe, facts),
            *sized,
            *environment,
            *parts.final_decided(final, cluster),
            *parts.pinned(facts),
            *merging.decided(recipe, method),
        ),
        warnings=checks.warnings(loaded, cluster, ranks, facts, expected),
        recipe=resolved_recipe(recipe, choices, training, export, facts.pins),
        identity=identity(
            recipe,
            training=training,
            method=method,
            batch_size=sizes.global_size,
            chat_template=facts.chat_template,
            commits={key: pin.commit for key, pin in facts.pins.items()},
        ),
        restart=parts.restart(recipe.launch, recipe.training),
        offload=sharding.offload,
        shard_group=sharding.group,
        export=export,
        hang_limit_s=recipe.launch.hang_limit_s,
    )


def _unresolved(loaded: LoadedRecipe, facts: Facts) -> Iterator[RecipeError]:
    for key, source in sources(loaded.recipe.data):
        name = facts.sources[source.label].undefined
        if name:
            variable = f"LAUNCHER_{name.upper()}"
            hint = f"set {variable} to that folder, or say where the file is: `--set {key}.path=PATH`"
            yield loaded.error(f"`${{{name}}}` is not set here", key=f"{key}.path", hint=hint)


def _placement(facts: Facts) -> Placement:
    placed: Placement = {"model": facts.model.path} if facts.model.path else {}
    placed |= facts.paths
    return placed | {f"data.{label}": list(source.files) for label, source in facts.sources.items() if source.files}
