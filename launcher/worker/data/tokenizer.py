"""The tokenizer of a run, written once, and the random model of a `from_config` recipe."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

from launcher.errors import DataError, EnvironmentFault
from launcher.worker.job import Job


def write_tokenizer(job: Job) -> Any:
    """Load the tokenizer that the plan names, give it template, tokens and pad token, and save it into the run.

    Raises:
        EnvironmentFault: it cannot be loaded.
    """
    from transformers import AutoTokenizer

    model = job.plan.model
    local = job.placed("tokenizer") or job.placed("model")
    name = job.placed("tokenizer") or model.tokenizer or job.placed("model") or model.name
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            name, revision=None if local else model.revision, trust_remote_code=model.trust_remote_code
        )
    except (OSError, ValueError) as fault:
        raise EnvironmentFault(
            f"tokenizer `{name}` cannot be loaded: {str(fault).splitlines()[0]}",
            hint="check the path, and that this machine has the model or can reach the hub",
        ) from fault
    if model.chat_template is not None:
        tokenizer.chat_template = model.chat_template
    if model.add_tokens:
        tokenizer.add_tokens(list(model.add_tokens))
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token is None:
        raise DataError("the tokenizer has neither pad_token nor eos_token")
    tokenizer.save_pretrained(job.run_dir.tokenizer)
    tokenizer.model_max_length = sys.maxsize  # rows are cut here, at `data.max_length`; a warning would mislead
    return tokenizer


def write_base(job: Job, tokenizer: Any) -> None:
    """Build the model of a `from_config` recipe with seeded random weights and save it into the run.

    Raises:
        DataError: transformers knows no such model, or its vocabulary is smaller than the tokenizer's.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    wanted = {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        **(job.plan.model.from_config or {}),
    }
    kind = wanted.pop("model_type", None)
    if wanted["vocab_size"] < len(tokenizer):
        raise DataError(
            f"model.from_config: vocab_size is {wanted['vocab_size']}, the tokenizer has {len(tokenizer)} tokens"
        )
    try:
        config = AutoConfig.for_model(kind, **wanted)
        torch.manual_seed(job.plan.trainer["seed"])
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    except (ValueError, TypeError) as fault:
        raise DataError(f"model.from_config: {str(fault).splitlines()[0]}") from fault
    model.save_pretrained(job.run_dir.base)


def folder_hash(folder: Path) -> str:
    """sha256 of a folder's file names and contents, in the order of the names."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()
