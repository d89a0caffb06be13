"""`python -m launcher.worker.trace`: what `launcher plan --trace` starts, because torch and its family live here.

Reads a request as JSON from standard input, `plan` (the text of a plan.json) and `config` (the model's config.json), and
answers with JSON on standard output: what `launcher.worker.trace.tracing.trace` returns; or `error`, `hint` and `code`.
No weights are read and nothing is asked of a network.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from typing import Any

from launcher.errors import Exit, LauncherError
from launcher.plan import codec
from launcher.worker.process import die_with_parent

_MOST_SAID = 500
"""Characters of what a library said of a failure; its first line alone is often only the name of a check."""
_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRL_EXPERIMENTAL_SILENCE": "1", "CUDA_VISIBLE_DEVICES": ""}


def main() -> int:
    """Answer one request. What libraries print goes to standard error: it must not get between."""
    told_to = os.dup(1)
    os.dup2(2, 1)
    os.environ.update(_OFFLINE)
    warnings.simplefilter("ignore")
    code, told = answer(json.load(sys.stdin))
    with open(told_to, "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor
        json.dump(told, file, ensure_ascii=False)
    return code


def answer(request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Exit code and answer of one request."""
    try:
        plan = codec.loads(request["plan"])

        from launcher.worker.trace.tracing import trace

        return Exit.DONE, trace(plan, request["config"])
    except LauncherError as fault:
        return fault.exit_code, {"error": fault.message, "hint": fault.hint, "code": fault.exit_code}
    except Exception as fault:  # noqa: BLE001 - of any model; where a step fails here it would in a run
        said = " ".join(str(fault).split())[:_MOST_SAID]
        why = f"a step of `{request['config'].get('model_type')}` cannot be traced: {type(fault).__name__}: {said}"
        return Exit.ENVIRONMENT, {"error": why, "hint": None, "code": Exit.ENVIRONMENT}


if __name__ == "__main__":
    die_with_parent(os.getppid())
    sys.stdout.flush()
    code = main()
    sys.stderr.flush()
    os._exit(code)  # nothing is left to do, and taking libraries down takes a second
