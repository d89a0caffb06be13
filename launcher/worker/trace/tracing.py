"""The trace of a plan: one training step of two small copies of the model, counted, and what each further layer adds."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import torch
import transformers
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoConfig
from trl import SFTConfig

from launcher.errors import EnvironmentFault
from launcher.plan.types import Plan
from launcher.worker import attention
from launcher.worker.trace import extrapolate, gpu, layers
from launcher.worker.trace.batch import batch_of, document_of
from launcher.worker.trace.build import build, materialize
from launcher.worker.trace.fakes import Answers
from launcher.worker.trace.flops import FLOPS
from launcher.worker.trace.layers import Pattern
from launcher.worker.trace.live import LiveBytes, Peak
from launcher.worker.trace.step import optimizer_of, train_once

_CUDA_BLOCK = 512
_MOST_LAYERS = 24
"""Layers of a model that repeats in no way and is traced whole."""
_NOT_HERE = ("fsdp", "fsdp_config", "deepspeed", "torch_compile", "torch_compile_backend", "torch_compile_mode", "tf32")
"""Settings of a trainer that need ranks or a GPU; what they change is not in a trace of one rank."""


def trace(plan: Plan, config: Mapping[str, Any]) -> dict[str, Any]:
    """Peaks and floating-point operations of one training step of one rank.

    Args:
        plan: what is trained.
        config: the model's `config.json`.

    Returns:
        `layers` of the model and of the `copies` that were traced; `peaks`: moment → term → bytes of all that one rank
        would hold if nothing were shared out; `own`: the same where only what is never shared out counts, at its own
        largest; `flops`: phase → floating-point operations of one pass.

    Raises:
        EnvironmentFault: the model cannot be traced, with the reason.
    """
    made = configuration(plan, config)
    pattern = _pattern(plan, made)
    if pattern is None:
        whole = traced(plan, made)
        counted = made.get_text_config().num_hidden_layers
        return _answer(counted, (counted,), whole.peaks, whole.own, extrapolate.by_phase(whole.flops))
    small, large = (traced(plan, layers.shortened(made, number)) for number in pattern.copies)
    return _answer(
        pattern.layers,
        pattern.copies,
        extrapolate.peaks(small.peaks, large.peaks, pattern),
        extrapolate.peaks(small.own, large.own, pattern),
        extrapolate.flops(small.flops, large.flops, pattern),
    )


def configuration(plan: Plan, config: Mapping[str, Any]) -> Any:
    """The model's configuration as transformers reads it, with the attention to trace.

    Raises:
        EnvironmentFault: transformers does not know the type, or the trace does not follow something that is asked.
    """
    if plan.model.trust_remote_code and "auto_map" in config:
        raise EnvironmentFault("a model with code of its own is not traced: only types that transformers knows are")
    if (plan.trainer.get("activation_checkpointing_kwargs") or {}).get("offload") or plan.trainer.get(
        "activation_offloading"
    ):
        raise EnvironmentFault(
            "activations in host memory are not traced", hint="plan without `--trace`: the formula knows"
        )
    kind = str(config.get("model_type"))
    attention.register()
    try:
        made = AutoConfig.for_model(**config)
    except ValueError as fault:
        why = str(fault).split(" Should contain one of ")[0].splitlines()[0].rstrip(".")
        raise EnvironmentFault(f"transformers {transformers.__version__} cannot read this `{kind}`: {why}") from None
    name = plan.model.attn_implementation
    made._attn_implementation = gpu.attention(name) if plan.device == "cuda" else name  # noqa: SLF001 - as from_pretrained does
    return made


def _pattern(plan: Plan, config: Any) -> Pattern | None:
    """How the layers repeat; None where small copies would not be of the same layers, or not smaller."""
    kinds = layers.kinds_of(layers.meta_model(config, torch.bfloat16))
    every = (plan.trainer.get("activation_checkpointing_kwargs") or {}).get("every_n_layers", 1)
    found = layers.pattern(kinds, every=every)
    if found.whole:
        return None
    for number in found.copies:
        if layers.kinds_of(layers.meta_model(layers.shortened(config, number), torch.bfloat16)) != kinds[:number]:
            if len(kinds) > _MOST_LAYERS:
                raise EnvironmentFault(
                    f"the {len(kinds)} layers of `{config.model_type}` repeat in no way that a smaller copy of it shows"
                )
            return None
    return found


def _answer(
    count: int,
    copies: tuple[int, ...],
    peaks: Mapping[str, Peak],
    own: Mapping[str, Peak],
    flops: Mapping[str, int],
) -> dict[str, Any]:
    return {
        "layers": count,
        "copies": list(copies),
        "peaks": {moment: dict(peak.terms) for moment, peak in extrapolate.moments(peaks).items()},
        "own": {moment: dict(peak.terms) for moment, peak in extrapolate.moments(own).items()},
        "flops": dict(flops),
    }


def traced(plan: Plan, config: Any, *, fake: bool = True) -> LiveBytes:
    """One step of the model that `config` says, counted.

    Args:
        plan: what is trained.
        config: transformers' configuration, with the number of layers to trace.
        fake: on tensors without memory; else on real ones, which is what checks the count.
    """
    on_gpu = plan.device == "cuda"
    live = LiveBytes(_CUDA_BLOCK if on_gpu else 1, FLOPS)
    dtype = getattr(torch, _weights(plan))
    model = build(plan, config, dtype=dtype)
    args = SFTConfig(
        output_dir="unused",
        **{
            **{name: value for name, value in plan.trainer.items() if name not in _NOT_HERE},
            "use_cpu": True, "bf16": False, "fp16": False, "dataloader_pin_memory": False,
        },
    )  # fmt: skip
    with ExitStack() as modes:
        if fake:
            modes.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
            modes.enter_context(Answers(document_of(plan)))
        materialize(model, live, on_gpu=on_gpu)
        optimizer = optimizer_of(plan, model, args)
        batch = batch_of(plan, config.get_text_config().vocab_size)
        if on_gpu:
            modes.enter_context(gpu.kernels(live))
        train_once(plan, model, optimizer, args, batch, live)
    return live


def _weights(plan: Plan) -> str:
    """Type of the weights during a step. Where a strategy gathers them, they come in the type of the products."""
    if plan.strategy == "ddp":
        return plan.model.dtype
    return "bfloat16" if plan.trainer.get("bf16") else plan.model.dtype
