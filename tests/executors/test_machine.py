"""`launcher doctor` on this machine."""

import json

import pytest

from launcher.cli.main import main
from launcher.executors import machine


def test_versions_are_held_against_the_tested_ones():
    """The pins of the release; a local build's suffix (`2.13.0+cpu`) is the same version."""
    pins = machine.tested()
    assert {"torch", "transformers", "trl", "peft", "datasets", "accelerate", "bitsandbytes"} <= set(pins)
    found = {each.key: each for each in machine.packages({**pins, "pydantic": "0.1", "no-such-package": "1"})}
    assert found["trl"].level == "ok"
    assert (found["pydantic"].level, found["pydantic"].hint) == ("warning", "pip install 'pydantic==0.1'")
    assert (found["no-such-package"].level, found["no-such-package"].hint) == (
        "error",
        "pip install 'finetune-launcher[train,eval]'",
    )


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No hub is asked, and nobody's cache is looked at."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))


def test_this_machine_in_json(offline, tmp_path, capsys):
    """One finding for each thing that was looked at."""
    assert main(["doctor", "--json", "--runs", str(tmp_path)]) == 0
    found = {each["key"]: each for each in json.loads(capsys.readouterr().out)["findings"]}
    assert {"python", "torch", "gpus", "machine", "disk", "cache", "hub"} <= set(found)
    assert found["hub"]["level"] == "ok"


def test_a_folder_that_cannot_be_written_is_an_error(offline, tmp_path, capsys):
    """Here a file stands where the runs should go."""
    (tmp_path / "file").write_text("")
    assert main(["doctor", "--runs", str(tmp_path / "file" / "runs")]) == 4
    assert "cannot be written" in capsys.readouterr().out


def test_a_hub_that_does_not_answer_is_a_warning(offline, monkeypatch):
    """A port that nobody listens on."""
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", "https://127.0.0.1:9")
    (hub,) = [each for each in machine.findings(machine.cache()) if each.key == "hub"]
    assert (hub.level, "127.0.0.1:9 cannot be reached" in hub.message) == ("warning", True)


@pytest.mark.parametrize("name", ["local", "../x", "-x", "a b"])
def test_write_needs_a_name_that_can_be_one(name, capsys):
    """Nothing is asked of SLURM before that."""
    assert main(["doctor", f"--cluster={name}", "--write"]) == 2
    assert "--write needs a name" in (said := capsys.readouterr().err) or "cannot be a profile's name" in said


def test_without_slurm_the_doctor_says_so(monkeypatch, capsys):
    """The machine where one submits is a login node."""
    monkeypatch.setenv("PATH", "/nowhere")
    assert main(["doctor", "--cluster", "generic"]) == 4
    assert "`scontrol` is not on this machine" in capsys.readouterr().err
