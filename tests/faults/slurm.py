"""The scenarios on a real SLURM cluster as rows of the table: each trial a run of its own, the lab kept from one to the next."""

from __future__ import annotations

import functools
import inspect
import tempfile
from multiprocessing.util import Finalize
from pathlib import Path

from tests.faults.fault import Fault
from tests.faults.outcome import Outcome
from tests.faults.slurm_page import SLURM
from tests.slurm.lab import Lab, why_not
from tests.slurm.scenarios import SCENARIOS, Scenario
from tests.slurm.scene import Scene, Wholes
from tests.slurm.settings import Settings
from tests.slurm.site import Login

PROMISE = (
    "A run that is done has the losses and the weights of the undisturbed one, to the bit; the attempts that it took, their "
    "causes and SLURM's own record are those expected; 10 s after the end of its job none of its processes is left."
)
_logins: dict[Settings, Login] = {}


def trials(scenario: Scenario, seed: int, numbers: range) -> Outcome:
    """Whole runs, each struck at a moment that follows from the seed and its number."""
    outcome = Outcome()
    if why_not(scenario.settings):
        outcome.counts["skipped on this machine"] = len(numbers)
        return outcome
    for number in numbers:
        login = _logins.get(scenario.settings) or _login(scenario.settings)
        outcome.trials += 1
        try:
            scenario.act(Scene(login, f"{scenario.name.replace('_', '-')}-{number}", _wholes(), seed))
            login.lab.reset()
        except Exception as error:  # noqa: BLE001 - a trial that fails in any way is a failed trial
            outcome.fail(f"seed {seed}, trial {number}: {type(error).__name__}: {_short(str(error))}")
            del _logins[scenario.settings]  # the next one gets a lab that nothing has happened to
            login.lab.stop()
    return outcome


def _login(settings: Settings) -> Login:
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    lab = Lab.start(folder / "lab", settings)
    Finalize(lab, lab.stop, exitpriority=10)  # this process is one of a pool, which leaves without `atexit`
    _logins[settings] = Login(lab, folder / "login")
    return _logins[settings]


@functools.cache
def _wholes() -> Wholes:
    return Wholes(Path(tempfile.mkdtemp(prefix="slurm-whole-")))


def _short(text: str) -> str:
    return text if len(text) < 4000 else f"{text[:1500]} … {text[-2500:]}"


FAULTS = tuple(
    Fault(
        name=SLURM + each.name.replace("_", " "),
        done=inspect.getdoc(each.act).partition("\n")[0],
        promise=PROMISE,
        run=functools.partial(trials, each),
        ci=0,
        long=each.times,
        unit="runs",
        part=1,
    )
    for each in SCENARIOS
)
