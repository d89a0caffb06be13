"""Runs on the real cluster: bit-equal to an uninterrupted one whatever SLURM does to them, and over when they should be.

Each scenario once; `make faults` repeats them at other moments.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from launcher.runs import preflight
from tests.slurm.scenarios import SCENARIOS, Scenario
from tests.slurm.scene import Scene, Wholes
from tests.slurm.settings import Settings
from tests.slurm.site import Login

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]


@pytest.fixture(scope="session")
def wholes(tmp_path_factory: pytest.TempPathFactory) -> Wholes:
    return Wholes(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="session")
def logins() -> dict[str, Login]:
    """One for each lab: its runs share what is prepared."""
    return {}


@pytest.fixture
def scene(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    wholes: Wholes,
    logins: dict[str, Login],
    make_lab: Callable,
) -> Callable[[Scenario], Scene]:
    """Sets a scenario up on its kind of cluster."""

    def of(scenario: Scenario) -> Scene:
        kinds = {Settings(): "cluster", Settings(separate=True): "separate"}
        kind = kinds.get(scenario.settings)
        lab = request.getfixturevalue(kind) if kind else make_lab(settings=scenario.settings)
        if kind is None or kind not in logins:
            logins[kind or ""] = Login(lab, tmp_path_factory.mktemp("login"))
        return Scene(logins[kind or ""], scenario.name.replace("_", "-"), wholes)

    return of


@pytest.mark.parametrize("scenario", [each for each in SCENARIOS if each.ci], ids=lambda each: each.name)
def test_scenario(scenario: Scenario, scene: Callable[[Scenario], Scene]):
    scenario.act(scene(scenario))


def test_two_nodes_of_two_ranks_are_four_ranks_of_one_machine(cluster, tmp_path_factory, wholes):
    scene = Scene(Login(cluster, tmp_path_factory.mktemp("login")), "far", wholes)
    room = {"memory_gib_per_node": 6}  # two programs leave nothing of three
    run = scene.submit(nodes=2, step_s=0, launch={"processes": 2}, profile=room)
    scene.ends_equal(run, 1)
    assert len(preflight.reports(run.run_dir, 1)) == 2
