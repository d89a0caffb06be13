"""Which files of a hub repository a run needs: safetensors and text, no pickles, code only where it is trusted."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

_TEXT = (".json", ".jinja", ".txt", ".model", ".tiktoken", ".vocab")
_SAFE = (*_TEXT, ".safetensors")
INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_ADAPTER = ("adapter_config.json", "adapter_model.safetensors")
_CARD = ("README.md", ".huggingface.yaml", "dataset_infos.json")
_LOADED_FROM = ("subfolder", "variant", "gguf_file")


class UnusableRepository(Exception):
    """What a repository lacks, as the end of a sentence that begins with its name; and what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def of_model(names: Sequence[str], asked: Mapping[str, Any], index: Path | None) -> list[str]:
    """Files of a model with its tokenizer.

    Args:
        names: all files of the repository.
        asked: `trust_remote_code`, and the arguments of `from_pretrained` that name other files.
        index: `model.safetensors.index.json`, where there is one.

    Raises:
        UnusableRepository: it has no weights as safetensors.
    """
    texts = of_tokenizer(names, asked)
    if any(name in asked for name in _LOADED_FROM):  # which files that means is transformers' business
        return sorted({*texts, *(name for name in names if name.endswith((*_SAFE, ".gguf")))})
    if _SINGLE in names:
        return [*texts, _SINGLE]
    if index is None:
        pickles = [name for name in names if name.endswith((".bin", ".pt", ".pth"))]
        why = f"only pickles ({pickles[0]}), which run code when they are read" if pickles else "no weights"
        raise UnusableRepository(
            f"has no {_SINGLE}, but {why}",
            hint="convert it where you trust it (`from_pretrained`, then `save_pretrained`), and name that folder",
        )
    shards = json.loads(index.read_text(encoding="utf-8")).get("weight_map") or {}
    return [*texts, *sorted(set(shards.values()) & set(names))]


def of_tokenizer(names: Sequence[str], asked: Mapping[str, Any]) -> list[str]:
    """Configuration, vocabulary and templates; Python files where their code is trusted."""
    code = (".py",) if asked.get("trust_remote_code") else ()
    return [name for name in names if _is_beside(name) and name.endswith((*_TEXT, *code))]


def of_adapter(names: Sequence[str]) -> list[str]:
    """The two files of an adapter.

    Raises:
        UnusableRepository: one of them is not there.
    """
    for name in _ADAPTER:
        if name not in names:
            raise UnusableRepository(f"has no {name}", hint="name a LoRA adapter that peft saved as safetensors")
    return list(_ADAPTER)


def _is_beside(name: str) -> bool:
    """In the top folder, or one of a tokenizer's further templates; not of another export (`onnx/`, `original/`)."""
    return "/" not in name or name.startswith("additional_chat_templates/") or name.endswith(".py")


def of_data(names: Sequence[str], by_split: Mapping[str, Sequence[str]]) -> list[str]:
    """The files of the splits that are read, and what says how to read them."""
    card = [name for name in _CARD if name in names]
    return [*card, *sorted({file for files in by_split.values() for file in files})]


def splits(repo: str, commit: str, asked: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Split → its files, as `datasets.load_dataset` would find them.

    Raises:
        ValueError, OSError, DatasetsError: there is no such configuration, or no data file.
        UnusableRepository: it has no such split.
    """
    import datasets

    builder = datasets.load_dataset_builder(
        repo, asked.get("name"), data_files=asked.get("data_files"), revision=commit
    )
    found = {
        str(split): tuple(_inside(str(file), commit) for file in files)
        for split, files in (builder.config.data_files or {}).items()
    }
    named = list(_named(str(asked.get("split") or "train")))
    unknown = [name for name in named if name not in (*found, "all")]
    if unknown:
        raise UnusableRepository(f"has no split `{unknown[0]}`", hint=f"its splits: {', '.join(found)}")
    return found if "all" in named else {name: found[name] for name in named}


def _named(expression: str) -> Iterator[str]:
    """`train[:10%]+test` → train, test."""
    for part in expression.split("+"):
        yield re.sub(r"\[.*", "", part).strip()


def _inside(url: str, commit: str) -> str:
    """`hf://datasets/ORG/NAME@COMMIT/data/a.parquet` → `data/a.parquet`."""
    path = url.partition(f"@{commit}/")[2]
    if not path or "::" in url or ".." in PurePosixPath(path).parts:
        raise UnusableRepository(f"has data in {url}, outside the repository", hint="name the files themselves")
    return path
