"""Raw options of sbatch in a profile: the fence around what the plan and other keys decide.

`recorded/sbatch-options.txt` holds the options of `sbatch --help`, SLURM 22.05.
"""

import re
from pathlib import Path

import pytest

from launcher.cluster.directives import OWNERS, SHORT, fault
from launcher.cluster.load import load_cluster
from launcher.render import sbatch
from launcher.runs.paths import RunDir
from tests.support import planning

OPTIONS = [
    line.split() for line in (Path(__file__).parent / "recorded" / "sbatch-options.txt").read_text().splitlines()
]
LONG = {each[-1].removeprefix("--") for each in OPTIONS}


@pytest.mark.parametrize("line", ["--exclusive", "--mail-type=END,FAIL", "--mail-user=a+b@example.org", "--licenses=a:1",
    "--nice=100", "--switches=1@00:30", "--gpu-bind=none", "--nodelist=node[1-2]", "--hint=nomultithread"])  # fmt: skip
def test_what_nobody_else_decides_passes(line):
    """Sites have options that we need not know."""
    assert fault(line) is None


@pytest.mark.parametrize("name", OWNERS)
@pytest.mark.parametrize("line", ["--{}", "--{}=x", "--{} x", "#SBATCH --{}=x", " --{}=x", "--{}=$(id)"])
def test_what_has_an_owner_is_refused_by_name(line, name):
    """However it is written."""
    message, hint = fault(line.format(name))
    assert f"`--{name}` is not set here" in message
    assert OWNERS[name] in hint


@pytest.mark.parametrize("letter", SHORT)
@pytest.mark.parametrize("line", ["-{}", "-{}x", "-{} x"])
def test_short_forms_are_the_same_options(line, letter):
    """`-p gpu` is a partition, too."""
    assert f"`--{SHORT[letter]}` is not set here" in fault(line.format(letter))[0]


def test_shortened_names_are_the_same_options():
    """sbatch takes every beginning that is unique (getopt_long): none of an owned option may pass."""
    for name in OWNERS:
        for length in range(1, len(name)):
            short = name[:length]
            if short not in LONG:
                assert fault(f"--{short}=x"), f"--{short} is read as --{name}"


def test_short_forms_are_sbatch_s_own():
    """Each letter of an owned option, and no other."""
    letters = {each[0].strip("-"): each[1].removeprefix("--") for each in OPTIONS if len(each) == 2}
    assert {letter: name for letter, name in letters.items() if name in OWNERS} == SHORT


@pytest.mark.parametrize("line", ["exclusive", "", "--", "-", "--Exclusive", "--z b", "--z='b'", '--z="b"', "--z=$x",
    "--z=`x`", "--z=b;c", "--z=b\nc", "--z\n#SBATCH --wrap=id", "--z=b#c", "--z=é", "--z=", "#SBATCH --exclusive"])  # fmt: skip
def test_a_line_is_one_long_option(line):
    """No blank, quote or control character, nothing that a shell or sbatch reads in another way."""
    message, hint = fault(line)
    assert message.isprintable()
    assert "`--name=value`" in hint


def test_everything_a_script_says_has_an_owner(tmp_path, monkeypatch):
    """A profile could otherwise say it once more, and sbatch takes the last."""
    monkeypatch.setenv("LAUNCHER_CLUSTERS", str(tmp_path))
    (tmp_path / "alpha.yaml").write_text(
        "gpu: A100\ngpus_per_node: 4\ngres: a100\ncpus_per_node: 8\nmemory_gib_per_node: 64\nexclude: n1\n"
        "queues: {q: {partition: p, account: a, qos: x, reservation: r, constraint: c, max_time: '01:00:00'}}\n"
    )
    cluster = load_cluster("alpha")
    (tmp_path / "r").mkdir()
    plan = planning.planned(tmp_path / "r", cluster=cluster).plan
    for requeue in (True, False):
        site = cluster.site
        site.profile.__dict__["requeue"] = requeue
        for text in sbatch.scripts(plan, site, RunDir(tmp_path / "run"), "/usr/bin/python3").values():
            names = re.findall(r"^#SBATCH --([a-z-]+)", text, re.MULTILINE)
            assert set(names) <= set(OWNERS)
            assert not names or len(names) >= 15
