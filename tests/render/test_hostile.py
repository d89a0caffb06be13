"""500 hostile strings, from what a person writes to what a shell does: refused, or passed on literally and never executed."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from launcher.cli import output
from launcher.cluster.load import load_cluster
from launcher.cluster.profile import Profile
from launcher.cluster.profiles import read_profile
from launcher.cluster.schema import Site
from launcher.cluster.site import cluster_of
from launcher.errors import LauncherError, RecipeErrors
from launcher.executors.slurm import stage_jobs
from launcher.executors.slurm.script import Script
from launcher.plan.facts import gather
from launcher.plan.make import make_plan
from launcher.recipe.load import load_recipe
from launcher.render import container, sbatch
from launcher.render.command import run_line
from launcher.runs.paths import RunDir
from tests.cluster.test_hostile import STRINGS as KNOWN
from tests.cluster.test_hostile import lines
from tests.support import planning, tiny

_PAYLOADS = ["$(>pwned)", "`>pwned`", ";>pwned;", "\n>pwned\n", "'>pwned'", '">pwned"', "&>pwned", "|>pwned", "${X:=>pwned}", "<(>pwned)"]  # fmt: skip
_FRAMES = ["{}", "a{}b", "'{}", '"{}', "/a/{}", "--x={}", "a'{}'", "\\{}", "#{}", "a {}"]
STRINGS = sorted({*KNOWN, *(frame.format(piece) for piece in _PAYLOADS for frame in _FRAMES)})
_TRUSTED = {"setup.0"}
_CHUNKS = 8
_EACH = [0, *(pytest.param(chunk, marks=pytest.mark.slow) for chunk in range(1, _CHUNKS))]

# What the launcher and srun do with a script, without doing anything else; every word and variable is written down.
_PYTHON = """\
#!/bin/bash
printf '%s\\0' "$@" >> "$SEEN/words"; printf '\\0' >> "$SEEN/words"
/usr/bin/env -0 > "$SEEN/$2"
case $2 in
  launcher.executors.slurm.slice | launcher.worker.local_copy) while [ "$1" != -- ]; do shift; done; shift; exec "$@" ;;
  launcher.worker.preflight) echo 20001 ;;
esac
"""
_SRUN = """\
#!/bin/bash
printf '%s\\0' srun "$@" >> "$SEEN/words"; printf '\\0' >> "$SEEN/words"
while [[ $1 == -* ]]; do shift; done
exec "$@"
"""
_APPTAINER = """\
#!/bin/bash
printf '%s\\0' apptainer "$@" >> "$SEEN/words"; printf '\\0' >> "$SEEN/words"
while [ "$1" != env ]; do shift; done
while [ "$1" != bash ]; do shift; done
exec "$@"
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setenv("LAUNCHER_CLUSTERS", str(tmp_path / "clusters"))
    monkeypatch.setenv("HOME", str(tmp_path))
    for folder in ("clusters", "bin", "cwd"):
        (tmp_path / folder).mkdir()
    stubs = {"python3": _PYTHON, "srun": _SRUN, "apptainer": _APPTAINER, "module": "#!/bin/bash\nexit 0\n"}
    for name, text in stubs.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "bin" / "bash").symlink_to("/bin/bash")
    return tmp_path


class Ran:
    """What the stubs saw of one script."""

    def __init__(self, home: Path, scripts: dict[Path, str]) -> None:
        seen = home / "seen"
        shutil.rmtree(seen, ignore_errors=True)
        seen.mkdir()
        for path, text in scripts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            checked = subprocess.run(["bash", "-n", path], capture_output=True, text=True, check=False)
            assert checked.stderr == "", text
        batch = next(path for path in scripts if path.name == "train.sbatch")
        env = {
            "PATH": str(home / "bin"), "HOME": str(home), "SEEN": str(seen), "SLURM_CPUS_PER_TASK": "1", "SLURM_NODEID": "0",
            "MASTER_ADDR": "node1", "LAUNCHER_MEETING": "1.0.1", "LAUNCHER_ATTEMPT": "1", "X": "",
        }  # fmt: skip
        done = subprocess.run(
            ["/bin/bash", batch], capture_output=True, text=True, env=env, cwd=home / "cwd", check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), f"{done}\n{scripts[batch]}"
        assert list((home / "cwd").iterdir()) == [], f"something was executed:\n{scripts[batch]}"
        self.commands = [each.split("\0") for each in (seen / "words").read_text().split("\0\0")[:-1]]
        self.ranks = dict(
            each.split("=", 1) for each in (seen / "launcher.worker.torchrun").read_text().split("\0") if "=" in each
        )


