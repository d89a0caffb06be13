"""Whether tokenizer, chat template and model belong together, before a row is read."""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from launcher.errors import DataError, EnvironmentFault
from launcher.plan.hub_cache import cached_file
from launcher.plan.template import template_fault
from launcher.text import quote
from launcher.worker import hub
from launcher.worker.job import Job

_MIB = 1 << 20
_TOKENIZER_LIMIT = 256 * _MIB
_OUTPUT_MIB, _MEMORY_MIB = 64, 1024


def check(job: Job, tokenizer: Any) -> tuple[str, ...]:
    """Everything that can be said of the tokenizer before it is used.

    Returns:
        What trains, but is worth a line.

    Raises:
        DataError: tokenizer, template and model do not belong together.
        EnvironmentFault: the model's configuration cannot be loaded.
    """
    config = load_config(job)
    check_template(job, tokenizer)
    if config is not None:
        check_rows(job, tokenizer, _rows(config))
    return (*_padding(tokenizer), *_other_model(job, tokenizer, config))


def load_config(job: Job) -> Any | None:
    """The model's configuration, with which `train` will load it; None for a `from_config` model.

    Raises:
        DataError: it is not a model that continues text.
        EnvironmentFault: it cannot be loaded.
    """
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    model = job.plan.model
    if model.from_config is not None:
        return None
    local = job.placed("model") is not None
    named = {name: model.init_kwargs[name] for name in ("gguf_file", "subfolder") if name in model.init_kwargs}
    try:
        config = AutoConfig.from_pretrained(
            job.base_model,
            revision=None if local else model.revision,
            trust_remote_code=model.trust_remote_code,
            local_files_only=not local and not hub.reachable(),
            **named,
        )
    except ImportError:
        raise
    except Exception as fault:
        # A damaged configuration fails anywhere in its reading, with any error.
        raise _model_fault(job, fault, local=local) from fault
    own = getattr(config, "auto_map", None) or {}
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING and "AutoModelForCausalLM" not in own:
        raise DataError(
            f"model `{job.base_model}` is of type `{config.model_type}`, which does not continue text",
            hint="name a causal language model",
        )
    return config


def _model_fault(job: Job, fault: Exception, *, local: bool) -> EnvironmentFault:
    text = " ".join(str(fault).split())[:200]
    if "trust_remote_code" in str(fault):
        return EnvironmentFault(
            f"model `{job.base_model}` brings Python code of its own, and transformers has none for its type",
            hint="read that code, then set `model.trust_remote_code: true`",
        )
    if local:
        message = f"model `{job.base_model}`: its config.json cannot be loaded: {text}"
        return EnvironmentFault(message, hint="a newer type needs a newer transformers")
    message, hint = hub.fault_of("model", job.base_model, fault)
    return EnvironmentFault(message, hint=hint)


def check_template(job: Job, tokenizer: Any) -> None:
    """Refuse a chat template that is not Jinja, with its file and line.

    Raises:
        DataError: it is not.
    """
    template = tokenizer.chat_template
    text = template.get("default") if isinstance(template, Mapping) else template
    fault = template_fault(text) if isinstance(text, str) else None
    if fault is None:
        return
    line, message = fault
    raise DataError(
        f"{template_file(job)}:{line}: {message}",
        hint="correct it, or name another file in `model.chat_template_path`",
    )


def require_template(tokenizer: Any) -> None:
    """Refuse a tokenizer without a chat template, where rows are conversations.

    Raises:
        DataError: it has none.
    """
    if tokenizer.chat_template is None:
        raise DataError(
            "the rows are conversations, but this tokenizer has no chat template",
            hint="name a .jinja file in `model.chat_template_path`, or use the tokenizer of the chat model (`model.tokenizer_name_or_path`)",
        )


def template_file(job: Job) -> str:
    """Where the chat template stands: the recipe's file, the one beside the tokenizer, or the tokenizer."""
    if job.plan.model.chat_template is not None:
        return "model.chat_template_path"
    folder = job.placed("tokenizer") or job.placed("model")
    if folder is None:
        return f"tokenizer `{job.plan.model.tokenizer or job.plan.model.name}`"
    file = Path(folder) / "chat_template.jinja"
    return str(file if file.is_file() else Path(folder))


