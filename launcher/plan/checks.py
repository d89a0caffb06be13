"""Combinations that would fail late, or not mean what they say."""

from __future__ import annotations

from collections.abc import Iterator

from launcher.cluster.schema import Cluster
from launcher.errors import RecipeError
from launcher.plan import checks_adapter, checks_attention, checks_model, checks_settings, checks_sharding, checks_site
from launcher.plan.facts import Facts
from launcher.plan.jobs import seconds
from launcher.plan.types import Estimate
from launcher.plan.world import World
from launcher.recipe.load import LoadedRecipe
from launcher.text import quote

_PLAN_OWNED_INIT = {
    "attn_implementation": "model.attn_implementation",
    "config": "model.from_config",
    "device_map": "the plan: one rank, one device",
    "dtype": "model.dtype",
    "load_in_4bit": "quantization.load_in_4bit",
    "load_in_8bit": "quantization.load_in_8bit",
    "quantization_config": "quantization",
    "revision": "model.revision",
    "token": "the environment: HF_TOKEN",
    "torch_dtype": "model.dtype",
    "trust_remote_code": "model.trust_remote_code",
    "use_cache": "the trainer: off while training",
}
_LEAST_TIME_S = 60
_SHORT_TIME_S = 120


def faults(loaded: LoadedRecipe, cluster: Cluster, facts: Facts) -> list[RecipeError]:
    """Every combination of recipe, hardware and model that cannot train."""
    return [
        *_init(loaded),
        *_adapter(loaded),
        *_head(loaded),
        *_numbers(loaded, cluster),
        *_stored(loaded, facts),
        *_cadence(loaded),
        *_time(loaded),
        *checks_attention.faults(loaded, cluster, facts),
        *checks_settings.faults(loaded, cluster, facts),
        *checks_model.faults(loaded, facts),
        *checks_sharding.faults(loaded, cluster, facts),
        *checks_adapter.faults(loaded, cluster, facts),
        *checks_site.faults(loaded, cluster),
    ]


def warnings(loaded: LoadedRecipe, cluster: Cluster, ranks: World, facts: Facts, estimate: Estimate) -> tuple[str, ...]:
    """What trains, but perhaps not as meant."""
    found = [
        *cluster.notes,
        *_undefined(facts),
        *_notes(facts),
        *checks_model.warnings(loaded, facts),
        *checks_adapter.warnings(loaded, cluster, facts),
        *_slow(loaded, cluster),
        *checks_attention.warnings(loaded),
        *checks_settings.warnings(loaded, cluster),
        *checks_site.warnings(loaded, cluster),
        *_short(loaded),
    ]
    return (*found, *_ranks(loaded, cluster, ranks), *_rare(loaded, estimate))


def _init(loaded: LoadedRecipe) -> Iterator[RecipeError]:
    for name, value in loaded.recipe.model.model_init_kwargs.items():
        if name in _PLAN_OWNED_INIT:
            key = f"model.model_init_kwargs.{name}"
            yield loaded.error(
                f"{quote(str(value))} is not passed through", key=key, hint=f"it belongs to {_PLAN_OWNED_INIT[name]}"
            )


def _adapter(loaded: LoadedRecipe) -> Iterator[RecipeError]:
    if loaded.recipe.model.adapter_name_or_path is not None and loaded.recipe.peft is not None:
        hint = "remove `peft`, or remove `model.adapter_name_or_path` to start a new adapter"
        yield loaded.error("an existing adapter brings its own settings", key="peft", hint=hint)


def _time(loaded: LoadedRecipe) -> Iterator[RecipeError]:
    """A run leaves half a minute before the limit, and needs some of what is before that to start."""
    limit = loaded.recipe.launch.time_limit
    if limit is not None and seconds(limit) < _LEAST_TIME_S:
        fault = f"{quote(limit)} is over before a step is made and saved"
        yield loaded.error(fault, key="launch.time_limit", hint='write `time_limit: "00:02:00"`, or more')


def _short(loaded: LoadedRecipe) -> Iterator[str]:
    limit = loaded.recipe.launch.time_limit
    if limit is not None and _LEAST_TIME_S <= seconds(limit) < _SHORT_TIME_S:
        yield f"launch.time_limit {limit}: half a minute is kept for leaving, so a start that takes long leaves no time to train"


def _full(loaded: LoadedRecipe) -> bool:
    return loaded.recipe.peft is None and loaded.recipe.model.adapter_name_or_path is None