def nested(keys: dict[str, Any]) -> dict[str, Any]:
    """Dotted keys as the tree of a file; `X.0` is the first of a list."""
    tree: dict[str, Any] = {}
    for dotted, value in keys.items():
        *path, last = dotted.split(".")
        in_list = last == "0"
        last = path.pop() if in_list else last
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        node[last] = [value] if in_list else value
    return tree


BASE = {
    "gpu": "A100-40GB", "gpus_per_node": 4, "cpus_per_node": 8, "memory_gib_per_node": 64, "queues.q.partition": "gpu",
    "queues.q.max_time": "10:00:00", "python": "python3",
}  # fmt: skip


def written(home: Path, keys: dict[str, str]) -> dict[str, str]:
    """Write a profile with those of the keys that it takes, and return them."""
    path = home / "clusters" / "alpha.yaml"
    kept = dict(keys)
    while True:
        path.write_text(yaml.safe_dump(nested({**BASE, **kept}), allow_unicode=False, width=100_000))
        try:
            read_profile(path)
        except RecipeErrors as caught:
            refused = {error.key for error in caught.errors}
            left = {key: value for key, value in kept.items() if key not in refused}
            assert kept, caught.value
            kept = left if len(left) < len(kept) else {}
        else:
            return kept


def test_there_are_500_strings():
    """And no text of a profile is forgotten."""
    assert len(STRINGS) >= 500
    assert sum(">pwned" in each for each in STRINGS) >= 80


def test_values_of_variables_arrive_as_they_are_written(home: Path):
    """Nearly every string may be one: a blank, a quote, a `;` is a part of it."""
    asked = {
        f"{section}.{name}{number}": text
        for number, text in enumerate(STRINGS)
        for section, name in (("env", "A"), ("network.env", "B"))
    }
    taken = written(home, asked)
    assert len(taken) > 500
    assert not [text for text in taken.values() if set(text) & set("$`\n\r\0\x1b")]
    site = load_cluster("alpha").site
    assert site is not None
    plan = planning.plan(home, cluster=cluster_of(site))

    ran = Ran(home, sbatch.scripts(plan, site, RunDir(home / "runs" / "small"), "python3"))

    for key, text in taken.items():
        assert ran.ranks[key.rpartition(".")[2]] == text, key


@pytest.mark.parametrize("chunk", _EACH)
def test_every_other_text_of_a_profile(chunk: int, home: Path):
    """Options of sbatch hold it as it is, in one word of one line, and the jobs of submitit get the same."""
    tried = 0
    free = {"description", "env.X", "network.env.X", *_TRUSTED}
    keys = [key for key, _ in lines(Profile, "x") if key and key not in free]
    for text in STRINGS[chunk::_CHUNKS]:
        asked = dict.fromkeys(keys, text)
        asked = {**asked, "container.runtime": "apptainer", "python": text}
        taken = written(home, asked)
        if len(taken) < 2:
            continue
        tried += 1
        try:
            site = load_cluster("alpha").site
        except LauncherError:  # a variable in a path that is not set here
            continue
        assert site is not None
        plan = planning.plan(home, cluster=cluster_of(site))
        _check(home, plan, _with_stub(site), taken, text)
    assert tried > 3


def _with_stub(site: Site) -> Site:
    """Any path may be an interpreter; the stub stands in for what would be there."""
    box = site.profile.container
    update = {"python": "python3", "container": box and box.model_copy(update={"python": "python3"})}
    return replace(site, profile=site.profile.model_copy(update=update))


def _check(home: Path, plan, site, taken: dict[str, str], text: str) -> None:
    run = RunDir(home / "runs" / "small")
    try:
        box = container.enclosure(site, {}, run.root, home / "runs" / ".cache", cuda=True)
    except LauncherError:  # a folder that cannot be bound
        box = None
    scripts = sbatch.scripts(plan, site, run, "python3", box)
    Ran(home, scripts)
    options = Script(next(value for path, value in scripts.items() if path.name == "train.sbatch")).options
    submitit = stage_jobs.parameters(run, plan, plan.jobs[0], site)["additional_parameters"]
    wanted = {
        "queues.q.partition": "partition", "queues.q.qos": "qos", "queues.q.reservation": "reservation",
        "queues.q.constraint": "constraint", "queues.q.account": "account", "exclude": "exclude",
    }  # fmt: skip
    for key, option in wanted.items():
        if key in taken:
            assert options[option].value == submitit[option] == text


