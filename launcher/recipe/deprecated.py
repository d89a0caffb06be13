"""What the installed versions still take and will drop: never written, and refused with what replaces it.

A test looks each row up in the installed packages: it fails when a release ends the old form, and the row goes.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Deprecated:
    """One old form. `name` is a field of SFTConfig, or a variable or an argument where `package` has it."""

    name: str
    value: str | None
    """The value that is old, where the name is not. A type in brackets stands for all its values."""
    package: str
    source: str
    """File within the package that says so."""
    says: str
    """Words of that file."""
    ends: str
    """The release that drops it, by the package's own words."""
    instead: str
    """What to write."""


_CONFIG, _TRAINER, _ARGUMENTS = "trainer/sft_config.py", "trainer/sft_trainer.py", "training_args.py"

ROWS = (
    Deprecated(
        "gradient_checkpointing", None, "transformers", _ARGUMENTS,
        "Deprecated alias of `activation_checkpointing`, will be removed in v6.", "transformers 6",
        "write `training.activation_checkpointing`",
    ),
    Deprecated(
        "gradient_checkpointing_kwargs", None, "transformers", _ARGUMENTS,
        "Deprecated alias of `activation_checkpointing_kwargs`, will be removed in v6.", "transformers 6",
        "write `training.activation_checkpointing_kwargs`",
    ),
    Deprecated(
        "use_liger_kernel", None, "trl", _TRAINER,
        "`use_liger_kernel=True` is deprecated and will be removed in v2.0.0.", "TRL 2.0",
        "write `model: {model_init_kwargs: {use_kernels: true}}` for Liger's layers; the loss needs no logits as it is",
    ),
    Deprecated(
        "label_smoothing_factor", None, "trl", _TRAINER,
        "`label_smoothing_factor` is deprecated in `SFTTrainer` and will be removed in v2.0.0.", "TRL 2.0",
        "remove it: nothing replaces it, and until then it costs a second forward pass",
    ),
    Deprecated(
        "loss_type", "chunked_nll", "trl", _CONFIG,
        "`loss_type='chunked_nll'` is deprecated and will be removed in v2.0.0.", "TRL 2.0",
        "write `loss_type: nll`, or leave it out: the default makes no logits either",
    ),
    Deprecated(
        "pad_token", None, "trl", _CONFIG, "`pad_token` is deprecated and will be removed in v2.0.0.", "TRL 2.0",
        "remove it: the tokenizer's own is used, or its end token",
    ),
    Deprecated(
        "truncation_mode", "keep_end", "trl", _CONFIG,
        "The `'keep_end'` truncation mode is deprecated and will be removed in v2.0.0.", "TRL 2.0",
        "remove it: rows longer than `data.max_length` are cut at the end",
    ),
    Deprecated(
        "packing_strategy", "bfd-requeue", "trl", _CONFIG,
        "The `bfd-requeue` strategy is deprecated and will be removed in v2.0.0.", "TRL 2.0",
        "write `data.packing_strategy: bfd_split`",
    ),
    Deprecated(
        "fsdp", "[text]", "transformers", _ARGUMENTS,
        "Passing `fsdp` as a string is deprecated and will be removed in Transformers v5.20.", "transformers 5.20",
        "write `sharding: {strategy: fsdp2}`",
    ),
    Deprecated(
        "fsdp", "[list]", "transformers", _ARGUMENTS,
        "Passing `fsdp` as a list is deprecated and will be removed in Transformers v5.20.", "transformers 5.20",
        "write `sharding: {strategy: fsdp2}`",
    ),
    Deprecated(
        "fsdp_version", "1", "transformers", _ARGUMENTS, "FSDP1 (`fsdp_config['version'] = 1`) is deprecated",
        "transformers 5.20", "write `sharding: {strategy: fsdp2}`",
    ),
    Deprecated(
        "torch_dtype", None, "transformers", "modeling_utils.py", "`torch_dtype` is deprecated! Use `dtype` instead!",
        "not said", "write `model.dtype`",
    ),
    Deprecated(
        "PYTORCH_CUDA_ALLOC_CONF", None, "torch", "lib/libc10.so", "PYTORCH_ALLOC_CONF", "not said",
        "set PYTORCH_ALLOC_CONF in the environment",
    ),
)  # fmt: skip
"""Old forms that still work; names that are gone stand among the dialects."""

INSTEAD = {row.name: row.instead for row in ROWS if row.value is None}
"""Old name → what to write."""


def words_of(name: str) -> str:
    """The sentence for a deprecated name: which release ends it."""
    row = next((row for row in ROWS if row.name == name and row.value is None), None)
    if row is None or row.ends == "not said":
        return "is a deprecated name"
    return f"is deprecated, and ends with {row.ends}"


def value_of(name: str, value: object) -> Deprecated | None:
    """The row of a deprecated value of a current name."""
    return next((row for row in ROWS if row.name == name and row.value == value), None)
