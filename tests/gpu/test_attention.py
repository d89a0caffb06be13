"""Packed rows on a GPU: each implementation that is there keeps documents apart and computes what they give alone."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from typing import Any

import pytest

from tests.worker import attention_cases

pytestmark = pytest.mark.skipif(shutil.which("nvidia-smi") is None, reason="needs an NVIDIA GPU: no nvidia-smi here")

LENGTHS = [700, 1, 512, 33, 129, 64]
SHAPE = {
    "vocab_size": 1024,
    "hidden_size": 512,
    "intermediate_size": 1024,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "max_position_embeddings": 2048,
}
NEEDS = {
    "eager": None,
    "sdpa": None,
    "sdpa_documents": None,
    "sdpa_varlen": None,
    "flex_attention": None,
    "flash_attention_2": "flash_attn",
    "flash_attention_3": "flash_attn_interface",
    "kernels-community/flash-attn2": "kernels",
}
TOLERANCE = 0.02
"""Relative, of logits and of gradients by their norms: bfloat16 has 8 bits (2^-8 = 0.4 %), and four layers add up."""


def model(implementation: str, dtype: str = "bfloat16", **changes: Any) -> Any:
    """Four layers with grouped heads, the same random weights each time."""
    return attention_cases.network(implementation, dtype=dtype, **{**SHAPE, **changes}).cuda()


def batch(lengths: list[int]) -> dict[str, Any]:
    """One packed row as TRL's collator lays it out, on the GPU."""
    import torch

    made = attention_cases.packed(lengths)
    return {key: value.cuda() if isinstance(value, torch.Tensor) else value for key, value in made.items()}


def apart(network: Any, packed: dict[str, Any], lengths: list[int]) -> Any:
    """Logits [T, V] of each document alone, one after the other, computed by `sdpa`."""
    import torch

    documents = packed["input_ids"][0].split(lengths)
    logits = [network(input_ids=each[None], use_cache=False).logits[0] for each in documents]
    return torch.cat(logits).float()


def distance(one: Any, other: Any) -> float:
    return float((one - other).norm() / other.norm())


def usable(name: str) -> None:
    """Skip what is not installed here."""
    needed = NEEDS[name]
    if needed and find_spec(needed) is None:
        pytest.skip(f"the package `{needed}` is not installed")


@pytest.mark.parametrize("window", [None, 100])
@pytest.mark.parametrize("name", NEEDS)
def test_a_packed_row_gives_what_its_documents_give_alone(name, window):
    """Against float32 `sdpa`, a document at a time: packing must change neither outputs nor gradients."""
    import torch

    usable(name)
    changes = {} if window is None else {"use_sliding_window": True, "sliding_window": window, "max_window_layers": 2}
    packed, parameters = batch(LENGTHS), {}
    alone = model("sdpa", "float32", **changes)
    expected = apart(alone, packed, LENGTHS)
    target = torch.randn(expected.shape, generator=torch.Generator("cuda").manual_seed(0), device="cuda")
    (expected * target).mean().backward()
    parameters["alone"] = torch.cat([each.grad.flatten() for each in alone.parameters()])

    together = model(name, **changes)
    assert together.config._attn_implementation == name
    logits = together(**{key: value for key, value in packed.items() if key != "labels"}, use_cache=False).logits
    found = logits[0].float()
    (found * target).mean().backward()
    gradient = torch.cat([each.grad.flatten() for each in together.parameters()]).float()

    assert distance(found.detach(), expected.detach()) < TOLERANCE
    assert distance(gradient, parameters["alone"]) < TOLERANCE


@pytest.mark.parametrize("name", NEEDS)
def test_no_document_sees_another(name):
    """The derivative of one document's outputs by another's inputs is zero to the last bit."""
    usable(name)
    lengths = [40, 64, 33]
    packed, network = batch(lengths), model(name)
    embedded = network.get_input_embeddings()(packed["input_ids"]).detach().requires_grad_()
    given = {key: value for key, value in packed.items() if key not in ("input_ids", "labels")}
    logits = network(inputs_embeds=embedded, use_cache=False, **given).logits
    logits[0, 40:104].float().square().sum().backward()
    parts = embedded.grad[0].float().abs().split(lengths)
    assert [float(part.max()) > 0 for part in parts] == [False, True, False]


def test_autocast_reaches_the_flash_kernel():
    """Full fine-tuning keeps float32 weights: rotary positions and norms give float32 heads, which the kernel has not."""
    import torch

    packed = batch(LENGTHS)
    with torch.autocast("cuda", torch.bfloat16):
        found = model("sdpa_varlen", "float32")(**packed, use_cache=False).logits[0].float()
    expected = apart(model("sdpa", "float32"), packed, LENGTHS)
    assert distance(found.detach(), expected.detach()) < TOLERANCE


def test_gpu_memory_grows_in_place():
    """`PYTORCH_ALLOC_CONF` is read: torch 2.9.1 ignored the new name (pytorch#183387)."""
    import os
    import subprocess
    import sys

    code = (
        "import torch; torch.zeros(1, device='cuda');"
        "print(torch.cuda.memory._snapshot()['allocator_settings']['expandable_segments'])"
    )
    environment = {**os.environ, "PYTORCH_ALLOC_CONF": "expandable_segments:True"}
    answer = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "True"
