"""Speeds that others published, predicted: half of them set the efficiency table, the other half tests it.

Each figure stands with the conditions that its source states; what a source does not state is
said in `assumed`. All of them are other programs than ours: ours has no figure of its own until a GPU is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from launcher.catalog.gpus import GpuRow, gpu
from launcher.predict.architecture import Architecture, architecture
from launcher.predict.rates import Efficiency, gpu_rates
from launcher.predict.setup import Adapter, Checkpointing, Setup
from launcher.predict.time import time

TUNE = "torchtune, README (2025-05)"
FOUNDRY = "llm-foundry, scripts/train/benchmarking/README.md"
NEMO = "NeMo AutoModel, docs/performance-summary.mdx (2026-06-12)"
TITAN = "torchtitan, benchmarks/llama3_h100_202412"
QWEN = "Qwen, README, Profiling of Memory and Speed"
Use = Literal["sets", "tests"]
ANSWER = "Answer.AI fsdp_qlora, benchmarks_03_2024.md"


@dataclass(frozen=True)
class Point:
    """One published speed."""

    source: str
    what: str
    setup: Setup
    tokens_per_s: float
    """Of one GPU."""
    use: Use
    network_gb_s: float | None = None
    """Of one GPU to other nodes, where the source says it."""


def _decoder(
    hidden: int, ffn: int, layers: int, heads: int, keys: int, words: int, *, tied: bool = False
) -> Architecture:
    found = architecture(
        {
            "model_type": "llama", "vocab_size": words, "hidden_size": hidden, "intermediate_size": ffn,
            "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": keys,
            "tie_word_embeddings": tied,
        }
    )  # fmt: skip
    assert found is not None
    return found


def _mpt(hidden: int, layers: int, heads: int) -> Architecture:
    """A decoder whose feed-forward layer has no gate and four times the width; head and embedding are one."""
    plain = _decoder(hidden, 4 * hidden, layers, heads, heads, 50368, tied=True)
    return replace(plain, tensors={name: shape for name, shape in plain.tensors.items() if ".gate_proj." not in name})


LLAMA3_8B, LLAMA32_3B = _decoder(4096, 14336, 32, 32, 8, 128256), _decoder(3072, 8192, 28, 24, 8, 128256, tied=True)
LLAMA2_7B, LLAMA2_70B = _decoder(4096, 11008, 32, 32, 32, 32000), _decoder(8192, 28672, 80, 64, 8, 32000)
QWEN25_7B = _decoder(3584, 18944, 28, 28, 4, 152064)
QWEN_18B, QWEN_7B = _decoder(2048, 5504, 24, 16, 16, 151936), _decoder(4096, 11008, 32, 32, 32, 151936)
QWEN_14B = _decoder(5120, 13696, 40, 40, 40, 152064)
MPT = {
    "1b": _mpt(2048, 24, 16), "3b": _mpt(2560, 32, 20), "7b": _mpt(4096, 32, 32), "13b": _mpt(5120, 40, 40),
    "30b": _mpt(7168, 48, 56), "70b": _mpt(8192, 80, 64),
}  # fmt: skip
_HBM2E = replace(gpu("H100"), name="H100", memory_gb_s=2400)
"""torchtitan's H100: 96 GB of HBM2e at 2.4 TB/s and 500 W."""


def _setup(model: Architecture, card: GpuRow, rows: int, length: int, **more: Any) -> Setup:
    plain: dict[str, Any] = {
        "method": "full", "dtype": "bfloat16", "precision": "bfloat16", "optim": "adamw_torch_fused",
        "attention": "flash_attention_2", "device": "cuda", "gpu": card,
    }  # fmt: skip
    return Setup(model, rows=rows, length=length, **{**plain, **more})


def _beside(
    model: Architecture, rank: int, *, without: tuple[str, ...] = (), dtype: str = "bfloat16"
) -> dict[str, Any]:
    layers = [name for name in model.linear if not name.endswith(without)]
    return {"method": "lora", "adapter": Adapter(dict.fromkeys(layers, rank), dtype, dropout=True)}