def check_rows(job: Job, tokenizer: Any, rows: int | None) -> None:
    """Refuse tokens for which the model has no embedding row, unless the recipe adds them.

    Args:
        job: the run; `model.add_tokens` makes rows for tokens.
        tokenizer: the tokenizer.
        rows: rows of the input embedding; None: not known.

    Raises:
        DataError: there are such tokens; training would stop at the first, on a GPU without a word.
    """
    past = {token: number for token, number in tokenizer.get_vocab().items() if rows is not None and number >= rows}
    past = {token: number for token, number in past.items() if token not in job.plan.model.add_tokens}
    if not past:
        return
    token, number = max(past.items(), key=lambda item: item[1])
    chosen = job.placed("tokenizer") or job.plan.model.tokenizer
    hint = "remove `model.tokenizer_name_or_path`" if chosen else "use the tokenizer that this model was trained with"
    if len(past) <= 8:
        listed = json.dumps(sorted(past, key=lambda each: past[each]), ensure_ascii=False)
        hint += f", or write `model.add_tokens: {listed}`, which adds rows to the model"
    count = "1 token" if len(past) == 1 else f"{len(past)} tokens, the last"
    raise DataError(
        f"tokenizer `{chosen or job.base_model}` has ids up to {number}, model `{job.base_model}` {rows} embedding rows: none for {count} {quote(token)}",
        hint=hint,
    )


def render_with_limit(render: Callable[[], object], *, seconds: float = 5.0) -> None:
    """Render once in a child process, so that a template without an end costs seconds and not the run.

    Args:
        render: one rendering; what it raises is left to the next call outside.
        seconds: time limit.

    Raises:
        DataError: it takes longer, writes more than 64 MiB, or needs 1 GiB of memory more than this process has.
    """
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        # The child only runs Jinja, which holds no lock of another thread.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        _render_in_child(writer, render)
    os.close(writer)
    try:
        in_time = bool(select.select([reader], [], [], seconds)[0])
        answer = os.read(reader, 32) if in_time else b""
    finally:
        os.close(reader)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    hint = "look for a loop in it, or name another file in `model.chat_template_path`"
    if not in_time:
        raise DataError(f"the chat template takes more than {seconds:g} s for one conversation", hint=hint)
    if not answer:
        raise DataError(
            f"the chat template takes more than {_MEMORY_MIB} MiB of memory for one conversation", hint=hint
        )
    if int(answer) > _OUTPUT_MIB * _MIB:
        raise DataError(f"the chat template writes more than {_OUTPUT_MIB} MiB for one conversation", hint=hint)


def _render_in_child(writer: int, render: Callable[[], object]) -> NoReturn:
    try:
        statm = Path("/proc/self/statm")
        if statm.exists():
            limit = int(statm.read_text().split()[0]) * resource.getpagesize() + _MEMORY_MIB * _MIB
            resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
        try:
            length = len(str(render()))
        except MemoryError:
            os._exit(1)
        except Exception:  # noqa: BLE001 - the next rendering raises it where it is understood
            length = 0
        os.write(writer, str(length).encode())
    finally:
        os._exit(0)


def _padding(tokenizer: Any) -> Iterator[str]:
    if tokenizer.pad_token is not None and tokenizer.pad_token == tokenizer.eos_token:
        yield f"{quote(tokenizer.eos_token)} ends and pads: where it ends an answer it is trained, as padding it is not"


def _rows(config: Any) -> int | None:
    rows = getattr(config.get_text_config(), "vocab_size", None)
    return rows if isinstance(rows, int) else None


def _other_model(job: Job, tokenizer: Any, config: Any | None) -> Iterator[str]:
    """Refuse a tokenizer that gives the model's own tokens other ids; without theirs, compare what config.json says."""
    model = job.plan.model
    chosen = job.placed("tokenizer") or model.tokenizer
    if chosen is None or config is None:
        return
    folder = job.placed("model")
    file = Path(folder) / "tokenizer.json" if folder else cached_file(str(model.name), model.revision, "tokenizer.json")
    theirs = _vocabulary(file) if file is not None else {}
    ours = tokenizer.get_vocab()
    moved = [token for token in ours if theirs.get(token, ours[token]) != ours[token]]
    if moved:
        token = min(moved, key=lambda each: ours[each])
        raise DataError(
            f"tokenizer `{chosen}` is another model's: {len(moved)} tokens have other ids in {file}, "
            f"for example {quote(token)} {theirs[token]}, here {ours[token]}",
            hint="remove `model.tokenizer_name_or_path`, or name a tokenizer that was made from the model's own",
        )
    if not theirs:
        yield from _other_ids(chosen, tokenizer, config)


def _other_ids(chosen: str, tokenizer: Any, config: Any) -> Iterator[str]:
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        wanted, ours = getattr(config.get_text_config(), name, None), getattr(tokenizer, name)
        known = wanted if isinstance(wanted, list) else [wanted]
        if None not in (ours, *known) and ours not in known:
            yield f"tokenizer `{chosen}` may be another model's: its {name} is {ours}, in config.json {wanted}"


def _vocabulary(file: Path) -> dict[str, int]:
    """Token → id of a `tokenizer.json`; empty where there is none that can be read."""
    if not file.is_file() or file.stat().st_size > _TOKENIZER_LIMIT:
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        vocabulary = content["model"]["vocab"]
        if isinstance(vocabulary, list):
            vocabulary = {piece: number for number, (piece, _) in enumerate(vocabulary)}
        return {**vocabulary, **{each["content"]: each["id"] for each in content.get("added_tokens", ())}}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}
