"""One trial of a scenario: a run on a lab, the moment to strike, and what must hold afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from launcher.runs import attempts
from launcher.runs.attempts import Attempt
from launcher.runs.files import write_text
from tests.slurm.lab import ROOT
from tests.slurm.processes import Process
from tests.slurm.site import PROFILE, Login, Tracked, reference
from tests.support.until import until

SLOW = Path(__file__).parent / "slow"
STEPS = 60
"""Steps of a whole run."""
_LEFT_S = 10.0


class Scene:
    """A run to be, and what was done to it. Whatever is drawn follows from the seed."""

    def __init__(self, login: Login, name: str, wholes: Wholes, seed: object = 0) -> None:
        """`name` of the run; `wholes`: the same run undisturbed."""
        self.login, self.lab, self.name = login, login.lab, name
        self.random = Random(f"{name} {seed}")
        self._wholes = wholes
        self._delays = login.folder / f"{name}.delays"
        self._ranks = 1

    def submit(
        self,
        queue: str = "main",
        *,
        nodes: int = 1,
        step_s: float = 0.2,
        save_s: float = 0.0,
        launch: dict[str, Any] | None = None,
        profile: dict[str, Any] | None = None,
        **sections: dict[str, Any],
    ) -> Tracked:
        """`launcher run` with one rank on each node. `step_s`, `save_s`: seconds that each step, each save, takes longer; -1 fails it."""
        self._ranks = nodes * (launch or {}).get("processes", 1)
        self.slow(step_s, save_s)
        env = {**PROFILE["env"], "PYTHONPATH": f"{SLOW}:{ROOT}", "LAB_SLOW": str(self._delays)}
        self.login.write_profile("test", {**PROFILE, "env": env, **(profile or {})})
        recipe = self.login.recipe(self.name, launch={"nodes": nodes, **(launch or {})}, **sections)
        return self.login.submit(recipe, queue)

    def slow(self, step_s: float = 0.0, save_s: float = 0.0) -> None:
        """From now on; without arguments, as fast as it goes."""
        write_text(self._delays, json.dumps({"events.jsonl": step_s, "checkpoint-": save_s}))

    def a_step(self, first: int = 2, last: int = 40) -> int:
        """After which to strike; what is left takes seconds."""
        return self.random.randint(first, last)

    def taker(self, seconds: float = 2) -> int:
        """A job of a higher partition on all nodes: whatever is preemptible has to go."""
        return self.lab.sbatch(f"#!/bin/bash\nsleep {seconds}", "-p", "high", "-N4", "--exclusive", "--time=1")

    def jobs(self) -> list[int]:
        """Numbers of all that were submitted for the run, over or not."""
        listed = self.lab.run(["squeue", "-h", "-t", "all", "-n", self.name, "-o", "%i"]).stdout.split()
        return [int(each) for each in listed]

    # What must hold

    def ends_equal(self, run: Tracked, number: int, *, seconds: float = 300) -> list[Attempt]:
        """It is done after so many attempts, with the losses and weights of the undisturbed run, and nothing is left of it."""
        until(lambda: run.attempts() >= number or run.run_dir.done.exists() or run.over(), seconds=seconds)
        self.slow()
        run.until_done(seconds=seconds)
        self.nothing_is_left(run)
        tried = attempts_of(run)
        assert len(tried) == number, f"{[(each.cause, each.error) for each in tried]}\n{run.story()}"
        self.is_equal(run)
        return tried

    def is_equal(self, run: Tracked) -> None:
        """Losses and weights are those of the undisturbed run."""
        whole = self._wholes(self._ranks)
        assert run.losses() == whole.losses()
        assert run.weights() == whole.weights()

    def nothing_is_left(self, run: Tracked) -> dict[str, str]:
        """10 s after the end of its job none of its processes is there. Returns the job."""
        job = run.until_over(seconds=300)
        left: list[str] = []

        def gone() -> bool:
            left[:] = [str(each) for each in self.lab.processes_of_jobs() if _of(each, run)]
            return not left

        try:
            until(gone, seconds=_LEFT_S)
        except AssertionError:
            raise AssertionError("\n".join([f"{_LEFT_S:.0f} s after the end:", *left, run.story()])) from None
        return job


class Wholes:
    """Undisturbed runs on this machine, by their number of ranks, each made once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[int, Tracked] = {}

    def __call__(self, ranks: int) -> Tracked:
        if ranks not in self._made:
            home = Login(None, self._folder / f"home-{ranks}")
            self._made[ranks] = reference(home.folder / "here", home.recipe("whole"), ranks)
        return self._made[ranks]


Act = Callable[[Scene], None]


def attempts_of(run: Tracked) -> list[Attempt]:
    """All of a run, in order."""
    found = (attempts.read(run.run_dir, number) for number in attempts.numbers(run.run_dir))
    return [each for each in found if each]


def _of(process: Process, run: Tracked) -> bool:
    return any(entry == f"SLURM_JOB_ID={run.job()}".encode() for entry in process.environment) or str(
        run.run_dir.root
    ) in str(process)
