"""On a GPU: what moves activations or optimizer state to host memory changes no loss."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support import tiny
from tests.worker import settings_cases

pytestmark = pytest.mark.skipif(shutil.which("nvidia-smi") is None, reason="needs an NVIDIA GPU: no nvidia-smi here")

ON_GPU = {"use_cpu": False}
CHECKPOINTED = {**ON_GPU, "activation_checkpointing": True}
PAIRS = {
    "activations offloaded": ({**ON_GPU, "activation_offloading": True}, ON_GPU),
    "checkpoints offloaded": ({**CHECKPOINTED, "activation_checkpointing_kwargs": {"offload": True}}, ON_GPU),
    "every second offloaded": (
        {**CHECKPOINTED, "activation_checkpointing_kwargs": {"offload": True, "every_n_layers": 2}},
        ON_GPU,
    ),
    "selective": ({**CHECKPOINTED, "activation_checkpointing_kwargs": {"selective": True}}, ON_GPU),
    "paged 8 bits": ({**ON_GPU, "optim": "paged_adamw_8bit"}, {**ON_GPU, "optim": "adamw_8bit"}),
    "paged 32 bits": ({**ON_GPU, "optim": "paged_adamw_32bit"}, {**ON_GPU, "optim": "adamw_torch"}),
    "paged AdEMAMix": ({**ON_GPU, "optim": "paged_ademamix_8bit"}, {**ON_GPU, "optim": "ademamix_8bit"}),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_host_memory_changes_no_loss(tmp_path: Path, pair: str):
    """Float32, four steps; sums on a GPU may come in another order."""
    from datasets import Dataset
    from transformers import AutoTokenizer

    model = tiny.model(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(model)
    rows = [{"input_ids": tokenizer(f"{row['question']} {row['answer']}")["input_ids"]} for row in tiny.words(16)]
    Dataset.from_list([{**row, "labels": row["input_ids"]} for row in rows]).save_to_disk(tmp_path / "rows")

    ours, expected = settings_cases.plain(str(model), str(tmp_path / "rows"), list(PAIRS[pair]))
    assert len(ours) == 4
    assert ours == pytest.approx(expected, abs=1e-5)
