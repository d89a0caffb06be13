"""The adapter against its base: what peft or TRL would refuse, and what would train or be saved other than the recipe says."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from launcher.cluster.schema import Cluster
from launcher.errors import RecipeError
from launcher.plan import checks_layers
from launcher.plan.choices import fast_type
from launcher.plan.facts import Facts
from launcher.plan.layers import Layers
from launcher.plan.method import method_of
from launcher.plan.model_facts import ModelFacts
from launcher.plan.model_files import read_adapter
from launcher.recipe.load import LoadedRecipe
from launcher.recipe.peft import Peft
from launcher.text import quote

_START = "peft.init_lora_weights"
_ENDS = ("embed_tokens", "lm_head")


def faults(loaded: LoadedRecipe, cluster: Cluster, facts: Facts) -> Iterator[RecipeError]:
    """What cannot be trained on this base."""
    peft, layers = loaded.recipe.peft, Layers(facts.model.tensors)
    if peft is not None and layers.known:
        yield from checks_layers.faults(loaded, peft, layers)
    if peft is not None:
        yield from _start(loaded, peft, layers)
        yield from _new_rows(loaded, peft, facts.model)
        yield from _experts(loaded, peft, facts.model)
    method = method_of(loaded.recipe, facts)
    if method in ("qlora", "int8"):
        yield from _quantized_start(loaded, facts)
        yield from _quantized_layers(loaded, layers)
        yield from _whole_layers(loaded, cluster)
    if method == "int8" and cluster.gpu is None:
        yield from _dora(loaded, facts)


def warnings(loaded: LoadedRecipe, cluster: Cluster, facts: Facts) -> Iterator[str]:
    """What trains, but perhaps not as meant."""
    peft, layers = loaded.recipe.peft, Layers(facts.model.tensors)
    if peft is None:
        return
    yield from checks_layers.warnings(peft, layers)
    if peft.modules_to_save and (_type(loaded, cluster) == "bfloat16" or method_of(loaded.recipe, facts) != "lora"):
        yield (
            f"peft.modules_to_save {', '.join(peft.modules_to_save)}: trained in bfloat16 like the base, "
            "so a step that changes a weight by less than 1/256 of it is lost"
        )


def _type(loaded: LoadedRecipe, cluster: Cluster) -> str:
    """Type of the weights that are not quantized."""
    written = loaded.recipe.model.dtype
    return fast_type(cluster) if written == "auto" else written


def _settings(loaded: LoadedRecipe, facts: Facts) -> tuple[str, Mapping[str, Any]]:
    """Where the adapter's settings stand, and what they are: the recipe's, or those of an adapter on this machine."""
    if loaded.recipe.peft is not None:
        return "peft", loaded.recipe.peft.model_dump()
    folder = facts.paths.get("adapter")
    return "model.adapter_name_or_path", read_adapter(Path(folder)).config if folder else {}


def _start(loaded: LoadedRecipe, peft: Peft, layers: Layers) -> Iterator[RecipeError]:
    """Starts that peft computes from a layer's weights, or for linear layers alone."""
    start = str(peft.init_lora_weights)
    names = peft.target_modules if isinstance(peft.target_modules, tuple) else ()
    if "embed_tokens" in names and not isinstance(peft.init_lora_weights, bool) and start != "gaussian":
        hint = "write `init_lora_weights: true`, or take `embed_tokens` out of `target_modules`"
        yield loaded.error(f"`{start}` is for linear layers, `embed_tokens` is none", key=_START, hint=hint)
    if not re.match("pissa|olora|mica", start) or not layers.plain:
        return
    sizes = [min(layers.weights[name]) for name in checks_layers.adapted(peft, layers) if name in layers.weights]
    rank = max([peft.r, *peft.rank_pattern.values()])
    if sizes and rank > min(sizes):
        message = f"{rank}, but `{start}` takes it from the weights, and the narrowest layer has {min(sizes)}"
        yield loaded.error(message, key="peft.r", hint=f"write at most {min(sizes)}, or `init_lora_weights: true`")


def _new_rows(loaded: LoadedRecipe, peft: Peft, model: ModelFacts) -> Iterator[RecipeError]:
    """Added tokens, whose rows are trained in the input embedding and in the output head."""
    if not loaded.recipe.model.add_tokens:
        return
    whole = [name for name in _ENDS if name in peft.modules_to_save]
    if len(whole) == 1:
        hint = f"write `modules_to_save: [{', '.join(_ENDS)}]`, or leave both out: the new rows are trained either way"
        message = f"names `{whole[0]}` alone, and added tokens need rows in `{'` and `'.join(_ENDS)}`"
        yield loaded.error(message, key="peft.modules_to_save", hint=hint)
    targets = peft.target_modules
    if not isinstance(targets, str) and "embed_tokens" in targets and not whole:
        hint = "take `embed_tokens` out of `target_modules`: the rows of added tokens are trained without it"
        yield loaded.error("an adapter on `embed_tokens`, and added tokens", key="peft.target_modules", hint=hint)
    if "lm_head.bias" in model.tensors and not whole:
        hint = f"write `modules_to_save: [{', '.join(_ENDS)}]`"
        message = "the output head has a bias, which peft leaves out when it trains single rows"
        yield loaded.error(message, key="model.add_tokens", hint=hint)


