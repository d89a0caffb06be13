"""Sections of the plan from sections of the recipe: the same facts, with nothing left open."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from launcher.cluster.schema import Cluster
from launcher.plan.choices import Choices
from launcher.plan.facts import Facts
from launcher.plan.sharding import Sharding
from launcher.plan.types import (
    CheckpointPlan,
    DataPlan,
    Decision,
    EvaluationPlan,
    Final,
    GeneratePlan,
    MixturePlan,
    ModelPlan,
    RestartPlan,
    SourcePlan,
    TrackingPlan,
)
from launcher.plan.world import World
from launcher.recipe.data import Data, EvalSource, TrainSource
from launcher.recipe.evaluation import Evaluation
from launcher.recipe.model import Model
from launcher.recipe.peft import Peft
from launcher.recipe.quantization import Quantization
from launcher.recipe.run import Checkpoint, Launch, Tracking
from launcher.recipe.schema import Recipe
from launcher.recipe.training import Training
from launcher.text import counted

_DEFAULT_PROJECT = "launcher"
_COPIED = 8
"""Bytes per number of the embedding that training single rows of it takes: two copies by peft, and a gradient in TRL's
head. Measured with torch's profiler on a CPU, tied and untied, in float32 and bfloat16."""
_WORTH_TELLING_GIB = 0.05


def hardware(cluster: Cluster, ranks: World) -> str:
    """The hardware in words: `1 × RTX 4090 (24.0 GiB)`."""
    nodes = f"{ranks.nodes} nodes × " if ranks.nodes > 1 else ""
    if cluster.gpu is None:
        cores = f"{cluster.cpus_per_node} cores, {cluster.memory_gib:.0f} GiB"
        return f"{nodes}CPU ({cores})" + (", WSL2" if cluster.wsl else "")
    name = f"{nodes}{ranks.per_node} × {cluster.gpu.name} ({cluster.gpu.memory_gib:.1f} GiB)"
    return name + (", WSL2" if cluster.wsl else "")


def model(recipe: Model, choices: Choices, facts: Facts) -> ModelPlan:
    """How model and tokenizer are loaded."""
    return ModelPlan(
        name=recipe.model_name_or_path,
        revision=commit(facts, "model") or recipe.revision,
        tokenizer=recipe.tokenizer_name_or_path,
        adapter=recipe.adapter_name_or_path,
        dtype=choices.dtype.value,
        attn_implementation=choices.attention.value,
        trust_remote_code=recipe.trust_remote_code,
        chat_template=facts.chat_template,
        add_tokens=recipe.add_tokens,
        from_config=recipe.from_config,
        init_kwargs=recipe.model_init_kwargs,
        architecture=facts.model.architecture,
        parameters=facts.model.parameters,
        context_length=facts.model.context_length,
        vocabulary=facts.model.config.get("vocab_size"),
        tokenizer_revision=commit(facts, "tokenizer"),
        adapter_revision=commit(facts, "adapter"),
    )


def commit(facts: Facts, key: str) -> str | None:
    """The commit that the lock file says for a repository of the hub."""
    return facts.pins[key].commit if key in facts.pins else None


def pinned(facts: Facts) -> Iterator[Decision]:
    """One decision for each repository of the hub whose commit stands in the lock file."""
    for repo, revision, commit in dict.fromkeys((pin.repo, pin.revision, pin.commit) for pin in facts.pins.values()):
        yield Decision("revision", commit[:12], f"`{revision}` of {repo} when it was fetched, by the lock file")


def quantization(recipe: Quantization | None, choices: Choices) -> dict[str, Any] | None:
    """Arguments of BitsAndBytesConfig; 4-bit weights are expanded to the type of the matrix products."""
    if recipe is None:
        return None
    if recipe.load_in_8bit:
        return {"load_in_8bit": True}
    values = recipe.model_dump(mode="json", exclude={"load_in_8bit"})
    if values["bnb_4bit_compute_dtype"] == "auto":
        values["bnb_4bit_compute_dtype"] = choices.precision.value
    if values["bnb_4bit_quant_storage"] == "auto":
        values["bnb_4bit_quant_storage"] = quant_storage(choices)
    return values


def quant_storage(choices: Choices) -> str:
    """Type of the tensors that hold 4-bit codes: one with the other weights where a strategy puts them into one unit."""
    return str(choices.dtype.value) if choices.strategy.value in ("fsdp2", "zero3") else "uint8"


def sharding(recipe: Recipe, choices: Choices, facts: Facts, ranks: World) -> Sharding:
    """How model, gradients and optimizer are spread over the ranks."""
    starts = recipe.peft.init_lora_weights if recipe.peft else True
    quantized = recipe.quantization is not None or facts.model.quantized is not None
    return Sharding(
        facts.preset,
        offload=choices.offload.value,
        group=recipe.sharding.dp_shard_size,
        world_size=ranks.size,
        device=choices.device.value,
        checkpointing=bool(choices.checkpointing.value),
        # Ranks that read nothing hold nothing from which codes, new rows or the start of an adapter could be computed.
        loads_once=not quantized and not recipe.model.add_tokens and starts in (True, False, "gaussian"),
    )


