"""Why nothing is predicted of a model: it is not known, or its configuration makes none."""

import json

import pytest

from launcher.errors import EnvironmentFault, RecipeErrors
from launcher.plan.model_facts import ModelFacts, from_folder
from tests.support import planning


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_type": "llama", "hidden_size": -4}, "the configuration of this `llama` has a size that is missing"),
        ({"model_type": "wibble"}, "sizes of models of type `wibble` are not known; `--trace`"),
        ({}, "sizes of a model without `model_type` are not known"),
    ],
)
def test_the_reason_is_the_true_one(config, said):
    assert ModelFacts(config, "its folder").unsized.startswith(said)


@pytest.mark.parametrize("kind", ["t5", "modernbert", "bert"])
def test_what_continues_no_text_is_refused(tmp_path, kind):
    """transformers has no head for it that supervised fine-tuning could train."""
    text = planning.RECIPE.replace(
        "model_name_or_path: Qwen/Qwen3-0.6B",
        f"from_config: {{model_type: {kind}, vocab_size: 10}}, tokenizer_name_or_path: Qwen/Qwen3-0.6B",
    ).replace("peft: {r: 8}\n", "")
    with pytest.raises(RecipeErrors, match=f"`{kind}` does not continue a text"):
        planning.plan(tmp_path, text=text)


def test_a_type_that_is_no_name_is_refused(tmp_path):
    """Anything else would be looked up in tables of names."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": ["llama"]}))
    with pytest.raises(EnvironmentFault, match=r'`model_type` is `\["llama"\]`, not a name'):
        from_folder(tmp_path)


def test_a_file_without_a_mapping_is_quoted(tmp_path):
    """In JSON's words, not in Python's."""
    (tmp_path / "config.json").write_text("null")
    with pytest.raises(EnvironmentFault, match="holds `null`, not a configuration"):
        from_folder(tmp_path)
