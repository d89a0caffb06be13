"""What a worker reads before it starts: the plan, where its files are on this machine, and what `prepare` made."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.errors import EnvironmentFault
from launcher.plan import codec
from launcher.plan.types import Plan
from launcher.runs.files import read_json
from launcher.runs.paths import RunDir

LOCAL_MODEL = "LAUNCHER_LOCAL_MODEL"
"""Names the copy of the model on this node's own disk, where `launcher.worker.local_copy` has made one."""


@dataclass(frozen=True)
class Job:
    """One run, read from its directory."""

    run_dir: RunDir
    plan: Plan
    placement: dict[str, str | list[str]]
    """Absolute paths on this machine; whatever is not in it comes from the hub."""

    def placed(self, key: str) -> str | None:
        """The local path under one key of the placement."""
        value = self.placement.get(key)
        return value if isinstance(value, str) else None

    @property
    def base_model(self) -> str:
        """Where the untuned model is loaded from: the local path, the folder of a `from_config` model, or the hub id."""
        if self.plan.model.from_config is not None:
            return str(self.run_dir.base)
        return self.placed("model") or str(self.plan.model.name)

    @property
    def local_copy(self) -> str | None:
        """The copy of the base model on this node's own disk; it says what `base_model` says, and is read faster."""
        named = os.environ.get(LOCAL_MODEL)
        return named if named and Path(named).is_dir() and self.plan.model.from_config is None else None

    def data_facts(self) -> dict[str, Any]:
        """`data.json`.

        Raises:
            EnvironmentFault: `prepare` has not finished.
        """
        facts = read_json(self.run_dir.data_facts)
        if facts is None:
            raise EnvironmentFault(
                "data.json is missing: the data has not been prepared", hint="run the stage `prepare`"
            )
        return facts


def load(root: Path) -> Job:
    """Read a run directory.

    Raises:
        EnvironmentFault: the directory holds no plan, or one this version cannot read.
    """
    run_dir = RunDir(root.resolve())
    try:
        text = run_dir.plan.read_text(encoding="utf-8")
    except OSError:
        raise EnvironmentFault(f"{run_dir.plan}: cannot be read", hint="name a run directory") from None
    return Job(run_dir, codec.loads(text), dict(read_json(run_dir.placement) or {}))


def sha256_json(value: Any) -> str:
    """sha256 of a value as JSON with sorted keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
