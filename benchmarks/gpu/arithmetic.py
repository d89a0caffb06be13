"""Expected peak memory and floating-point operations of a training, by arithmetic alone: no torch, nothing measured."""

from __future__ import annotations

from benchmarks.gpu.setup import Setup
from launcher.predict import setup as predict
from launcher.predict.architecture import architecture
from launcher.predict.memory import memory

GIB = 2**30
FLOPS_FORMULA = (
    "per trained token: (6 full, 4 frozen) x linear and head parameters + 6 x adapter parameters "
    "+ 6 x layers x query width x mean causal context; recomputation is not counted"
)
MEMORY_FORMULA = (
    "launcher.predict.memory: peak of torch's allocator at the largest moment of a step; the CUDA context and what lies unused "
    "between blocks are not in it"
)
_NOT_GIVEN_OUT = ("context", "fragmentation")
_DATASHEET_BF16 = {"H200": 989.4e12, "H100 80GB HBM3": 989.4e12, "A100": 312e12}
"""Dense bf16 FLOP/s by a part of torch's device name (NVIDIA's datasheets of the SXM cards)."""


def datasheet_flops(device_name: str) -> float | None:
    """The vendor's dense bf16 rate; None for a card that is not in the table."""
    return next((rate for part, rate in _DATASHEET_BF16.items() if part in device_name), None)


def flops_per_token(setup: Setup, mean_context: float) -> float:
    """Floating-point operations that training needs per real token (`FLOPS_FORMULA`).

    A frozen matrix needs forward and the gradient of its input, 2 + 2 per parameter; a trained one 2 more.

    Args:
        setup: what is trained.
        mean_context: tokens in a document, weighted by tokens: the sum of squared lengths over the sum of lengths.
    """
    shape = setup.shape
    attention = 6 * shape.layers * shape.queries * mean_context
    matrices = shape.linear + shape.vocabulary * shape.hidden
    if setup.method == "full":
        return 6 * matrices + attention
    return 4 * matrices + 6 * shape.adapter(setup.rank) + attention


def expected_memory_gib(setup: Setup, *, smoke: bool = False) -> dict[str, float]:
    """Terms of the expected peak in GiB, and their `total` (`MEMORY_FORMULA`).

    Tokens of a step are rows × max_length: padded rows may be shorter, and the figure is then above the peak.
    """
    found = memory(predicted_setup(setup, smoke=smoke))
    parts = {term: size for term, size in found.terms.items() if term not in _NOT_GIVEN_OUT}
    return {**{term: round(size / GIB, 3) for term, size in parts.items()}, "total": round(found.allocated / GIB, 3)}


def predicted_setup(setup: Setup, *, smoke: bool = False) -> predict.Setup:
    """The setup as the planner's formula takes it; on a CPU in the smoke mode."""
    model = architecture(setup.shape.config())
    if model is None:
        raise ValueError(f"no sizes are known of models of type {setup.shape.kind}")
    width = "bfloat16" if setup.method == "qlora" else "float32"
    how = dict(setup.checkpointing_kwargs)
    checkpointing = predict.Checkpointing(
        int(how.get("every_n_layers", 1)), bool(how.get("selective")), bool(how.get("offload"))
    )
    return predict.Setup(
        model=model,
        method=setup.method,
        dtype=setup.dtype,
        precision="float32" if smoke else "bfloat16",
        optim=setup.optim,
        rows=setup.rows,
        length=setup.max_length,
        attention=setup.attention,
        device="cpu" if smoke else "cuda",
        adapter=None if setup.method == "full" else predict.Adapter(dict.fromkeys(model.linear, setup.rank), width),
        checkpointing=checkpointing if setup.checkpointing else None,
        packing=setup.packing,
        compile=setup.torch_compile,
    )
