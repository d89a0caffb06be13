"""Expected peak memory and floating-point operations of a training, by arithmetic alone: no torch, nothing measured."""

from __future__ import annotations

from benchmarks.gpu.setup import Setup
from benchmarks.gpu.shapes import Shape

GIB = 2**30
FLOPS_FORMULA = (
    "per trained token: (6 full, 4 frozen) x linear and head parameters + 6 x adapter parameters "
    "+ 6 x layers x query width x mean causal context; recomputation is not counted"
)
MEMORY_FORMULA = (
    "peak of torch's allocator: weights + gradients + optimizer + saved activations + the larger of one live layer and the loss; "
    "CUDA context, fragmentation and kernel workspaces are not in it"
)
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


def expected_memory_gib(setup: Setup) -> dict[str, float]:
    """Parts of the expected peak in GiB, and their `total` (`MEMORY_FORMULA`).

    Tokens of a step are rows × max_length: padded rows may be shorter, and the figure is then above the peak.
    """
    shape, tokens = setup.shape, setup.rows * setup.max_length
    width = 4 if setup.dtype == "float32" else 2
    parts = {
        "weights": _weights(setup, width),
        "gradients": float(_trained(setup) * _trained_width(setup, width)),
        "optimizer": _optimizer(setup, _trained_width(setup, width)),
        "saved_activations": _saved(setup, tokens),
        "largest_temporary": max(_layer(shape) * tokens, _loss(setup, tokens)) + _expanded(setup),
        "mask": _mask(setup, tokens),
    }
    gib = {name: round(size / GIB, 3) for name, size in parts.items()}
    return {**gib, "total": round(sum(parts.values()) / GIB, 3)}


def _trained(setup: Setup) -> int:
    if setup.method == "full":
        return setup.shape.linear + setup.shape.embeddings
    return setup.shape.adapter(setup.rank)


def _trained_width(setup: Setup, width: int) -> int:
    return {"full": width, "lora": 4, "qlora": 2}[setup.method]


def _weights(setup: Setup, width: int) -> float:
    shape = setup.shape
    base = (shape.linear + shape.embeddings) * width
    if setup.method == "full":
        # Autocast keeps a bfloat16 copy of float32 weights from forward to backward.
        return float(base + (shape.linear + shape.embeddings) * 2 * (setup.dtype == "float32"))
    adapters = _trained(setup) * _trained_width(setup, width)
    if setup.method == "lora":
        return float(base + adapters)
    # 4 bits, and 0.127 for the quantized constants: 8/64 + 32/(64·256) bits (QLoRA, arXiv:2305.14314, section 3).
    return shape.linear * (4 + 0.127) / 8 + shape.embeddings * width + adapters


def _optimizer(setup: Setup, width: int) -> float:
    if setup.optim.startswith("paged"):
        return 0.0  # in managed memory, which may be anywhere
    if "8bit" not in setup.optim:
        return float(2 * width * _trained(setup))
    # transformers keeps the input embedding's moments in float32, whatever the optimizer is called.
    embedding = setup.shape.vocabulary * setup.shape.hidden if setup.method == "full" else 0
    return 8 * embedding + 2 * (1 + 4 / 256) * (_trained(setup) - embedding)


def _layer(shape: Shape) -> float:
    """Bytes per token that one layer saves for its backward pass, in bfloat16 with transformers' unfused layers.

    Feed-forward: gate, up, their activation and product, 8F; norms with float32 copies and the residual stream, 20H;
    queries and the attention's output 6A; keys and values 8K; a norm on queries and keys 6(A + K).
    For Llama-3.1-8B 224 KiB, which is what a fake-tensor trace of four of its layers gives.
    """
    norms = 6 * (shape.queries + shape.keys) if shape.kind == "qwen3" else 0
    return 8 * shape.ffn + 20 * shape.hidden + 6 * shape.queries + 8 * shape.keys + norms


def _saved(setup: Setup, tokens: int) -> float:
    shape, kwargs = setup.shape, dict(setup.checkpointing_kwargs)
    if not setup.checkpointing:
        return _layer(shape) * tokens * shape.layers
    checkpoint = 2 * shape.hidden * tokens
    every = int(kwargs.get("every_n_layers", 1))
    recomputed = -(-shape.layers // every)
    attention = 2 * shape.queries * tokens if kwargs.get("selective") else 0
    return recomputed * (checkpoint + attention) + (shape.layers - recomputed) * _layer(shape) * tokens


def _loss(setup: Setup, tokens: int) -> float:
    """TRL's fused head: the last hidden state, its gradient in float32, and the head's gradient where it is trained."""
    shape = setup.shape
    head = 4 * shape.vocabulary * shape.hidden if setup.method == "full" else 0
    return 6 * shape.hidden * tokens + head


def _expanded(setup: Setup) -> float:
    """The largest 4-bit matrix, expanded for its product."""
    shape = setup.shape
    return 2 * shape.hidden * max(shape.ffn, shape.queries) if setup.method == "qlora" else 0


def _mask(setup: Setup, tokens: int) -> float:
    """What plain SDPA needs where it cannot be causal alone: all pairs of tokens of a row, as bool and as bfloat16."""
    if setup.attention != "sdpa":
        return 0.0
    return 3.0 * tokens * (tokens if setup.packing else setup.max_length)