@pytest.mark.parametrize("chunk", _EACH)
def test_every_text_of_a_recipe_that_names_something(chunk: int, home: Path, monkeypatch, capsys):
    """As `--set`: the run's name, labels, files, the model, the account; and the folder of the runs."""
    monkeypatch.chdir(home)
    loaded = planning.recipe(home)
    written(home, {})
    site = load_cluster("alpha").site
    cluster = cluster_of(site)
    places = taken = 0
    for text in STRINGS[chunk::_CHUNKS]:
        for key in _accepted(home, text):
            line = f"{key}={_yaml(text)}"
            try:
                changed = load_recipe(home / "small.yaml", [line])
                plan = make_plan(changed, cluster, gather(changed, cluster)).plan
            except LauncherError as refused:
                output.error(refused)
                continue
            Ran(home, sbatch.scripts(plan, site, RunDir(home / "runs" / "small"), "python3"))
            taken += 1
        places += _place(home, loaded, site, cluster, text)
        _account(text)
        _typed_again(home, text)
    assert places
    assert taken > 3
    assert capsys.readouterr().err.replace("\n", "").replace("\t", "").isprintable(), (
        "an error would steer the terminal"
    )


def _yaml(text: str) -> str:
    return yaml.safe_dump(text, default_style='"', width=100_000).strip()


def _accepted(home: Path, text: str) -> list[str]:
    """Keys that a recipe takes it for; the errors of the others are printed."""
    keys = ["name", "data.datasets.0.label", "launch.time_limit", "tracking.project"]
    try:
        load_recipe(home / "small.yaml", [f"{key}={_yaml(text)}" for key in keys])
    except RecipeErrors as refused:
        output.error(refused)
        shown = str(refused)
        keys = [key for key in keys if f": {key}:" not in shown and f"--set {key}=" not in shown]
    return [*keys, *(["data.datasets.0.path"] if _file(home, text) else [])]


def _file(home: Path, text: str) -> bool:
    """Data under that name, where a file system takes it."""
    try:
        path = home / text if text and not text.startswith(("/", "~")) else None
        if path is None or home not in path.resolve().parents:
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            tiny.jsonl(path, tiny.words(3))
    except (OSError, ValueError):
        return False
    return path.is_file()


def _place(home: Path, loaded, site, cluster, text: str) -> bool:
    """`--runs DIR`: refused, or the run's folder is one word wherever it stands."""
    if "\0" in text:
        return False
    run = RunDir(home / "there" / text.lstrip("/~") / "small")
    try:
        scripts = sbatch.scripts(make_plan(loaded, cluster, gather(loaded, cluster)).plan, site, run, "python3")
    except LauncherError:
        return False
    try:
        ran = Ran(home, scripts)
    except OSError:  # too long a name
        return False
    slice_words = next(each for each in ran.commands if "launcher.executors.slurm.slice" in each)
    assert slice_words[2] == str(run.root)
    assert next(each for each in ran.commands if each[0] == "srun")[-1] == f"{run.root}/slurm/node.sh"
    assert ran.commands[-1][-1] == str(run.root)
    return True


def _account(text: str) -> None:
    try:
        site = load_cluster("alpha", account=text).site
    except LauncherError:
        return
    assert site is not None
    assert site.account == text
    assert not set(text) & set(" \t\n'\"$`\\;&|<>(){}*?!#~%,")


def _typed_again(home: Path, text: str) -> None:
    """The line that a plan ends with is pasted into a shell."""
    if "\0" in text:
        return
    line = run_line("a.yaml", sets=[f"name={text}"], cluster="alpha", gpus=None, runs=text, account=text)
    script = f'launcher() {{ printf "%s\\0" "$@"; }}\n{line}\n'
    done = subprocess.run(["/bin/bash", "-c", script], capture_output=True, cwd=home / "cwd", check=False)
    words = ["run", "a.yaml", "--cluster", "alpha", "--account", text, "--set", f"name={text}", "--runs", text]
    assert done.stdout.decode().split("\0")[:-1] == words
    assert list((home / "cwd").iterdir()) == []
