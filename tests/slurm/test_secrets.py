"""Canaries in the submitter's environment and in the file of secrets: the ranks get the file's, and nothing else shows any."""

from __future__ import annotations

import hashlib
import json
import mmap
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.runs import attempts, submissions
from tests.slurm import processes
from tests.slurm.lab import ROOT, Lab, why_not
from tests.slurm.settings import Settings
from tests.slurm.site import PROFILE, Login, Tracked

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]

NAMES = ("HF_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY")
OUTSIDE = {name: f"canary-of-the-shell-{number}" for number, name in enumerate(NAMES)}
INSIDE = {name: f"canary-of-the-file-{number}" for number, name in enumerate(NAMES)}
DEFAULTS = {"SBATCH_EXPORT": "ALL", "SBATCH_PARTITION": "short", "SBATCH_TIMELIMIT": "1"}
"""What sbatch would take before the lines of a script."""
CANARIES = [value.encode() for value in (*OUTSIDE.values(), *INSIDE.values())]

# Python loads it in every process that finds it: it notes who sets HF_TOKEN, by a hash. In a run that is to fail, a rank
# does so later, with the secret in its error, as a library may that answers `401 for …`.
NOTES = """\
import hashlib, os, sys

def hook(event, args):
    if event == "os.putenv" and args[0] == b"HF_TOKEN":
        who = f"rank-{os.environ['RANK']}" if "RANK" in os.environ else os.path.basename(sys.argv[-1])
        with open(os.path.join(os.environ["NOTES"], who), "w") as file:
            file.write(hashlib.sha256(args[1]).hexdigest())
    if event == "import" and args[0] == "transformers" and {"RANK", "TO_FAIL"} <= os.environ.keys():
        raise RuntimeError(f"401 for {os.environ['HF_TOKEN']}")

if "NOTES" in os.environ:
    sys.addaudithook(hook)
"""


@pytest.fixture
def site(make_lab, tmp_path_factory, monkeypatch) -> Login:
    """A site with accounting, where that is installed, and a person whose shell holds secrets and has sbatch export them."""
    lab = make_lab(accounting=why_not(Settings(accounting=True)) is None)
    folder = tmp_path_factory.mktemp("login")
    (folder / "notes").mkdir()
    (folder / "notes" / "sitecustomize.py").write_text(NOTES)
    secrets = folder / "secrets.env"
    secrets.touch(mode=0o600)
    secrets.write_text("".join(f"{name}={value}\n" for name, value in INSIDE.items()))
    env = {**PROFILE["env"], "PYTHONPATH": f"{folder}/notes:{ROOT}", "NOTES": f"{folder}/notes"}
    login = Login(lab, folder, {"env": env, "secrets": str(secrets), "stages": {"prepare": "job"}})
    login.write_profile("fails", {**PROFILE, "env": {**env, "TO_FAIL": "1"}, "secrets": str(secrets)})
    for name, value in {**OUTSIDE, "SBATCH_EXPORT": "ALL"}.items():  # which sbatch puts before what the script says
        monkeypatch.setitem(lab.env, name, value)
    for name, value in DEFAULTS.items():
        monkeypatch.setitem(lab.env, name, value)
    return login


def test_secrets_reach_the_ranks_and_nothing_else(site):
    """A run that ends well, its prepare as a job of submitit's, and one whose error tells a secret."""
    lab, secrets = site.lab, site.folder / "secrets.env"
    good = site.submit(site.recipe("good", training={"max_steps": 100}))
    good.until_step(3)
    assert hits(process_memory(lab)) == []
    good.until_done()

    wanted = hashlib.sha256(INSIDE["HF_TOKEN"].encode()).hexdigest()
    seen = {path.name: path.read_text() for path in (site.folder / "notes").iterdir() if path.is_file()}
    assert {"rank-0", "rank-1", "prepare"} <= seen.keys()
    del seen["sitecustomize.py"]
    assert set(seen.values()) == {wanted}

    site.launcher("run", site.recipe("bad"), "--cluster", "fails:main")
    bad = site.tracked("bad")
    bad.until_over()
    error = attempts.first_failure(attempts.exits(bad.run_dir, 1)).error
    assert error == "RuntimeError: 401 for <HF_TOKEN>", bad.story()
    assert "401 for <HF_TOKEN>" in bad.story(), "the log tells it, too"

    files = [path for folder in (site.folder, lab.site.directory) for path in folder.rglob("*") if path != secrets]
    assert hits(read(files)) == []
    assert hits(said(lab, good, bad)) == []
    assert hits(read([secrets])), "the search finds what is there"


def test_a_file_that_others_may_read_is_refused_before_anything_is_submitted(site):
    """With what to type; the job would meet it hours later."""
    (site.folder / "secrets.env").chmod(0o644)
    refused = site.launcher("run", site.recipe("open"), "--cluster", "test:main", check=False)
    assert refused.returncode == 4
    assert f"hint:  chmod 600 {site.folder}/secrets.env" in refused.stderr
    assert submissions.read(site.tracked("open").run_dir) == ()


def hits(texts: Iterator[tuple[str, bytes]]) -> list[str]:
    """Where a canary is."""
    return [f"{where}: {canary.decode()}" for where, text in texts for canary in CANARIES if text.find(canary) >= 0]


def process_memory(lab: Lab) -> Iterator[tuple[str, bytes]]:
    """What others, or the user's other programs, could read of processes: commands of all, environments of the lab's."""
    for entry in processes.PROC.iterdir():
        if entry.name.isdecimal():
            try:
                yield f"{entry}/cmdline", (entry / "cmdline").read_bytes()
            except OSError:
                continue
    mine = processes.of_lab(lab.site.conf)
    assert any("launcher.worker" in str(each) for each in mine)
    for each in mine:
        yield str(each), b"\0".join(each.environment)


def read(files: list[Path]) -> Iterator[tuple[str, bytes]]:
    for path in files:
        if path.is_file() and not path.is_symlink() and path.stat().st_size:
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
                yield str(path), text


def said(lab: Lab, *runs: Tracked) -> Iterator[tuple[str, bytes]]:
    """What SLURM tells of their jobs."""
    for run in runs:
        for job in {each.job_id for each in submissions.read(run.run_dir)}:
            commands = [["scontrol", "-dd", "show", "job", job], ["scontrol", "write", "batch_script", job, "-"]]
            if lab.settings.accounting:
                commands += [["sacct", "-j", job, flag] for flag in ("--json", "--env-vars", "--batch-script")]
            for argv in commands:
                yield " ".join(argv), lab.run(argv, check=argv[0] == "scontrol").stdout.encode()
        yield "status", json.dumps([vars(each) for each in submissions.read(run.run_dir)], default=str).encode()
