"""The test cluster itself: that it is a cluster, that it misbehaves on request, and that nothing of it stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.slurm import place, processes
from tests.slurm.conftest import a_lab
from tests.slurm.lab import ROOT, Lab
from tests.slurm.settings import Settings
from tests.support.until import until

WAITING = "#!/bin/bash\ntrap 'echo got USR1' USR1\necho ready\nsleep 300 &\nwhile :; do wait $!; done\n"
STUBBORN = (
    "#!/bin/bash\ntrap '' TERM\nsrun bash -c \"trap '' TERM; env -i sleep 300 & wait\" & while :; do sleep 1; done\n"
)


def held(lab: Lab) -> int:
    """A job whose script runs until `let_go`; that its state is RUNNING says only that a node was asked to start it."""
    (lab.site.directory / "go").unlink(missing_ok=True)
    script = "#!/bin/bash\necho ready\nwhile [ ! -e go ]; do sleep 0.1; done"
    number = lab.sbatch(script, f"--chdir={lab.site.directory}")
    until(lambda: "ready" in lab.log(number))
    return number


def let_go(lab: Lab) -> None:
    (lab.site.directory / "go").touch()


@pytest.fixture
def own_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a short name, as a lab wants it."""
    return tmp_path_factory.mktemp("own")


def traces(lab: Lab) -> list[str]:
    """What there is of a lab on this machine."""
    interfaces = [line.split(": ")[1] for line in subprocess.check_output(["ip", "-o", "link"], text=True).splitlines()]
    names = [line for line in place.HOSTS.read_text().splitlines() if str(lab.site.directory) in line]
    spaces = [path.name for path in Path("/run/netns").glob(f"{lab.site.name}-*")]
    return [
        *map(str, processes.of_lab(lab.site.conf)),
        *names,
        *spaces,
        *(i for i in interfaces if i.startswith((f"{lab.site.name}br", f"{lab.site.name}v"))),
    ]


def still_there(pids: list[int]) -> list[processes.Process]:
    """Those that run, even if nothing tells any more whose they are."""
    return [process for process in processes.running() if process.pid in pids]


def test_a_step_runs_on_two_nodes(cluster: Lab) -> None:
    """Each node gets its number, its name, and GPUs that are numbered from 0 on each."""
    line = 'echo "$SLURM_NODEID $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES"'
    done = cluster.run(["srun", "-N2", "--ntasks-per-node=1", "--gpus-per-node=2", "bash", "-c", line])

    name = cluster.site.name
    assert sorted(done.stdout.splitlines()) == [f"0 {name}-node1 0,1", f"1 {name}-node2 0,1"]


def test_jobs_share_the_gpus_of_a_node(cluster: Lab) -> None:
    """Two jobs on one node see different GPUs; a third that fits nowhere waits."""
    options = [f"--nodelist={cluster.site.node(1)}", "--gpus-per-node=2"]
    first, second, third = (
        cluster.sbatch("#!/bin/bash\necho gpus=$CUDA_VISIBLE_DEVICES; sleep 300", *options) for _ in range(3)
    )
    for number in (first, second):
        cluster.wait(number, "RUNNING")
    until(lambda: cluster.log(first) and cluster.log(second))

    assert {cluster.log(first), cluster.log(second)} == {"gpus=0,1\n", "gpus=2,3\n"}
    assert cluster.job(third)["JobState"] == "PENDING"


def test_a_job_that_can_never_run_is_refused(cluster: Lab) -> None:
    done = cluster.run(["sbatch", "-N9", "--wrap=true"], check=False)

    assert done.returncode == 1
    assert "Node count specification invalid" in done.stderr


def test_what_is_told_of_a_job_is_read_whole(cluster: Lab) -> None:
    """Values with blanks and equals signs, too."""
    number = cluster.sbatch("#!/bin/bash\nexit 3", "--comment=run=a b", "--job-name=x y")
    job = cluster.wait(number, "FAILED")

    assert (job["Comment"], job["JobName"], job["ExitCode"]) == ("run=a b", "x y", "3:0")