def _experts(loaded: LoadedRecipe, peft: Peft, model: ModelFacts) -> Iterator[RecipeError]:
    """Experts that lie in one tensor: `all-linear` adapts them, peft's wrapper of a tensor has neither of these."""
    if peft.target_modules != "all-linear" or model.sizes is None or not model.sizes.expert_tensors:
        return
    for key, value in (("lora_dropout", peft.lora_dropout), ("use_dora", peft.use_dora)):
        if value:
            hint = f"leave `{key}` out, or adapt attention alone: `target_modules: [q_proj, k_proj, v_proj, o_proj]`"
            message = "`all-linear` adapts the experts too, whose tensors peft adapts without it"
            yield loaded.error(message, key=f"peft.{key}", hint=hint)


def _quantized_start(loaded: LoadedRecipe, facts: Facts) -> Iterator[RecipeError]:
    """Starts that read or change the base's weights: of quantized ones, peft sees the codes."""
    place, settings = _settings(loaded, facts)
    start = settings.get("init_lora_weights", True)
    if not isinstance(start, str) or not re.match("pissa|olora|mica|orthogonal|corda|loftq", start):
        return
    why = (
        "would change the base, and the base it leaves cannot be loaded again"
        if re.match("pissa|olora|corda|loftq", start)
        else "is made from the base's weights, which are quantized codes here"
    )
    hint = "remove `quantization`" if loaded.recipe.quantization else "name the model that was quantized"
    if place == "peft":
        hint = f"write `init_lora_weights: true` or `gaussian`, or {hint}"
    yield loaded.error(f"`{start}` {why}", key=_START if place == "peft" else place, hint=hint)


def _quantized_layers(loaded: LoadedRecipe, layers: Layers) -> Iterator[RecipeError]:
    """Layers to train whole that are quantized, or hold some that are."""
    for number, name in enumerate(loaded.recipe.peft.modules_to_save if loaded.recipe.peft else ()):
        inside = re.compile(rf"(.*\.)?{re.escape(name)}(\..*)?")
        quantized = [each for each in layers.weights if re.search(r"\.\d+\.", each) and inside.fullmatch(each)]
        if quantized:
            also = "" if quantized[0].endswith(name) else f" (`{quantized[0]}`)"
            hint = "adapt it: `target_modules` names it, or is `all-linear`; norms, `embed_tokens` and `lm_head` can be trained whole"
            message = f"{quote(name)} is quantized{also}, and quantized weights cannot be trained"
            yield loaded.error(message, key=f"peft.modules_to_save.{number}", hint=hint)


def _whole_layers(loaded: LoadedRecipe, cluster: Cluster) -> Iterator[RecipeError]:
    """TRL makes what is trained on a quantized base bfloat16; a head beside weights of another type cannot be multiplied."""
    peft, kind = loaded.recipe.peft, _type(loaded, cluster)
    if peft is None or kind == "bfloat16":
        return
    hint = "write `model.dtype: bfloat16`"
    if "lm_head" in peft.modules_to_save:
        number = peft.modules_to_save.index("lm_head")
        message = f"on a quantized base it is trained in bfloat16, and the base computes in {kind}"
        yield loaded.error(message, key=f"peft.modules_to_save.{number}", hint=hint)
    if peft.bias != "none":
        message = (
            f"`{peft.bias}` starts in bfloat16 on a quantized base and goes on in {kind}: no resumed run would equal it"
        )
        yield loaded.error(message, key="peft.bias", hint=f"write `bias: none`, or {hint.removeprefix('write ')}")


def _dora(loaded: LoadedRecipe, facts: Facts) -> Iterator[RecipeError]:
    """DoRA: peft reads an 8-bit layer's weights at each step, and on a CPU puts them back without their scales."""
    place, settings = _settings(loaded, facts)
    if settings.get("use_dora"):
        key = "peft.use_dora" if place == "peft" else place
        message = "DoRA on an int8 base fails on a CPU: peft loses the scales of its weights"
        yield loaded.error(message, key=key, hint="write `quantization: {load_in_4bit: true}`")
