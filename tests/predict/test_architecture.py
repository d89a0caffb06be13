"""Names and shapes of every parameter against transformers' own models, built without memory on the meta device."""

import json
from math import prod

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM
from transformers.pytorch_utils import Conv1D

from launcher.catalog.models import known_models
from launcher.plan.model_files import read_header
from launcher.predict.architecture import architecture

SMALL = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
PLAIN = {name: size for name, size in SMALL.items() if name != "num_key_value_heads"}
GPT2 = {"vocab_size": 96, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 32}
T5 = {"vocab_size": 96, "d_model": 64, "d_kv": 24, "d_ff": 160, "num_layers": 2, "num_heads": 4}

CASES = {
    "llama": SMALL,
    "llama, keys left out": {"vocab_size": 96, "num_hidden_layers": 1},
    "llama, key heads null": {**SMALL, "num_key_value_heads": None, "head_dim": None},
    "llama, wide heads, biases, tied": {
        **SMALL,
        "head_dim": 32,
        "attention_bias": True,
        "mlp_bias": True,
        "tie_word_embeddings": True,
    },
    "mistral": PLAIN | {"num_attention_heads": 8},
    "mistral, keys given": {**SMALL, "head_dim": 24, "sliding_window": None},
    "qwen2": {**SMALL, "tie_word_embeddings": True},
    "qwen3": SMALL,
    "qwen3, biases": {**SMALL, "attention_bias": True, "head_dim": 8},
    "gemma": {**SMALL, "head_dim": 24},
    "gemma2": {**SMALL, "head_dim": 24, "attention_bias": True},
    "gemma2, untied": {**SMALL, "tie_word_embeddings": False},
    "gemma3_text": SMALL,
    "phi3": SMALL,
    "phi3, tied": {**PLAIN, "tie_word_embeddings": True},
    "smollm3": {**SMALL, "attention_bias": True, "mlp_bias": True},
    "olmo2": {**SMALL, "attention_bias": True},
    "granite": {**SMALL, "mlp_bias": True},
    "gpt2": GPT2,
    "gpt2, other names, untied": {
        **PLAIN,
        "n_inner": 96,
        "max_position_embeddings": 48,
        "tie_word_embeddings": False,
    },
    "qwen3_moe": {**SMALL, "num_experts": 8, "moe_intermediate_size": 40},
    "qwen3_moe, some dense": {**SMALL, "num_local_experts": 8, "decoder_sparse_step": 2, "mlp_only_layers": [1]},
    "mixtral": {**SMALL, "num_local_experts": 4},
    "mixtral, other name": {**SMALL, "num_experts": 6},
    "bert": PLAIN,
    "bert, untied": {**PLAIN, "type_vocab_size": 3, "tie_word_embeddings": False},
    "modernbert": PLAIN,
    "modernbert, biases, untied": {
        **PLAIN,
        "attention_bias": True,
        "mlp_bias": True,
        "decoder_bias": False,
        "tie_word_embeddings": False,
    },
    "t5": T5,
    "t5, gated, unequal": {
        **T5,
        "feed_forward_proj": "gated-gelu",
        "num_decoder_layers": 3,
        "tie_word_embeddings": False,
    },
}
RENAMED = [case for case in CASES if case.startswith(("bert", "gpt2", "mixtral", "qwen3_moe"))]
MODELS = {"bert": AutoModelForMaskedLM, "modernbert": AutoModelForMaskedLM, "t5": AutoModelForSeq2SeqLM}


def configuration(case: str) -> dict:
    return {"model_type": case.partition(",")[0], **CASES[case]}


def theirs(config: dict) -> torch.nn.Module:
    """transformers' model for a `config.json`, without memory."""
    kind = config["model_type"]
    made = AutoConfig.for_model(**{"pad_token_id": None, **json.loads(json.dumps(config))})
    with torch.device("meta"):
        return MODELS.get(kind, AutoModelForCausalLM).from_config(made)


