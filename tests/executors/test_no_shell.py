"""No value of a recipe or a command line reaches a shell."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.plan.types import Job
from launcher.render.command import command, shell_lines
from tests.runs.test_names import HOSTILE

ROOT = Path(__file__).parent.parent.parent / "launcher"
FORBIDDEN = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "pty.spawn"}


def calls(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


def test_no_module_starts_a_shell():
    """Every command is an argument list: there is nothing to quote, so nothing to forget."""
    seen = 0
    for path in ROOT.rglob("*.py"):
        for call in calls(ast.parse(path.read_text(encoding="utf-8"))):
            seen += 1
            assert ast.unparse(call.func) not in FORBIDDEN, f"{path}:{call.lineno}"
            assert not [word for word in call.keywords if word.arg == "shell"], f"{path}:{call.lineno}"
    assert seen > 1000


@pytest.mark.parametrize("value", [value for value in HOSTILE if "\0" not in value])
def test_a_hostile_path_is_one_argument_and_one_quoted_word(value, tmp_path):
    """In the argument list it stands as it is; in the line for people a shell reads it back as it is."""
    job = Job(
        "train", ("{python}", "-c", "import sys; print(ascii(sys.argv[1:]))", "{run_dir}"), {}, nodes=1, processes=1
    )
    argv = command(job, value, sys.executable)
    assert argv[-1] == value
    line = shell_lines(job, value, sys.executable)[0]
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.strip() == ascii([value])
    assert list(tmp_path.iterdir()) == []
