"""What transformers' models cannot do, against the installed version."""

import json

import pytest

from launcher.catalog import lacking
from tests.support import warm

ATTRIBUTES = {
    "sdpa": "_supports_sdpa",
    "flash": "_supports_flash_attn",
    "flex": "_supports_flex_attn",
    "activation_checkpointing": "supports_gradient_checkpointing",
}


def installed() -> dict[str, object]:
    """The same table, read from the classes of every causal language model."""
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    classes = {
        kind: getattr(transformers, names if isinstance(names, str) else names[0])
        for kind, names in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items()
    }
    table: dict[str, object] = {
        ability: sorted(kind for kind, model in classes.items() if not getattr(model, attribute, False))
        for ability, attribute in ATTRIBUTES.items()
    }
    return table | {
        "source": f"transformers {transformers.__version__}: class attributes of its causal language models"
    }


@pytest.mark.slow
def test_the_table_is_that_of_the_installed_version():
    """A type that learns sdpa would be kept from it, one that loses it would fail when it is loaded."""
    table = warm.run("tests.catalog.test_lacking:installed", {}).value
    assert json.loads(lacking._FILE.read_text(encoding="utf-8")) == table


def hub_kernels() -> list[str]:
    """Flash kernels for CUDA that the installed transformers fetches."""
    from transformers.modeling_flash_attention_utils import FLASH_ATTN_KERNEL_DEVICES

    return sorted(name for name, devices in FLASH_ATTN_KERNEL_DEVICES.items() if "cuda" in devices)


@pytest.mark.train
def test_the_hub_kernels_are_those_of_the_installed_version():
    """The recipe names them one by one."""
    from launcher.recipe.model import HUB_KERNELS

    assert warm.run("tests.catalog.test_lacking:hub_kernels", {}).value == sorted(HUB_KERNELS)
