"""slurmdbd and a MariaDB of its own, for a lab that has `sacct`."""

from __future__ import annotations

import getpass
import socket
import subprocess

from tests.slurm.settings import Site
from tests.support.until import until

PROGRAMS = ("slurmdbd", "mariadbd", "mariadb", "mariadb-install-db")


def start(site: Site, env: dict[str, str]) -> None:
    """Bring both up, before slurmctld; they are ended as all processes of the lab are."""
    folder, user = site.directory, getpass.getuser()
    data, sock = folder / "db", folder / "run" / "mariadb.sock"
    install = [
        "mariadb-install-db",
        "--no-defaults",
        f"--datadir={data}",
        f"--user={user}",
        "--auth-root-authentication-method=normal",
    ]
    _run([*install, "--skip-test-db", "--cross-bootstrap"], env)
    server = [
        "mariadbd", "--no-defaults", f"--user={user}", f"--datadir={data}", f"--socket={sock}", f"--pid-file={folder}/run/mariadbd.pid",
        "--bind-address=127.0.0.1", f"--port={site.port + 19}", f"--log-error={folder}/log/mariadbd.log",
        "--innodb-buffer-pool-size=64M", "--innodb-log-file-size=16M", "--innodb-lock-wait-timeout=900",
        "--innodb-flush-log-at-trx-commit=2", "--performance-schema=OFF",
    ]  # fmt: skip
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.Popen(server, env=env, start_new_session=True, **quiet)
    client = ["mariadb", "--no-defaults", f"--socket={sock}", "--user=root"]
    until(lambda: subprocess.run([*client, "-e", "select 1"], check=False, **quiet).returncode == 0, seconds=60)
    hosts = ("127.0.0.1", "localhost")
    users = [
        f"create user 'slurm'@'{host}' identified by 'slurm'; grant all on slurm.* to 'slurm'@'{host}';"
        for host in hosts
    ]
    _run([*client, "-e", f"create database slurm; {' '.join(users)}"], env)
    conf = folder / "etc" / "slurmdbd.conf"
    conf.touch(mode=0o600)
    conf.write_text(_slurmdbd_conf(site, user))
    _run(["slurmdbd"], env)
    until(lambda: _answers(site.port + 18), seconds=60)
    _run(["sacctmgr", "-i", "add", "cluster", site.name], env)


def _slurmdbd_conf(site: Site, user: str) -> str:
    folder = site.directory
    return f"""AuthType=auth/munge
AuthInfo=socket={folder}/run/munge.sock
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={site.port + 18}
SlurmUser={user}
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={site.port + 19}
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm
LogFile={folder}/log/slurmdbd.log
PidFile={folder}/run/slurmdbd.pid
"""


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _run(argv: list[str], env: dict[str, str]) -> None:
    done = subprocess.run(
        argv,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=env,
    )
    assert done.returncode == 0, f"{argv[0]}: exit {done.returncode}\n{done.stdout}"
