"""Packed rows on the GPU's own attention kernels."""

from dataclasses import replace

import pytest

from benchmarks.gpu.setup import Setup
from benchmarks.gpu.shapes import QWEN3_06B

SHAPE = replace(QWEN3_06B, layers=2)


@pytest.mark.parametrize(
    "kernel", ["sdpa", "sdpa_documents", "sdpa_varlen", "flex_attention", "flash_attention_2", "flash_attention_3"]
)
def test_packed_documents_are_computed_as_each_alone(kernel, scale):
    """An attention that looks into the neighbour trains on, and nothing in the loss shows it.

    Bound: twice the error that the type itself has with sdpa, which is about 1e-2 of the largest logit in bfloat16.
    """
    from benchmarks.gpu.record import Skipped
    from benchmarks.gpu.suites.packed import differences

    try:
        found = differences(Setup(SHAPE, "full", packing=True, rows=1, attention=kernel), scale)
    except Skipped as why:
        pytest.skip(str(why))

    assert found["packed_to_float32"] <= 2 * found["sdpa_to_float32"] + 1e-6
    assert found["packed_to_alone"] <= 2 * found["sdpa_to_float32"] + 1e-6


def test_the_comparison_sees_a_document_that_looks_into_its_neighbour(scale):
    """Without it the bound above could be met by any attention."""
    import torch

    from benchmarks.gpu import models
    from benchmarks.gpu.suites import packed

    setup = scale.fit(Setup(SHAPE, "full", packing=True, rows=1))
    random = torch.Generator().manual_seed(0)
    documents = [torch.randint(3, setup.shape.vocabulary, (size,), generator=random).tolist() for size in (40, 30)]
    model = models.build(setup, scale.device).eval()
    alone = packed._alone(model, documents, scale)
    together = packed._alone(model, [documents[0] + documents[1]], scale)

    shares = ((together - alone).abs().amax(dim=1) / alone.abs().max()).tolist()
    assert max(shares[:40]) < 0.03  # the first sees nobody before it
    assert max(shares[40:]) > 0.1
