"""The `model:` section."""

from typing import Any, Literal

from pydantic import Field

from launcher.recipe.section import Section

HUB_KERNELS = (
    "kernels-community/flash-attn2",
    "kernels-community/flash-attn3",
    "kernels-community/vllm-flash-attn3",
    "kernels-community/flash-attn4",
)
"""Flash kernels that transformers fetches from the Hub."""


class Model(Section):
    """The model to start from. Names are those of TRL's ModelConfig and transformers' `from_pretrained`."""

    model_name_or_path: str | None = None
    """Hub id or local directory of the model. Left out only with `from_config`."""

    adapter_name_or_path: str | None = None
    """An existing LoRA adapter (hub id or directory) to train on from."""

    revision: str = "main"
    """Branch, tag or commit of the hub model."""

    tokenizer_name_or_path: str | None = None
    """Tokenizer, when it is not the model's own; required with `from_config`."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Type of the weights in memory. `auto`: float32 on CPU and for full fine-tuning (with bf16 autocast on GPUs), bfloat16 for a frozen base."""

    attn_implementation: Literal[
        "auto",
        "sdpa",
        "sdpa_documents",
        "sdpa_varlen",
        "eager",
        "flash_attention_2",
        "flash_attention_3",
        "flash_attention_4",
        "flex_attention",
        "kernels-community/flash-attn2",
        "kernels-community/flash-attn3",
        "kernels-community/vllm-flash-attn3",
        "kernels-community/flash-attn4",
    ] = "auto"
    """Attention kernel. Two are ours: `sdpa_documents` is `sdpa` that takes the documents of a packed row apart, `sdpa_varlen` hands the row to torch's own flash kernel (GPU). `auto` lets the plan choose and say why."""

    trust_remote_code: bool = False
    """Run Python code that comes with the model. Off unless you have read that code."""

    chat_template_path: str | None = None
    """A Jinja file with the chat template; left out, the tokenizer's own is used."""

    add_tokens: tuple[str, ...] = ()
    """Tokens to add to the vocabulary; the embeddings grow by as many rows."""

    from_config: dict[str, Any] | None = None
    """A transformers model configuration (`model_type: …`) to build with random weights instead of loading a model; for tests, demos and benchmarks."""

    model_init_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of `from_pretrained`, passed through as they are."""
