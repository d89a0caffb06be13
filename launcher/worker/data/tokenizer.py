"""The tokenizer of a run, written once, and the random model of a `from_config` recipe."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from launcher.errors import DataError, EnvironmentFault
from launcher.plan import hub_cache
from launcher.text import did_you_mean
from launcher.worker.job import Job


def write_tokenizer(job: Job) -> Any:
    """Load the tokenizer that the plan names, give it template, tokens and pad token, and save it into the run.

    Raises:
        DataError: it has no token that ends a text.
        EnvironmentFault: it cannot be loaded.
    """
    model = job.plan.model
    tokenizer = _loaded(job)
    if model.chat_template is not None:
        tokenizer.chat_template = model.chat_template
    if model.add_tokens:
        tokenizer.add_tokens(list(model.add_tokens))
    if tokenizer.eos_token is None:
        raise DataError(
            "the tokenizer has no eos_token, so a trained model would never stop",
            hint=f'write the token that ends a text into its tokenizer_config.json{_where(job)}: `"eos_token": "…"`',
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(job.run_dir.tokenizer)
    tokenizer.model_max_length = sys.maxsize  # rows are cut here, at `data.max_length`; a warning would mislead
    return tokenizer


def _loaded(job: Job) -> Any:
    from transformers import AutoTokenizer

    from launcher.worker import hub

    model = job.plan.model
    name, local = _source(job)
    revision = None if local else _revision(job, name)
    try:
        return AutoTokenizer.from_pretrained(
            _fetched(name, revision) or name,
            revision=revision,
            trust_remote_code=model.trust_remote_code,
            local_files_only=not local and not hub.reachable(),
        )
    except ImportError:
        raise
    except Exception as fault:
        # A damaged file of a tokenizer fails anywhere in its reading, with any error.
        message = f"tokenizer `{name}` cannot be loaded: {_line(fault)}"
        hint = "check the path: a tokenizer's folder holds tokenizer.json and tokenizer_config.json"
        if "trust_remote_code" in str(fault):
            message = f"`{name}` brings Python code of its own, and transformers has none for its type"
            hint = "read that code, then set `model.trust_remote_code: true`"
        elif not local:
            message, hint = hub.fault_of("tokenizer", name, fault)
        raise EnvironmentFault(message, hint=hint) from fault


def _source(job: Job) -> tuple[str, bool]:
    """Where the tokenizer is loaded from, and whether that is a folder: the tokenizer that was named, or the model's."""
    model = job.plan.model
    if model.tokenizer is None and job.placed("tokenizer") is None:
        return job.placed("model") or str(model.name), job.placed("model") is not None
    return job.placed("tokenizer") or str(model.tokenizer), job.placed("tokenizer") is not None


def _revision(job: Job, name: str) -> str | None:
    model = job.plan.model
    return model.revision if name == model.name else model.tokenizer_revision


def _fetched(name: str, revision: str | None) -> str | None:
    """The folder of a tokenizer at a commit in the hub's cache: read as a folder, no file is looked for that it never had."""
    folder = hub_cache.snapshot(hub_cache.hub_cache(), "model", name, revision or "")
    there = (
        revision is not None and hub_cache.COMMIT.fullmatch(revision) and (folder / "tokenizer_config.json").exists()
    )
    return str(folder) if there else None


def _where(job: Job) -> str:
    name, local = _source(job)
    return f" in {name}" if local else f" in a copy of `{name}`"


def write_base(job: Job, tokenizer: Any) -> None:
    """Build the model of a `from_config` recipe with seeded random weights and save it into the run.

    Raises:
        DataError: transformers knows no such model, or its vocabulary is smaller than the tokenizer's.
    """
    import torch
    from huggingface_hub.errors import StrictDataclassError
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
        _check_keys(config, job.plan.model.from_config or {})
        torch.manual_seed(job.plan.trainer["seed"])
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    except (ArithmeticError, LookupError, TypeError, ValueError, StrictDataclassError) as fault:
        raise DataError(f"model.from_config: {_line(fault)}") from fault
    model.save_pretrained(job.run_dir.base)


def _check_keys(config: Any, written: Mapping[str, Any]) -> None:
    """Refuse a misspelt key, which transformers would keep as an attribute that nothing reads."""
    known = {each.name for each in fields(config)} | set(config.attribute_map)
    for name in written:
        near = None if name in known else did_you_mean(name, sorted(known), cutoff=0.8)
        if near:
            raise DataError(f"model.from_config: `{config.model_type}` has no `{name}`", hint=f"did you mean `{near}`?")


def _line(fault: Exception) -> str:
    """The error on one line, with its type where the text alone says nothing."""
    text = " ".join(str(fault).split())[:200]
    return f"{type(fault).__name__}: {text}" if isinstance(fault, LookupError | AttributeError) else text


def folder_hash(folder: Path) -> str:
    """sha256 of a folder's file names and contents, in the order of the names."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()
