"""`python -m tests.slurm.install [--accounting]`: install what the test cluster is made of, where that can be done."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.slurm import lab

CLUSTER = {
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "sbatch": "slurm-client",
    "munged": "munge",
    "shellcheck": "shellcheck",
}
ACCOUNTING = {
    "slurmdbd": "slurmdbd",
    "mariadbd": "mariadb-server-core",
    "mariadb": "mariadb-client-core",
    "mariadb-install-db": "mariadb-server-core",
}
POLICY = Path("/usr/sbin/policy-rc.d")
APT = ["apt-get", "-qq", "-o", "Dpkg::Use-Pty=0"]


def main(argv: list[str]) -> int:
    """Install what is missing; 1, with a sentence, where that is not possible."""
    wanted = CLUSTER | (ACCOUNTING if "--accounting" in argv else {})
    missing = {package for program, package in wanted.items() if shutil.which(program, path=lab.PATH) is None}
    if not missing:
        return 0
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        who = "root" if shutil.which("apt-get") else "a Debian or Ubuntu"
        print(
            f"SLURM's {', '.join(sorted(missing))} are not installed, and only {who} can do it from here",
            file=sys.stderr,
        )
        return 1
    print(f"installing {', '.join(sorted(missing))} for the test cluster")
    with _nothing_is_started():
        return _install(sorted(missing))


def _install(packages: list[str]) -> int:
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = [*APT, "install", "-y", "--no-install-recommends", *packages]
    if (
        subprocess.run(install, check=False, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
        == 0
    ):
        return 0
    subprocess.run([*APT, "update"], check=False, env=env)  # the lists may be old, or not there yet
    done = subprocess.run(install, check=False, env=env, stdout=subprocess.DEVNULL)
    if done.returncode:
        print(f"apt-get could not install {' '.join(packages)}", file=sys.stderr)
    return min(done.returncode, 1)


@contextmanager
def _nothing_is_started() -> Iterator[None]:
    """Debian starts services when it installs them, unless a policy says no; the lab starts its own."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
