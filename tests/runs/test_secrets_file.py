"""The file of secrets: read by its owner only, and what it holds is shown nowhere."""

import json
import os

import pytest

from launcher.errors import EnvironmentFault
from launcher.runs import events, secrets_file
from launcher.worker.faults import Ending, ExitNote
from launcher.worker.process import _lossy


def file_of(folder, text, mode=0o600):
    path = folder / "secrets.env"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_lines_are_names_and_values(tmp_path):
    """As people copy them from a shell's start-up file."""
    path = file_of(tmp_path, "# mine\n\nHF_TOKEN=one=1\nexport WANDB_API_KEY='two 2'\n  A=\"$x `y`\"  \n")
    assert secrets_file.read(path) == {"HF_TOKEN": "one=1", "WANDB_API_KEY": "two 2", "A": "$x `y`"}


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o644])
def test_a_file_that_others_may_open_is_refused_with_what_to_type(tmp_path, mode):
    """Any right of any other user counts."""
    path = file_of(tmp_path, "HF_TOKEN=canary-1\n", mode)
    with pytest.raises(EnvironmentFault, match="others may read") as caught:
        secrets_file.read(path)
    assert caught.value.hint == f"chmod 600 {path}"


def test_a_file_of_somebody_else_is_refused(tmp_path, monkeypatch):
    """They could change it."""
    path = file_of(tmp_path, "HF_TOKEN=canary-1\n")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(EnvironmentFault, match="belongs to somebody else"):
        secrets_file.read(path)


def test_what_is_no_file_is_refused_at_once(tmp_path):
    """A pipe would be waited for, and a folder has no lines."""
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(EnvironmentFault, match="not a plain file"):
        secrets_file.read(tmp_path / "pipe")
    with pytest.raises(EnvironmentFault, match="cannot be read: Is a directory"):
        secrets_file.read(tmp_path)
    with pytest.raises(EnvironmentFault, match="cannot be read: No such file"):
        secrets_file.read(tmp_path / "none")


def test_all_faults_are_told_by_line_and_name_and_never_by_value(tmp_path):
    """The message is printed, and ends up in logs."""
    path = file_of(tmp_path, "canary-1\nHF_TOKEN=canary-2\nHF_TOKEN=canary-3\n9X=canary-4\nEMPTY=\nA B=canary-5\n")
    with pytest.raises(EnvironmentFault) as caught:
        secrets_file.read(path)
    assert caught.value.message.splitlines() == [
        f"{path}:1: no NAME=VALUE",
        f"{path}:3: HF_TOKEN stands there twice",
        f"{path}:4: no NAME=VALUE",
        f"{path}:5: no NAME=VALUE (EMPTY)",
        f"{path}:6: no NAME=VALUE",
    ]
    assert "canary" not in caught.value.message + caught.value.hint


def test_loading_fills_what_is_not_set(tmp_path):
    """A value that a person has given by hand is meant."""
    environ = {secrets_file.PATH: str(file_of(tmp_path, "A=file\nB=file\n")), "A": "hand"}
    secrets_file.load(environ)
    assert (environ["A"], environ["B"], environ[secrets_file.NAMES]) == ("hand", "file", "A,B")
    secrets_file.load(nothing := {})
    assert nothing == {}


@pytest.mark.parametrize(
    ("environ", "text", "shown"),
    [
        ({"HF_TOKEN": "canary-1"}, "bad canary-1!", "bad <HF_TOKEN>!"),
        ({"SITE": "canary-1"}, "canary-1", "canary-1"),
        ({"SITE": "canary-1", secrets_file.NAMES: "A,SITE"}, "canary-1", "<SITE>"),
        ({"A_SECRET": "canary", "B_SECRET": "canary-long"}, "canary-long canary", "<B_SECRET> <A_SECRET>"),
        ({"A_TOKEN": 'can"ary\\1'}, json.dumps({"e": 'can"ary\\1'}), '{"e": "<A_TOKEN>"}'),
        ({"A_TOKEN": "short"}, "shorten", "shorten"),
        ({}, "hf_" + "a1" * 17, "hf_…"),
    ],
)
def test_values_are_named_instead_of_shown(environ, text, shown):
    """By the file's names, by what sounds like a secret, and by the shape of well-known ones."""
    assert secrets_file.hide(text, environ) == shown


def test_events_notes_and_logs_show_names_only(tmp_path, monkeypatch):
    """Wherever an error's text goes."""
    monkeypatch.setenv("WANDB_API_KEY", "canary-key")
    events.append(tmp_path / "events.jsonl", "end", step=1, state="failed", error="401 for canary-key")
    note = ExitNote(tmp_path / "exit-0.json", tmp_path / "rank-0.log", tmp_path)
    note.write(93, Ending("code", "401 for canary-key", "ask who gave you canary-key"))
    descriptor = os.open(tmp_path / "rank-0.log", os.O_WRONLY | os.O_CREAT)
    with _lossy(descriptor) as log:
        log.write("401 for canary-key\nstep 1\n")
    os.close(descriptor)

    assert events.read(tmp_path / "events.jsonl")[0]["error"] == "401 for <WANDB_API_KEY>"
    assert json.loads((tmp_path / "exit-0.json").read_text())["hint"] == "ask who gave you <WANDB_API_KEY>"
    assert (tmp_path / "rank-0.log").read_text() == "401 for <WANDB_API_KEY>\nstep 1\n"