@pytest.mark.slurm
def test_a_requeued_job_starts_again_under_its_number(cluster: Lab) -> None:
    number = cluster.sbatch(
        '#!/bin/bash\necho start ${SLURM_RESTART_COUNT:-0}\n[ -n "$SLURM_RESTART_COUNT" ] || sleep 300',
        "--open-mode=append",
    )
    until(lambda: "start" in cluster.log(number))
    cluster.run(["scontrol", "requeue", number])
    job = cluster.wait(number, "COMPLETED")

    assert job["Restarts"] == "1"
    assert [line for line in cluster.log(number).splitlines() if line.startswith("start")] == ["start 0", "start 1"]


@pytest.mark.slurm
def test_a_higher_partition_preempts_a_lower_one(cluster: Lab) -> None:
    """With no grace the job is back in the queue at once, and starts again when the other is done."""
    low = cluster.sbatch(
        '#!/bin/bash\n[ -n "$SLURM_RESTART_COUNT" ] || sleep 300', "-N4", "--exclusive", "-p", "low_nograce"
    )
    cluster.wait(low, "RUNNING")
    cluster.wait(cluster.sbatch("#!/bin/bash\n", "-N4", "--exclusive", "-p", "high"), "COMPLETED")

    assert cluster.wait(low, "COMPLETED")["Restarts"] == "1"


def test_preemption_with_grace_sends_the_signal_that_the_job_asked_for(cluster: Lab) -> None:
    low = cluster.sbatch(WAITING, "-N4", "--exclusive", "-p", "low", "--signal=B:USR1@60")
    until(lambda: "ready" in cluster.log(low))
    cluster.sbatch("#!/bin/bash\n", "-N4", "--exclusive", "-p", "high")

    until(lambda: "got USR1" in cluster.log(low))


def test_jobs_outlive_the_controller(cluster: Lab) -> None:
    """They run on while it is down, and it knows them when it is back."""
    number = held(cluster)
    cluster.stop_controller()
    assert cluster.processes_of_jobs()
    cluster.start_controller()
    assert cluster.job(number)["JobState"] == "RUNNING"
    let_go(cluster)

    cluster.wait(number, "COMPLETED")


def test_a_daemon_that_dies_leaves_its_jobs_alone(cluster: Lab) -> None:
    number = held(cluster)
    node = int(cluster.job(number)["BatchHost"].rpartition("node")[2])
    cluster.kill_slurmd(node)
    assert cluster.processes_of_jobs()
    cluster.start_slurmd(node)
    let_go(cluster)

    cluster.wait(number, "COMPLETED")


def test_a_reset_ends_jobs_that_do_not_want_to(cluster: Lab) -> None:
    """Also those that ignore TERM and have dropped their environment."""
    number = cluster.sbatch(STUBBORN, "-N2")
    until(lambda: sum(p.name == "sleep" for p in cluster.processes_of_jobs()) >= 2)
    cluster.stop_controller()
    cluster.reset()

    assert cluster.job(number)["JobState"] == "CANCELLED"
    assert cluster.processes_of_jobs() == []
    assert set(cluster.nodes().values()) == {"idle"}


def test_nothing_stays_behind(own_folder: Path, lab: Lab) -> None:
    """While jobs run that ignore every request, and beside another lab, which stays up."""
    with a_lab(own_folder, Settings()) as own:
        assert own.site.name != lab.site.name
        own.sbatch(STUBBORN, "-N2")
        until(lambda: sum(p.environment == {b""} for p in own.processes_of_jobs()) == 2)
        before = [p.pid for p in own.processes_of_jobs()]
        assert traces(own)

    assert traces(own) == []
    assert still_there(before) == []
    assert set(lab.nodes().values()) == {"idle"}