def _foundry() -> Iterator[Point]:
    """(GPU, model, length, GPUs, micro-batch, accumulation, checkpointing, tokens/s of a GPU, what for)."""
    rows: Sequence[tuple[str, str, int, int, int, int, bool, float, Use]] = (
        ("A100", "1b", 2048, 8, 14, 4, False, 20513, "tests"),
        ("A100", "3b", 2048, 8, 10, 2, False, 10811, "sets"),
        ("A100", "3b", 32768, 8, 3, 6, True, 3029, "tests"),
        ("A100", "7b", 2048, 8, 6, 2, False, 4641, "tests"),
        ("A100", "7b", 65536, 8, 1, 2, True, 1013, "tests"),
        ("A100", "13b", 2048, 8, 2, 3, False, 2262, "sets"),
        ("A100", "13b", 8192, 8, 5, 3, True, 1795, "tests"),
        ("A100", "30b", 2048, 8, 3, 21, True, 916, "sets"),
        ("A100-40GB", "7b", 2048, 16, 16, 1, True, 3645, "tests"),
        ("A100-40GB", "13b", 2048, 128, 16, 1, True, 1972, "tests"),
        ("H100", "1b", 2048, 8, 14, 1, False, 45455, "sets"),
        ("H100", "3b", 4096, 8, 5, 6, False, 20964, "tests"),
        ("H100", "7b", 2048, 8, 6, 1, False, 10643, "sets"),
        ("H100", "7b", 8192, 8, 8, 2, True, 6935, "tests"),
        ("H100", "7b", 65536, 8, 1, 2, True, 1956, "tests"),
        ("H100", "13b", 2048, 8, 2, 1, False, 4792, "tests"),
        ("H100", "13b", 32768, 8, 1, 3, True, 1976, "tests"),
        ("H100", "30b", 2048, 16, 10, 3, True, 2263, "sets"),
        ("H100", "30b", 8192, 8, 1, 21, True, 1384, "tests"),
        ("H100", "70b", 2048, 64, 8, 4, True, 1039, "tests"),
    )
    for card, name, length, ranks, micro, accumulation, again, speed, use in rows:
        setup = _setup(
            *(MPT[name], gpu(card), micro, length),
            dtype="float32",
            strategy="fsdp2",
            ranks=ranks,
            ranks_per_node=8,
            accumulation=accumulation,
            checkpointing=Checkpointing() if again else None,
            compile=True,
        )
        what = f"MPT-{name} full, {ranks} GPUs, {micro} × {length}{', recomputed' * again}"
        yield Point(FOUNDRY, what, setup, speed, use, network_gb_s=25)


def _torchtune() -> Iterator[Point]:
    """Packed rows: a mask of blocks, documents of alpaca, 130 tokens and so nothing beside the matrices."""
    packed: dict[str, Any] = {"packing": True, "document": 130, "attention": "flash_attention_2"}
    a100, ada = gpu("A100"), gpu("RTX4090")
    model, lora = LLAMA32_3B, _beside(LLAMA32_3B, 64, without=("k_proj",))
    again, quick = Checkpointing(), {"compile": True}
    ladder: Sequence[tuple[str, dict[str, Any], float, Use]] = (
        ("full", {}, 7075, "tests"),
        ("full, compiled", quick, 8998, "sets"),
        ("full, compiled, recomputed", {**quick, "checkpointing": again}, 7210, "tests"),
        ("LoRA, compiled, recomputed", {**quick, "checkpointing": again, **lora}, 8210, "sets"),
        ("QLoRA, compiled, recomputed", {**quick, "checkpointing": again, **lora, "method": "qlora"}, 8035, "tests"),
    )
    for what, more, speed, use in ladder:
        yield Point(TUNE, f"Llama-3.2-3B {what}, 2 × 4096", _setup(model, a100, 2, 4096, **packed, **more), speed, use)
    model, lora = LLAMA3_8B, _beside(LLAMA3_8B, 8, without=("k_proj",))
    more = {**packed, **quick, "checkpointing": again}
    single: Sequence[tuple[str, dict[str, Any], float, Use]] = (
        ("LoRA", lora, 3083, "sets"),
        ("QLoRA", {**lora, "method": "qlora"}, 2413, "tests"),
        ("full", {"optim": "paged_adamw_8bit"}, 1650, "tests"),
    )
    for what, extra, speed, use in single:
        setup = _setup(model, ada, 2, 2048, **{**more, **extra})
        yield Point(TUNE, f"Llama-3.1-8B {what}, compiled, recomputed, 2 × 2048", setup, speed, use)