def peft(recipe: Peft | None) -> dict[str, Any] | None:
    """Arguments of LoraConfig; empty lists and mappings are left out, because peft tells them from absent ones."""
    if recipe is None:
        return None
    values = recipe.model_dump(mode="json")
    return {key: value for key, value in values.items() if value not in ([], {})} | {"task_type": "CAUSAL_LM"}


def new_rows(recipe: Recipe, facts: Facts) -> tuple[Decision, ...]:
    """How the rows of added tokens are trained beside an adapter, and what that costs."""
    tokens = recipe.model.add_tokens
    if not tokens or recipe.peft is None or "embed_tokens" in recipe.peft.modules_to_save:
        return ()
    rows, width = facts.model.vocabulary, facts.model.config.get("hidden_size")
    gib = rows * width * _COPIED / 2**30 if rows and width else 0.0
    cost = f"; training them takes about {gib:.1f} GiB" if gib >= _WORTH_TELLING_GIB else ""
    reason = f"they would stay as random as they start; they are saved with the adapter{cost}"
    return (Decision("peft.trainable_token_indices", f"rows of {counted(len(tokens), 'added token')}", reason),)


def data(recipe: Data, choices: Choices, facts: Facts) -> DataPlan:
    """What `prepare` does."""
    return DataPlan(
        sources=tuple(_source(source, facts) for source in recipe.datasets),
        eval_sources=tuple(_source(source, facts) for source in recipe.eval_datasets),
        max_length=recipe.max_length,
        packing=recipe.packing,
        packing_strategy=recipe.packing_strategy,
        loss_on=choices.loss_on.value,
        on_bad_row=recipe.on_bad_row,
        max_bad_fraction=recipe.max_bad_fraction,
        mixture=MixturePlan(
            recipe.mixture.unit,
            recipe.mixture.temperature,
            recipe.mixture.stopping_strategy,
            recipe.mixture.seed,
        ),
        max_cut_fraction=recipe.max_cut_fraction,
        deduplicate=recipe.deduplicate,
        decontaminate=recipe.decontaminate,
        template_kwargs=recipe.template_kwargs,
    )


def checkpoint(recipe: Checkpoint) -> CheckpointPlan:
    """When the run is saved."""
    return CheckpointPlan(recipe.save_steps, recipe.save_total_limit, recipe.keep_best, recipe.keep_every)


def evaluation(recipe: Evaluation, final: Final) -> EvaluationPlan:
    """When, how and by whom the model is measured."""
    generate = tuple(
        GeneratePlan(each.dataset, each.metrics, each.max_new_tokens, each.max_rows, each.batch_size)
        for each in recipe.generate
    )
    return EvaluationPlan(recipe.eval_steps, recipe.per_device_eval_batch_size, generate, recipe.generate_steps, final)


def final(recipe: Data, cluster: Cluster) -> Final:
    """Who measures the result: the ranks that trained, unless a cluster's profile has it otherwise."""
    return cluster.site.profile.stages.evaluate if cluster.site and recipe.eval_datasets else "train"


def final_decided(final: Final, cluster: Cluster) -> tuple[Decision, ...]:
    """The same with its reason, where a profile has said so."""
    if final == "train" or cluster.site is None:
        return ()
    who = {
        "job": "in a job of its own, on one node",
        "auto": "by the ranks where the time allows, else in a job of its own",
    }
    return (Decision("stages.evaluate", final, f"`{cluster.site.name}` has the result measured {who[final]}"),)


def restart(recipe: Launch, training: Training) -> RestartPlan:
    """When the run starts again by itself, and whether it is tried first."""
    return RestartPlan(recipe.max_requeues, training.on_oom, "first" if recipe.probe else "none")


def tracking(recipe: Tracking) -> TrackingPlan:
    """Trackers to report to."""
    return TrackingPlan(recipe.report_to, recipe.project or _DEFAULT_PROJECT, recipe.entity, recipe.tags)


def _source(source: TrainSource | EvalSource, facts: Facts) -> SourcePlan:
    known = facts.sources.get(source.label)
    held_out = source if isinstance(source, EvalSource) else None
    trained = source if isinstance(source, TrainSource) else None
    return SourcePlan(
        label=source.label,
        path=source.path,
        name=source.name,
        split=source.split,
        data_files=(source.data_files,) if isinstance(source.data_files, str) else source.data_files,
        revision=commit(facts, f"data.{source.label}") or source.revision,
        format=source.format or (known.format if known else None),
        columns=source.columns,
        max_rows=source.max_rows,
        min_tokens=source.min_tokens,
        max_tokens=source.max_tokens,
        weight=trained.weight if trained else None,
        max_epochs=trained.max_epochs if trained else 1.0,
        group_by=held_out.group_by if held_out else None,
        held_out_from=held_out.from_ if held_out else None,
        fraction=held_out.fraction if held_out else None,
        hub_files=facts.pins[f"data.{source.label}"].splits if f"data.{source.label}" in facts.pins else {},
    )
