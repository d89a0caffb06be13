"""What other tools say of the same training: accelerate's estimator, called as its command does, and LitGPT's rule."""

from __future__ import annotations

from typing import Any

from launcher.predict.setup import BYTES, Setup


def accelerate_bytes(config: dict[str, Any], dtype: str) -> int:
    """Bytes that `accelerate estimate-memory` gives for training with Adam: its own functions on the meta device.

    It knows neither rows nor lengths, adapters, quantization of the base, checkpointing nor ranks.
    """
    from accelerate import init_empty_weights
    from accelerate.commands.estimate import estimate_training_usage
    from accelerate.utils.modeling import calculate_maximum_sizes
    from transformers import AutoConfig, AutoModelForCausalLM

    settings = {key: value for key, value in config.items() if key not in ("architectures", "dtype", "model_type")}
    with init_empty_weights():
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(config["model_type"], **settings))
    total, _ = calculate_maximum_sizes(model)
    return int(max(estimate_training_usage(total, dtype).values()))


def litgpt_bytes(setup: Setup) -> int:
    """Bytes by `litgpt validate --training true`: parameters, the head never tied, times their size, times four.

    Source: Lightning-AI/litgpt, litgpt/utils.py, `estimate_model_memory`, commit 1e5824b.
    """
    model = setup.model
    queries, keys = model.heads * model.head_dim, model.kv_heads * model.head_dim
    layer = model.hidden * (2 * queries + 2 * keys) + 3 * model.hidden * model.ffn + 2 * model.hidden
    parameters = 2 * model.vocabulary * model.hidden + model.layers * layer + model.hidden
    return 4 * parameters * BYTES[setup.dtype]
