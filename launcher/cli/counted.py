"""What `launcher plan --trace` adds: memory counted on small copies of the model, beside the formula's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from launcher.executors.trace import trace
from launcher.plan import codec
from launcher.plan.types import Plan
from launcher.predict.prediction import Memory
from launcher.predict.traced import Trace, memory
from launcher.render.trace_text import trace_text


@dataclass(frozen=True)
class Counted:
    """A plan with its trace."""

    plan: Plan
    trace: Trace
    memory: Memory

    def text(self) -> str:
        """The lines for people."""
        found = self.plan.prediction
        return trace_text(self.trace, self.memory, found.memory if found else None, device=self.plan.device)

    def json(self) -> str:
        """The plan's JSON with one key more, `trace`."""
        plan = json.loads(codec.dumps(self.plan))
        told = {"memory": asdict(self.memory), **asdict(self.trace)}
        return json.dumps({**plan, "trace": told}, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def counted(plan: Plan, config: Mapping[str, Any]) -> Counted:
    """Trace a plan, in seconds.

    Args:
        plan: what would run.
        config: the model's `config.json`.

    Raises:
        LauncherError: it cannot be traced.
    """
    made = trace(plan, config)
    formula = plan.prediction.memory if plan.prediction else None
    return Counted(plan, made, memory(made, strategy=plan.strategy, formula=formula))
