"""Stands in for the Python that runs a stage: the warm server, which has its imports done, runs it instead."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def python(folder: Path) -> Path:
    """A program that takes the arguments of `python -m launcher.worker.stage RUN prepare`."""
    program = folder / "python"
    program.write_text(
        f"#!{sys.executable} -SE\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom tests.corpus import stage\nstage.main()\n"
    )
    program.chmod(0o700)
    return program


def main() -> None:
    """Have the stage run, pass on what it writes, and leave with its exit code."""
    from tests.support import warm

    run_dir = sys.argv[sys.argv.index("launcher.worker.stage") + 1]
    result = warm.run("tests.support.cases:prepare", {"run_dir": run_dir}, timeout=60)
    sys.stdout.write("".join(result.logs))
    sys.stdout.flush()
    os._exit(result.value if result.codes == (0,) else 1)
