"""The model's own files against the recipe: what would fail when weights are loaded, or train something else in silence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from launcher.errors import RecipeError
from launcher.plan.facts import Facts
from launcher.plan.layers import Layers, adapter_differences
from launcher.plan.model_facts import ModelFacts
from launcher.plan.model_files import read_adapter
from launcher.plan.template import template_fault
from launcher.recipe.load import LoadedRecipe
from launcher.recipe.model import Model
from launcher.text import quote

_ELSEWHERE = ("gguf_file", "subfolder", "variant")
"""Arguments of `from_pretrained` with which the weights are other files than those that were looked at."""
_NAME = "model.model_name_or_path"
_ADAPTER = "model.adapter_name_or_path"


def faults(loaded: LoadedRecipe, facts: Facts) -> Iterator[RecipeError]:
    """What cannot be loaded or would not train what the recipe says."""
    yield from _continues_no_text(loaded, facts.model)
    yield from _files(loaded, facts.model)
    yield from _internal_keys(loaded, facts.model)
    yield from _adapter(loaded, facts)
    yield from _context(loaded, facts.model)
    yield from _template(loaded, facts)


def warnings(loaded: LoadedRecipe, facts: Facts) -> Iterator[str]:
    """What loads, but perhaps not as meant."""
    yield from _long_rows(loaded, facts.model)
    yield from _own_code(loaded, facts.model)
    yield from _other_base(loaded, facts)


def _continues_no_text(loaded: LoadedRecipe, model: ModelFacts) -> Iterator[RecipeError]:
    """Encoders, alone or before a decoder: there is no head for them that supervised fine-tuning could train."""
    if model.sizes is not None and not model.sizes.causal and not model.config.get("is_decoder"):
        key = _NAME if loaded.recipe.model.from_config is None else "model.from_config"
        message = f"a model of type `{model.architecture}` does not continue a text"
        yield loaded.error(message, key=key, hint="name a causal language model, as Qwen/Qwen3-0.6B is one")


def _files(loaded: LoadedRecipe, model: ModelFacts) -> Iterator[RecipeError]:
    if model.weights is None or any(name in loaded.recipe.model.model_init_kwargs for name in _ELSEWHERE):
        return
    for fault in model.weights.faults:
        yield loaded.error(fault.message, key=_NAME, hint=fault.hint)
    sizes = model.sizes
    if model.weights.faults or model.quantized or sizes is None or sizes.renamed or not Layers(model.tensors).plain:
        return
    asked = {name: shape for name, shape in sizes.tensors.items() if name != "lm_head.weight"}
    missing = [name for name in asked if name not in model.tensors]
    other = [name for name, shape in asked.items() if model.tensors.get(name, shape) != shape]
    where = model.path or loaded.recipe.model.model_name_or_path
    hint = "config.json and weights do not belong together: copy the folder again"
    if missing:
        message = f"{where} lacks {len(missing)} of the weights its config.json asks for, first `{missing[0]}`"
        yield loaded.error(message, key=_NAME, hint=hint)
    if other:
        name = other[0]
        message = f"{where}: `{name}` is {_by(model.tensors[name])}, by its config.json {_by(asked[name])}"
        yield loaded.error(message, key=_NAME, hint=hint)


def _internal_keys(loaded: LoadedRecipe, model: ModelFacts) -> Iterator[RecipeError]:
    """Keys that transformers keeps for itself; from a file, one of them loaded foreign code (CVE-2026-4372)."""
    built = loaded.recipe.model.from_config is not None
    places = {
        "model.from_config" if built else _NAME: model.config,
        "model.model_init_kwargs": loaded.recipe.model.model_init_kwargs,
    }
    for key, config in places.items():
        whose = "its config.json sets " if key == _NAME else ""
        for name in _internal(config):
            message = f"{whose}`{name}`, a key that can load foreign code"
            yield loaded.error(message, key=key, hint="no saved model has it: remove it, or use another copy")


def _internal(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield from (str(name) for name in value if str(name).startswith("_") and str(name).endswith("_internal"))
        for inner in value.values():
            yield from _internal(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _internal(inner)


def _adapter(loaded: LoadedRecipe, facts: Facts) -> Iterator[RecipeError]:
    folder = facts.paths.get("adapter")
    if folder is None:
        return
    adapter = read_adapter(Path(folder))
    for fault in adapter.weights.faults:
        yield loaded.error(fault.message, key=_ADAPTER, hint=fault.hint)
    if adapter.weights.faults or adapter.config.get("peft_type", "LORA") != "LORA":
        return
    layers = Layers({} if facts.model.quantized else facts.model.tensors)
    differences = adapter_differences(adapter, layers)
    if differences:
        more = f" (and {len(differences) - 1} more)" if len(differences) > 1 else ""
        base = adapter.config.get("base_model_name_or_path")
        hint = f"it was made for {quote(str(base))}" if base else "name the model it was made for"
        yield loaded.error(f"{folder}: {differences[0]}{more}", key=_ADAPTER, hint=hint)


def _other_base(loaded: LoadedRecipe, facts: Facts) -> Iterator[str]:
    folder, model = facts.paths.get("adapter"), loaded.recipe.model.model_name_or_path
    if folder is None or model is None:
        return
    base = read_adapter(Path(folder)).config.get("base_model_name_or_path")
    if isinstance(base, str) and base and _last(base) != _last(model):
        yield f"{_ADAPTER}: the adapter was made for {quote(base)}, the model is {quote(model)}"


def _last(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2].lower()


def _context(loaded: LoadedRecipe, model: ModelFacts) -> Iterator[RecipeError]:
    """Positions past the model's longest are noise to it, or no rows of its position table."""
    context, length = _longest(loaded.recipe.model, model), loaded.recipe.data.max_length
    written = loaded.place("data.max_length") is not None
    if context is None or length <= context or not written or _stretched(loaded.recipe.model, model):
        return
    yield loaded.error(
        f"{length}, the model was made for {context} tokens", key="data.max_length", hint=f"write at most {context}"
    )


