"""The adapter of a finished run merged into its base: a plain model in RUN/merged, checked before it gets that name."""

from __future__ import annotations

import gc
import resource
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from datasets import load_from_disk
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed
from transformers.trainer_utils import align_special_tokens

from launcher.errors import EnvironmentFault, RunFailed
from launcher.plan.types import MergeBase
from launcher.runs import attempts, checkpoints, events
from launcher.runs.files import sync
from launcher.worker.data.progress import Progress
from launcher.worker.float32 import largest_difference, logits
from launcher.worker.job import Job
from launcher.worker.model import load_model

_ROWS, _TOKENS = 2, 64
_TOLERANCE = {"float32": 1e-4, "float16": 0.025, "bfloat16": 0.2}
"""Max |Δlogit| as a share of the largest |logit|, by the type that is saved: at least four times what rounding the weights
does to random models of up to 48 layers (benchmarks/results/2026-11-24-merge.md)."""
_OF_THE_ADAPTER = ("adapter_", "README.md")


@dataclass(frozen=True)
class Difference:
    """How far logits lie from those that they should be; max |Δlogit| over some rows."""

    merged: float
    """The saved model, from the adapter on the same base."""
    allowed: float
    adapter: float
    """The base without the adapter, from the same: what merging must keep."""
    trained: float
    """The saved model, from the model that was trained."""


def merge(job: Job, attempt: int, base: MergeBase) -> None:
    """Merge RUN/model into `base`, save, load what was saved, and put it in RUN/merged if it is the same model.

    Holds one copy of the weights in the plan's type at a time, plus one layer and the embeddings in float32.

    Raises:
        EnvironmentFault: the base or the adapter cannot be loaded.
        RunFailed: what was saved does not compute what adapter and base do, or another attempt has begun.
    """
    began, run_dir = time.monotonic(), job.run_dir
    at = Progress(print, run_dir, "export").at
    for old in run_dir.merged_drafts:
        shutil.rmtree(old, ignore_errors=True)
    draft = run_dir.merged_draft(attempt)
    rows = _rows(job)
    tokenizer = AutoTokenizer.from_pretrained(run_dir.tokenizer, trust_remote_code=job.plan.model.trust_remote_code)

    trained = None
    if job.plan.method == "qlora" and base == "original":
        at("asking the trained model", None)
        trained = logits(_with_adapter(job, _base(job, tokenizer, "quantized")), rows)
        gc.collect()  # a model's parts refer to one another
    at(f"merging into the {base} base", None)
    model = _with_adapter(job, _base(job, tokenizer, base))
    expected = logits(model, rows)
    with model.disable_adapter():
        untuned = logits(model, rows)
    model = model.merge_and_unload(safe_merge=True)
    align_special_tokens(model, tokenizer)  # as the trainer did before the first step
    model.save_pretrained(draft, max_shard_size="5GB")
    _add_tokenizer(run_dir.model, draft)
    del model
    gc.collect()

    at("loading what was saved", None)
    saved = logits(_plain(job, draft), rows)
    found = Difference(
        merged=largest_difference(saved, expected),
        allowed=_TOLERANCE[job.plan.model.dtype] * max(float(each.abs().max()) for each in expected),
        adapter=largest_difference(untuned, expected),
        trained=largest_difference(saved, trained or expected),
    )
    _check(found)
    if found.merged > found.adapter / 2:
        events.append(run_dir.events, "warning", message=_swamped(found, job.plan.model.dtype))
    size = _publish(job, attempt, draft)
    events.append(
        run_dir.events,
        "export",
        folder=run_dir.merged.name,
        base=base,
        dtype=job.plan.model.dtype,
        bytes=size,
        logits={name: _short(value) for name, value in vars(found).items()},
        seconds=round(time.monotonic() - began, 1),
        memory_gib=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 3),
    )


def _rows(job: Job) -> list[list[int]]:
    """The beginnings of some trained rows."""
    try:
        rows = load_from_disk(job.run_dir.prepared("train"))
    except FileNotFoundError:
        hint = "a copied run needs its `data/` for this"
        raise EnvironmentFault(
            f"{job.run_dir.prepared('train')} is missing: no rows to compare by", hint=hint
        ) from None
    return [list(row["input_ids"][:_TOKENS]) for row in rows.select(range(min(_ROWS, len(rows))))]


def _base(job: Job, tokenizer: Any, base: MergeBase) -> Any:
    """The base model without an adapter, and without quantization: none was asked for, or its weights are expanded."""
    plan = job.plan
    model = replace(plan.model, adapter=None, attn_implementation="eager")  # every model has it, on every device
    quantization = plan.quantization if base == "quantized" else None
    set_seed(plan.trainer["seed"])  # rows of new tokens start as they did
    loaded = load_model(replace(job, plan=replace(plan, model=model, quantization=quantization)), tokenizer)
    if getattr(loaded, "hf_quantizer", None) is not None:
        # peft would merge into the quantized layers and round the sum to their few bits again.
        loaded = loaded.dequantize(dtype=getattr(torch, plan.model.dtype))
    return loaded


def _with_adapter(job: Job, base: Any) -> Any:
    try:
        return PeftModel.from_pretrained(base, str(job.run_dir.model))
    except (OSError, ValueError) as fault:
        where = job.run_dir.model
        raise EnvironmentFault(f"the adapter in {where} cannot be loaded: {str(fault).splitlines()[0]}") from fault


def _plain(job: Job, folder: Path) -> Any:
    """The saved model, loaded as anybody would."""
    trusted = job.plan.model.trust_remote_code
    return AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", trust_remote_code=trusted)


def _add_tokenizer(result: Path, draft: Path) -> None:
    """Tokenizer, chat template and all else of the result that is not the adapter's, byte for byte."""
    for path in filter(Path.is_file, result.iterdir()):
        if not path.name.startswith(_OF_THE_ADAPTER) and not (draft / path.name).exists():
            shutil.copyfile(path, draft / path.name)


def _check(found: Difference) -> None:
    if not found.merged <= found.allowed:  # so written, it also holds for what is not a number
        raise RunFailed(
            f"the merged model is another one than adapter and base: logits differ by up to {found.merged:.3g}, "
            f"{found.allowed:.3g} is allowed (the adapter itself moves them by {found.adapter:.3g})",
            hint="RUN/model, the adapter, is whole: use it with peft on its base",
        )


def _swamped(found: Difference, dtype: str) -> str:
    return (
        f"rounding the merged weights to {dtype} moves the logits by up to {found.merged:.2g}, the adapter by {found.adapter:.2g}: "
        "little of it is left; RUN/model has all of it"
    )


def _publish(job: Job, attempt: int, draft: Path) -> int:
    """Put the checked folder where it belongs; returns its bytes."""
    run_dir = job.run_dir
    files: Sequence[Path] = [path for path in draft.rglob("*") if path.is_file()]
    for path in files:
        sync(path)
    size = sum(path.stat().st_size for path in files)
    if (newest := max(attempts.numbers(run_dir), default=0)) > attempt:
        raise RunFailed(f"attempt {newest} has taken over {run_dir.name}", hint="`launcher status` shows the run")
    checkpoints.discard(run_dir, run_dir.merged)
    draft.rename(run_dir.merged)
    sync(run_dir.root)
    return size


def _short(value: float) -> float:
    """Three digits."""
    return float(f"{value:.3g}")