def _qwen() -> Iterator[Point]:
    """transformers, peft and flash attention 2 on one A100; rank 64 on all linear layers, accumulation 8."""
    rows: Sequence[tuple[Architecture, str, int, float, Use]] = (
        (QWEN_18B, "1.8B", 256, 1.0, "sets"),
        (QWEN_18B, "1.8B", 2048, 1.7, "tests"),
        (QWEN_18B, "1.8B", 8192, 6.8, "tests"),
        (QWEN_7B, "7B", 256, 1.2, "tests"),
        (QWEN_7B, "7B", 1024, 2.8, "sets"),
        (QWEN_7B, "7B", 2048, 5.2, "tests"),
        (QWEN_7B, "7B", 8192, 21.3, "sets"),
        (QWEN_14B, "14B", 1024, 4.4, "tests"),
        (QWEN_14B, "14B", 4096, 17.0, "tests"),
    )
    for model, name, length, seconds, use in rows:
        lora = _beside(model, 64, without=("up_proj",), dtype="bfloat16")  # w1, w2, c_attn, c_proj
        setup = _setup(model, gpu("A100"), 1, length, checkpointing=Checkpointing(), accumulation=8, **lora)
        yield Point(QWEN, f"Qwen-{name} LoRA, recomputed, 1 × {length}", setup, 8 * length / seconds, use)


def _others() -> Iterator[Point]:
    fused: dict[str, Any] = {"compile": True, "accumulation": 16}
    for model, name, speed, use in (
        (LLAMA3_8B, "Llama-3-8B", 12473.0, "sets"),
        (QWEN25_7B, "Qwen2.5-7B", 14110.0, "tests"),
    ):
        setup = _setup(model, gpu("H100"), 2, 4096, **fused, **_beside(model, 16))
        yield Point(NEMO, f"{name} LoRA, fused kernels, 2 × 4096", setup, speed, "sets" if use == "sets" else "tests")
    again = Checkpointing(every_n_layers=2, selective=True)
    shared: dict[str, Any] = {"strategy": "fsdp2", "ranks_per_node": 8, "checkpointing": again, "dtype": "float32"}
    for ranks, quick, speed in ((8, False, 5762.0), (8, True, 6667.0), (128, True, 6514.0)):
        setup = _setup(LLAMA3_8B, _HBM2E, 2, 8192, ranks=ranks, compile=quick, **shared)
        what = f"Llama-3.1-8B full, {ranks} GPUs{', compiled' * quick}, half recomputed, 2 × 8192"
        yield Point(TITAN, what, setup, speed, "tests", network_gb_s=50)
    yield from _answer()


def _answer() -> Iterator[Point]:
    """1,024 rows of 2,048 tokens in so many seconds; all but the output projection adapted, rank 64."""
    rows: Sequence[tuple[str, int, str, str, int, float, Use]] = (
        ("RTX4090", 2, "lora", "ddp", 4, 437, "tests"),
        ("RTX4090", 2, "lora", "fsdp2", 6, 481, "tests"),
        ("RTX4090", 2, "qlora", "ddp", 8, 450, "sets"),
        ("RTX3090", 2, "lora", "ddp", 4, 881, "sets"),
        ("RTX3090", 2, "qlora", "ddp", 8, 875, "tests"),
        ("RTX3090", 2, "lora", "fsdp2", 6, 1199, "tests"),
        ("A100-40GB", 8, "qlora", "fsdp2", 4, 672, "tests"),
        ("H100", 4, "qlora", "fsdp2", 8, 667, "tests"),
    )
    for card, ranks, method, strategy, micro, seconds, use in rows:
        model, name = (LLAMA2_7B, "Llama-2-7B") if "RTX" in card else (LLAMA2_70B, "Llama-2-70B")
        more: dict[str, Any] = {**_beside(model, 64, without=("o_proj",)), "method": method, "strategy": strategy}
        setup = _setup(
            model, gpu(card), micro, 2048, ranks=ranks, ranks_per_node=ranks, checkpointing=Checkpointing(), **more
        )
        speed = 1024 * 2048 / seconds / ranks
        yield Point(ANSWER, f"{name} {method}, {strategy}, {ranks} GPUs, recomputed, {micro} × 2048", setup, speed, use)


def points() -> tuple[Point, ...]:
    """All of them."""
    return (*_foundry(), *_torchtune(), *_qwen(), *_others())


def predicted(point: Point, part: Efficiency | None = None, launch_s: float | None = None) -> float:
    """Tokens a second of one GPU, by the table or by other parts of the peaks."""
    setup = point.setup
    assert setup.gpu is not None
    rates = gpu_rates(setup.gpu, setup.precision, setup.ranks_per_node, part)
    if point.network_gb_s is not None:
        rates = replace(rates, links=replace(rates.links, network=point.network_gb_s * 0.8e9))
    if launch_s is not None:
        rates = replace(rates, launch_s=launch_s)
    found = time(setup, rates)
    assert found is not None
    return found.tokens_per_s / setup.ranks


def error(point: Point, part: Efficiency | None = None, launch_s: float | None = None) -> float:
    """Predicted over published, less one."""
    return predicted(point, part, launch_s) / point.tokens_per_s - 1
