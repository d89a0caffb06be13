"""What this machine is called where its speed is noted."""

from __future__ import annotations

import re
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")


def processor(cpuinfo: Path = _CPUINFO) -> str:
    """The processor by its own words, `Intel Xeon Platinum 8480`; `cpu` where the kernel does not say."""
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "cpu"
    found = re.search(r"^(?:model name|Model|Hardware|uarch)\s*:\s*(.+)$", text, re.MULTILINE)
    words = re.sub(r"\((?:R|TM|C)\)|\bCPU\b|@.*", " ", found[1] if found else "").split()
    return " ".join(words) or "cpu"