def _head(loaded: LoadedRecipe) -> Iterator[RecipeError]:
    """TRL's loss reads the output head's weights directly and refuses an adapter there."""
    targets = loaded.recipe.peft.target_modules if loaded.recipe.peft else ()
    if targets == "lm_head" or (not isinstance(targets, str) and "lm_head" in targets):
        hint = "leave it out, or train it whole: `modules_to_save: [lm_head]`"
        yield loaded.error("the output head takes no adapter", key="peft.target_modules", hint=hint)


def _numbers(loaded: LoadedRecipe, cluster: Cluster) -> Iterator[RecipeError]:
    model, on_gpu = loaded.recipe.model, cluster.gpu is not None
    if model.dtype == "float16" and not on_gpu:
        hint = "write `dtype: auto` (float32 there)"
        yield loaded.error(
            "float16 is not trained on a CPU: torch has no scaled loss there", key="model.dtype", hint=hint
        )
    if model.dtype == "float16" and on_gpu and _full(loaded):
        hint = "write `dtype: auto`: float32 weights, 16-bit matrix products"
        yield loaded.error("float16 weights cannot be trained: their gradients overflow", key="model.dtype", hint=hint)


def _stored(loaded: LoadedRecipe, facts: Facts) -> Iterator[RecipeError]:
    stored, key = facts.model.quantized, "model.model_name_or_path"
    if stored is None:
        return
    if stored != "bitsandbytes":
        yield loaded.error(f"its weights are stored as `{stored}`", key=key, hint="name the model it was made from")
    elif _full(loaded):
        yield loaded.error("its weights are stored in 4 or 8 bits and stay frozen", key=key, hint="add `peft: {r: 16}`")


def _cadence(loaded: LoadedRecipe) -> Iterator[RecipeError]:
    """Intervals longer than the training, where the recipe itself names both."""
    recipe, last = loaded.recipe, loaded.recipe.training.max_steps
    intervals = {
        "checkpoint.save_steps": recipe.checkpoint.save_steps,
        "evaluation.eval_steps": recipe.evaluation.eval_steps,
        "evaluation.generate_steps": recipe.evaluation.generate_steps,
    }
    for key, every in intervals.items():
        if last > 0 and every is not None and every > last and loaded.place(key) is not None:
            hint = f"write at most {last}, or leave `{key.partition('.')[2]}` out"
            yield loaded.error(
                f"{every} steps, but training ends after {last} (training.max_steps)", key=key, hint=hint
            )


def _notes(facts: Facts) -> Iterator[str]:
    for source in facts.sources.values():
        yield from source.notes


def _undefined(facts: Facts) -> Iterator[str]:
    for label, source in facts.sources.items():
        if source.undefined:
            variable = f"LAUNCHER_{source.undefined.upper()}"
            yield f"data `{label}`: `${{{source.undefined}}}` is not set here (set {variable}); `launcher run` needs it"


def _slow(loaded: LoadedRecipe, cluster: Cluster) -> Iterator[str]:
    model = loaded.recipe.model
    if cluster.gpu is None and model.dtype == "bfloat16":
        yield "model.dtype bfloat16 on a CPU without its instructions is tens of times slower than float32"
    if cluster.gpu is not None and model.dtype == "bfloat16" and not cluster.gpu.bf16:
        yield f"model.dtype bfloat16: {cluster.gpu.name} has no bfloat16 units and emulates them slowly"


def _ranks(loaded: LoadedRecipe, cluster: Cluster, ranks: World) -> Iterator[str]:
    processes = loaded.recipe.launch.processes
    if cluster.gpu is not None and processes is not None:
        yield f"launch.processes {processes} is for machines without GPUs; here each GPU has one rank"
    if cluster.gpu is not None and ranks.per_node < cluster.gpus_per_node:
        yield f"{cluster.gpus_per_node - ranks.per_node} of {cluster.gpus_per_node} GPUs stay idle (launch.gpus)"
    if cluster.gpu is not None and not cluster.gpu.bf16 and loaded.recipe.quantization is not None:
        yield f"a quantized base has not been tried on a GPU without bfloat16 such as {cluster.gpu.name}"


def _rare(loaded: LoadedRecipe, estimate: Estimate) -> Iterator[str]:
    every, steps = loaded.recipe.checkpoint.save_steps, estimate.steps
    if steps is not None and every >= steps:
        about = "" if loaded.recipe.training.max_steps > 0 else "about "
        yield f"no checkpoint before the end: save_steps is {every}, {about}{steps} steps in all; a kill restarts from 0"
