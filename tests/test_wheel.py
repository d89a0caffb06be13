"""What is installed from the wheel is the whole product: recipes and presets travel, torch is not needed."""

import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """An empty environment with nothing but the built wheel and its base dependencies."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", folder, ROOT], check=True)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "env", with_pip=True)
    python = folder / "env" / "bin" / "python"
    install = ["-m", "pip", "--disable-pip-version-check", "-q", "install", "-c", ROOT / "constraints.txt", wheel]
    subprocess.run([python, *install], check=True)
    return folder / "env" / "bin"


def test_the_wheel_plans_a_shipped_recipe_without_torch(installed, tmp_path):
    """A login node has no torch, and still must answer `launcher plan`."""
    answer = subprocess.run(
        [installed / "launcher", "plan", "launcher:qwen3-8b-qlora-sft.yaml", "--on", "RTX4090x1"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert answer.returncode == 0, answer.stderr
    assert "QLoRA" in answer.stdout
    packages = subprocess.run([installed / "python", "-m", "pip", "list"], capture_output=True, text=True, check=True)
    assert "torch" not in packages.stdout


def test_running_without_the_training_packages_says_what_to_install(installed, tmp_path):
    """The light install must not answer `run` with an ImportError."""
    answer = subprocess.run(
        [installed / "launcher", "run", "launcher:demo.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert answer.returncode == 4
    assert "finetune-launcher[train" in answer.stderr
    assert "Traceback" not in answer.stderr