SESSION = """
import sys, time
from pathlib import Path
from tests.slurm.lab import Lab
lab = Lab.start(Path(sys.argv[1]))
lab.sbatch("#!/bin/bash\\nsleep 300")
print("up", flush=True)
time.sleep(300)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_stays_behind_when_the_tests_are_killed(own_folder: Path, lab: Lab, how: signal.Signals) -> None:
    session = subprocess.Popen(
        [sys.executable, "-c", SESSION, own_folder], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert session.stdout
    with session.stdout:
        assert session.stdout.readline() == b"up\n"
    own = Lab.of(own_folder)
    assert traces(own)
    session.send_signal(how)
    session.wait()

    until(lambda: not traces(own))


def test_jobs_of_a_site_without_requeue_stay_where_they_are(make_lab: Callable[..., Lab]) -> None:
    own = make_lab(requeue=False, enforce_limits=False, max_array_size=5, gpu_type="h100")
    number = own.sbatch("#!/bin/bash\nsleep 300", "--gpus-per-node=h100:1")
    own.wait(number, "RUNNING")

    assert "disabled" in own.run(["scontrol", "requeue", number], check=False).stderr
    assert own.job(own.sbatch("#!/bin/bash\n", "-N9"))["JobState"] == "PENDING"
    assert "Invalid job array" in own.run(["sbatch", "--array=1-9", "--wrap=true"], check=False).stderr


@pytest.mark.slurm
def test_separate_nodes_are_hosts(separate: Lab) -> None:
    """Each has its hostname and its ports: both listen on one number at once, and reach each other by name."""
    first, second = separate.site.node(1), separate.site.node(2)
    serve = "import os, socket; s = socket.create_server(('', 29500)); c = s.accept()[0]; print(socket.gethostname(), c.recv(9).decode())"
    call = (
        "import socket, sys, time\nfor _ in range(100):\n  try: s = socket.create_connection((sys.argv[1], 29500)); break\n"
        "  except OSError: time.sleep(0.1)\ns.send(socket.gethostname()[-5:].encode())"
    )
    script = f'[ $SLURM_NODEID = 0 ] && other={second} || other={first}\n{sys.executable} -c "$SERVE" & {sys.executable} -c "$CALL" $other; wait'
    done = separate.run(["srun", "-N2", "bash", "-c", script], env={"SERVE": serve, "CALL": call})

    assert sorted(done.stdout.splitlines()) == [f"{first} node2", f"{second} node1"]


@pytest.mark.slurm
def test_a_job_moves_off_a_node_that_lost_its_power(separate: Lab) -> None:
    number = separate.sbatch('#!/bin/bash\n[ -n "$SLURM_RESTART_COUNT" ] || srun sleep 300', "-N2")
    separate.wait(number, "RUNNING")
    separate.power_off(2)
    job = separate.wait(number, "COMPLETED")

    assert job["Restarts"] == "1"
    assert separate.site.node(2) not in separate.run(["scontrol", "show", "hostnames", job["NodeList"]]).stdout.split()
    separate.power_on(2)
    separate.wait_for_nodes()


@pytest.mark.slurm
def test_nothing_stays_behind_of_separate_nodes(own_folder: Path) -> None:
    with a_lab(own_folder, Settings(separate=True, nodes=2)) as own:
        own.sbatch(STUBBORN, "-N2")
        until(lambda: len(own.processes_of_jobs()) >= 5)
        before = [p.pid for p in own.processes_of_jobs()]
        assert len(traces(own)) > 4

    assert traces(own) == []
    assert still_there(before) == []


@pytest.mark.slurm
def test_a_site_with_accounting_tells_of_every_start(make_lab: Callable[..., Lab]) -> None:
    own = make_lab(accounting=True)
    number = own.sbatch('#!/bin/bash\n[ -n "$SLURM_RESTART_COUNT" ] || sleep 300')
    own.wait(number, "RUNNING")
    own.run(["scontrol", "requeue", number])
    own.wait(number, "COMPLETED")

    told = ["sacct", "-D", "-X", "-n", "-P", "-j", number, "-o", "State"]
    until(lambda: own.run(told).stdout.split() == ["REQUEUED", "COMPLETED"])


def test_the_process_that_is_asked_is_never_its_own_lab() -> None:
    """A search from inside a client, as from a shell with SLURM_CONF set, does not end the searcher."""
    conf = Path("/nowhere/etc/slurm.conf")
    code = "import os\nfrom pathlib import Path\nfrom tests.slurm import processes\nprint(len(processes.of_lab(Path(os.environ['SLURM_CONF']))))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "SLURM_CONF": str(conf)},
    )

    assert done.stdout.strip() == "0"
