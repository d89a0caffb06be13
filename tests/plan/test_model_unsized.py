"""Why nothing is predicted of a model: it is not known, or its configuration makes none."""

import json

import pytest

from launcher.errors import EnvironmentFault
from launcher.plan.model_facts import ModelFacts, from_folder


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


def test_a_type_that_is_no_name_is_refused(tmp_path):
    """Anything else would be looked up in tables of names."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": ["llama"]}))
    with pytest.raises(EnvironmentFault, match=r"`model_type` is \['llama'\], not a name"):
        from_folder(tmp_path)