def shapes(model: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("case", CASES)
def test_every_parameter_has_transformers_name_and_shape(case):
    """All types of the table, each with what its configuration can change; a tied head stands there once."""
    model, ours = theirs(configuration(case)), architecture(configuration(case))
    assert ours.tensors == shapes(model)
    assert ours.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert ours.tied == (model.get_output_embeddings().weight is model.get_input_embeddings().weight)
    assert ours.head == tuple(model.get_output_embeddings().weight.shape)


@pytest.mark.parametrize("case", CASES)
def test_linear_layers_are_those_that_quantization_replaces(case):
    """Its rule in transformers is the module's class: `Linear`, and GPT-2's `Conv1D` whose matrix lies the other way."""
    model, ours = theirs(configuration(case)), architecture(configuration(case))
    found = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            found[name] = (module.out_features, module.in_features)
        elif isinstance(module, Conv1D):
            found[name] = (module.nf, module.nx)
    inside = {name: sides for name, sides in found.items() if any(part.isdigit() for part in name.split("."))}
    assert ours.linear == inside
    assert prod(ours.largest_linear) == max(out * in_ for out, in_ in inside.values())


@pytest.mark.parametrize("case", CASES)
def test_embeddings_are_the_modules_of_that_class(case):
    """Tokens first. T5's distances are an embedding within a block, which no rule about embeddings means."""
    model, ours = theirs(configuration(case)), architecture(configuration(case))
    modules = {id(each.weight) for name, each in model.named_modules() if isinstance(each, torch.nn.Embedding)}
    named = {name for name, each in model.named_parameters() if id(each) in modules and "relative" not in name}
    assert set(ours.embeddings) == named
    first = next(iter(ours.embeddings.values()))
    assert first == tuple(model.get_input_embeddings().weight.shape)


@pytest.mark.parametrize("case", ["qwen3", "gemma2", "qwen3_moe, some dense", "bert", "modernbert", "gpt2"])
def test_fewer_layers_are_the_model_with_fewer_layers(case):
    """What is traced small and extrapolated must be the same model."""
    config, count = configuration(case), "n_layer" if "n_layer" in CASES[case] else "num_hidden_layers"
    small = architecture(config).with_layers(1)
    assert small == architecture({**config, count: 1})
    assert small.tensors == shapes(theirs({**config, count: 1}))
    assert len(small.per_layer) == 1


def test_windows_are_transformers_layer_types():
    """gemma2 alternates, gemma3 looks far in each sixth layer, modernbert in each third, qwen behind the given layer."""
    far = {**SMALL, "num_hidden_layers": 7}
    cases = {
        "gemma2": far,
        "gemma3_text": far,
        "modernbert": {**PLAIN, "num_hidden_layers": 7},
        "qwen3": {**far, "use_sliding_window": True, "sliding_window": 16, "max_window_layers": 4},
        "qwen2": far,
    }
    for kind, config in cases.items():
        types = AutoConfig.for_model(kind, **config).layer_types
        ours = architecture({"model_type": kind, **config}).windows or (0,) * 7
        assert [bool(window) for window in ours] == [each == "sliding_attention" for each in types], kind
    assert architecture({"model_type": "mistral", **SMALL}).windows == (4096,) * 3


@pytest.mark.parametrize("name", sorted(known_models()))
def test_the_catalogs_models_have_transformers_shapes(name):
    """Real configurations, with all keys that the hub's files hold."""
    config = known_models()[name]
    assert architecture(config).tensors == shapes(theirs(config))


def test_a_block_holds_a_block():
    """36 blocks of Qwen3-8B: 192,946,432 parameters each.

    Its query and output matrices are 4096 x 4096, key and value 1024 x 4096, three of 12288 x 4096; two norms of 4096
    and two of 128. 2 * 16,777,216 + 2 * 4,194,304 + 3 * 50,331,648 + 8,192 + 256 = 192,946,432.
    """
    ours = architecture(known_models()["Qwen/Qwen3-8B"])
    assert [sum(map(prod, layer.values())) for layer in ours.per_layer] == [192_946_432] * 36
    assert ours.linear_parameters == 36 * 192_937_984
    assert set(ours.outside) == {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"}


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "mamba"},
        {},
        {"model_type": "llama", "hidden_size": "x"},
        {"model_type": "llama", "num_attention_heads": 0},
        {"model_type": "llama", "num_hidden_layers": 10**9},
        {"model_type": "llama", "vocab_size": -1},
        {"model_type": ["llama"]},
    ],
)
def test_what_no_table_covers_is_unknown_and_not_guessed(config):
    """A wrong size would be worse than none: plans show it as a fact."""
    assert architecture(config) is None


def test_a_type_that_the_table_lacks_is_read_from_its_tensors():
    """With the keys that configurations share; packed weights of a quantized model say nothing of shapes."""
    config = {**SMALL, "model_type": "novel"}
    stored = shapes(theirs({**SMALL, "model_type": "llama"}))
    assert architecture(config) is None
    ours = architecture(config, stored)
    assert (ours.parameters, ours.linear, ours.exact) == (
        sum(map(prod, stored.values())),
        architecture({**SMALL, "model_type": "llama"}).linear,
        False,
    )
    assert architecture({**config, "quantization_config": {"quant_method": "gptq"}}, stored) is None


@pytest.mark.parametrize("case", [case for case in CASES if case not in (*RENAMED, "llama, keys left out")])
def test_files_name_the_parameters_alike(case, tmp_path):
    """Where the table does not say that they are renamed: a folder is held to these names before it is loaded."""
    config = configuration(case)
    made = AutoConfig.for_model(**{"pad_token_id": None, **config})
    MODELS.get(config["model_type"], AutoModelForCausalLM).from_config(made).save_pretrained(tmp_path)
    ours = architecture(config)
    assert not ours.renamed
    assert read_header(tmp_path / "model.safetensors") == ours.tensors
