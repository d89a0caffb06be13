"""What upstream still takes and will drop. A row that upstream has dropped fails here, and goes."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from launcher.recipe import trainer
from launcher.recipe.deprecated import ROWS
from launcher.recipe.dialect import OLD
from launcher.recipe.dialects import ROWS as DIALECTS
from tests.recipe.writing import SHORT, fault
from tests.support import warm

FIELDS = trainer.schema()["SFTConfig"]
USED = {
    "gradient_checkpointing": True,
    "gradient_checkpointing_kwargs": {"use_reentrant": False},
    "loss_type": "chunked_nll",
    "pad_token": "<pad>",
    "truncation_mode": "keep_end",
    "packing_strategy": "bfd-requeue",
}
"""Those that SFTConfig itself warns of, with a value to see it by."""
GONE = ("warmup_ratio", "half_precision_backend", "group_by_length", "save_safetensors", "no_cuda", "adafactor")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.name}-{row.value}")
def test_the_installed_version_says_that_it_is_deprecated(row):
    """When the words are gone, a release has ended the old form or changed its mind: look at the row again."""
    package = Path(find_spec(row.package).submodule_search_locations[0])
    text = (package / row.source).read_bytes().decode("utf-8", errors="ignore")
    joined = text.replace('"\n                "', "").replace('"\n                    "', "")
    assert row.says in joined


def warned() -> dict[str, list[str]]:
    """What SFTConfig says of each old form."""
    import warnings

    from trl import SFTConfig

    said = {}
    for name, value in USED.items():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            # TRL's own default is the old name, which warns where the new one is not given
            current = {} if name == "gradient_checkpointing" else {"activation_checkpointing": False}
            SFTConfig(output_dir="out", use_cpu=True, bf16=False, **current, **{name: value})
        said[name] = [str(each.message) for each in caught if each.category is FutureWarning]
    return said


@pytest.mark.train
def test_old_forms_are_warned_of_when_they_are_used():
    """The words in the source are not of code that nothing reaches."""
    said = warm.run("tests.recipe.test_deprecated:warned", {}).value
    assert {name: len(messages) for name, messages in said.items()} == dict.fromkeys(USED, 1)
    assert all("will be removed in v" in message for (message,) in said.values())


@pytest.mark.parametrize("row", [row for row in ROWS if row.name in FIELDS], ids=lambda row: f"{row.name}-{row.value}")
def test_old_forms_are_refused_with_what_replaces_them(tmp_path, row):
    """A recipe must not stop working with the next release."""
    value = row.value if row.value and not row.value.startswith("[") else "true"
    error = fault(tmp_path, f"{SHORT}training: {{{row.name}: {value}}}")
    assert error.key == f"training.{row.name}"
    assert error.hint


def test_the_release_that_ends_it_is_named(tmp_path):
    """The sentence a person reads."""
    error = fault(tmp_path, f"{SHORT}training: {{loss_type: chunked_nll}}")
    assert error.message == "the text `chunked_nll` is deprecated, and ends with TRL 2.0"
    error = fault(tmp_path, f"{SHORT}training: {{label_smoothing_factor: 0.1}}")
    assert error.message == "is deprecated, and ends with TRL 2.0"


@pytest.mark.parametrize("name", GONE)
def test_names_that_are_gone_stand_among_the_dialects(name):
    """What blogs still say: SFTConfig knows it no more, and the recipe says what to write."""
    assert name not in FIELDS
    assert OLD in DIALECTS[name].tools