def _long_rows(loaded: LoadedRecipe, model: ModelFacts) -> Iterator[str]:
    context, length = _longest(loaded.recipe.model, model), loaded.recipe.data.max_length
    if context is None or length <= context:
        return
    factor = _stretched(loaded.recipe.model, model)
    if factor:
        yield f"data.max_length is {length}, the model was made for {context} tokens (rope scaling by {factor:g})"
    elif loaded.place("data.max_length") is None:
        yield f"data.max_length is {length}, the model was made for {context} tokens: write at most {context}"


def _longest(recipe: Model, model: ModelFacts) -> int | None:
    written = recipe.model_init_kwargs.get("max_position_embeddings")
    return written if isinstance(written, int) else model.context_length


def _stretched(recipe: Model, model: ModelFacts) -> float | None:
    """Factor of rope scaling, from `model_init_kwargs` or the configuration."""
    for config in (recipe.model_init_kwargs, model.config):
        for name in ("rope_parameters", "rope_scaling"):
            found = config.get(name)
            inner = list(found.values()) if isinstance(found, Mapping) else []
            for each in (found, *inner):
                factor = each.get("factor") if isinstance(each, Mapping) else None
                if isinstance(factor, int | float) and factor > 1:
                    return float(factor)
    return None


def _own_code(loaded: LoadedRecipe, model: ModelFacts) -> Iterator[str]:
    """Such a model is refused only when transformers does not know its type, which a plan cannot ask."""
    known = model.sizes is not None and model.sizes.exact
    if model.config.get("auto_map") and not known and not loaded.recipe.model.trust_remote_code:
        kind = quote(str(model.architecture))
        yield (
            f"its config.json names Python code of its own (auto_map): unless transformers knows the type {kind}, it "
            "needs model.trust_remote_code: true, once you have read that code"
        )


def _template(loaded: LoadedRecipe, facts: Facts) -> Iterator[RecipeError]:
    if facts.chat_template is None:
        return
    fault = template_fault(facts.chat_template)
    if fault:
        line, message = fault
        name = loaded.recipe.model.chat_template_path
        yield loaded.error(
            f"{name}:{line}: {message}", key="model.chat_template_path", hint=f"correct line {line} of that file"
        )


def _by(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))
