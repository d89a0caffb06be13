"""`python -m launcher.worker.fetch`: what `launcher fetch` starts, because the hub's client and `datasets` live here.

Reads a request as JSON from standard input (see `launcher.executors.fetch`) and answers with JSON on standard output:
`pins`, the text of a lock file, and `downloaded`, in bytes; or `error`, `hint` and `code`.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from launcher.errors import Exit, LauncherError
from launcher.plan import pins
from launcher.plan.pins import Pins, Want
from launcher.worker.fetcher import Fetcher
from launcher.worker.process import die_with_parent


def main() -> int:
    """Answer one request. What libraries print goes to standard error: it must not get between."""
    answer = os.dup(1)
    os.dup2(2, 1)
    code, told = _answer(json.load(sys.stdin))
    with open(answer, "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor
        json.dump(told, file, ensure_ascii=False)
    return code


def _answer(request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    fetcher = Fetcher(facts=request["facts"], check=request["check"])
    known = pins.loads(request["pins"], "the request")
    found: Pins = {}
    try:
        for key, each in request["wants"].items():
            want = Want(**each)
            pin = known.get(key)
            current = pin if pin is not None and pins.is_current(pin, want) else None
            found[key] = fetcher.fetch(key, want, current, _commit(want, {**known, **found}))
    except LauncherError as fault:
        return fault.exit_code, {"error": fault.message, "hint": fault.hint, "code": fault.exit_code}
    return Exit.DONE, {"pins": pins.dumps(found), "downloaded": fetcher.downloaded}


def _commit(want: Want, known: Pins) -> str | None:
    """Where the same branch of the same repository was found before: sources of one data set are of one commit."""
    named = (want.kind, want.repo, want.revision)
    return next((pin.commit for pin in known.values() if (pin.kind, pin.repo, pin.revision) == named), None)


if __name__ == "__main__":
    die_with_parent(os.getppid())
    sys.exit(main())
