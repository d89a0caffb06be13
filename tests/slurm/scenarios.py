"""The table of scenarios: what is done to a run on a real cluster, and on what kind of cluster. pytest runs each once,
`make faults` many times."""

from __future__ import annotations

from dataclasses import dataclass

from tests.slurm import breaking, leaving
from tests.slurm.scene import Act
from tests.slurm.settings import Settings

_PLAIN = Settings()
_SEPARATE = Settings(separate=True)
_WITHOUT_SIGNAL = Settings(preempt_signal=False)


@dataclass(frozen=True)
class Scenario:
    """One row. Its function's first line says what must hold."""

    act: Act
    settings: Settings = _PLAIN
    times: int = 2
    """In the long run of `make faults`."""
    ci: bool = True
    """pytest runs it too; not what takes minutes and differs little from another one."""

    @property
    def name(self) -> str:
        """Of the function, and of the kind of cluster where it is not the usual one."""
        return self.act.__name__ + ("_by_term" if self.settings == _WITHOUT_SIGNAL else "")


SCENARIOS = (
    Scenario(leaving.preempted, times=20),
    Scenario(leaving.preempted, _WITHOUT_SIGNAL, ci=False),
    Scenario(leaving.preempted_at_once),
    Scenario(leaving.requeued, times=20),
    Scenario(leaving.cancelled),
    Scenario(leaving.stopped_between_turns, ci=False),
    Scenario(leaving.grace_is_too_short),
    Scenario(breaking.node_lost, _SEPARATE, times=10),
    Scenario(breaking.slurmd_killed, times=20),
    Scenario(breaking.node_cut_off, _SEPARATE, times=5, ci=False),
    Scenario(breaking.controller_away, times=20),
    Scenario(breaking.controller_away_at_requeue, ci=False),
    Scenario(breaking.answer_lost),
    Scenario(breaking.batch_shell_killed, ci=False),
    Scenario(breaking.launcher_killed, ci=False),
    Scenario(breaking.srun_killed, ci=False),
    Scenario(breaking.torchrun_killed, ci=False),
    Scenario(breaking.rank_killed),
    Scenario(breaking.daemon_of_the_step_killed, ci=False),
    Scenario(breaking.daemon_of_the_batch_killed, ci=False),
    Scenario(breaking.fails_by_itself),
    Scenario(breaking.fails_where_turns_wait, ci=False),
    Scenario(breaking.no_progress),
    Scenario(breaking.port_taken, ci=False),
    Scenario(breaking.port_taken_after_the_look, ci=False),
    Scenario(leaving.time_limit, times=20),
)
