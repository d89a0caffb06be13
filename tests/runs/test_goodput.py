"""Goodput against a ground truth: a simulated run that knows where each second went, and tells only what events tell."""

from __future__ import annotations

import random

import pytest

from launcher.runs.attempts import Attempt, Turn
from launcher.runs.goodput import measure


class Simulated:
    """A run that is killed, stopped and started again. Its log is what a real one would write; its truth is kept beside."""

    def __init__(self, seed: int, *, logging_steps: int = 1, save_steps: int = 20, eval_steps: int = 50) -> None:
        self.draw = random.Random(seed)
        self.logging_steps, self.save_steps, self.eval_steps = logging_steps, save_steps, eval_steps
        self.now = 1_795_000_000.0
        self.events: list[dict] = []
        self.facts: list[Attempt] = []
        self.saved = 0
        self.step_s: dict[int, float] = {}
        """Step → the seconds of its last training: the truth on what is productive."""
        self.truth = {"wall_s": 0.0, "idle_s": 0.0, "lost_s": 0.0, "evaluating_s": 0.0, "saving_s": 0.0, "down_s": 0.0}
        self.first_step_s: list[float] = []

    @property
    def productive_s(self) -> float:
        return sum(self.step_s.values())

    def tell(self, event: str, **fields) -> None:
        self.events.append({"event": event, "time": round(self.now, 3), **fields})

    def passes(self, seconds: float, *names: str) -> None:
        self.now += seconds
        for name in ("wall_s", *names):
            self.truth[name] += seconds

    def attempt(self, *, until: int, end: str, asked_by: str = "person", mean_step_s: float = 2.0) -> None:
        """Load, go on from what is saved, train up to `until`; `end`: kill, stop or done."""
        number, began, loading = len(self.facts) + 1, self.now, self.draw.uniform(5, 60)
        self.tell("attempt", attempt=number)
        self.passes(loading)
        self.tell("start", attempt=number, step=self.saved, max_steps=until)
        told = self.saved
        for step in [step for step in self.step_s if step > self.saved]:
            self.truth["lost_s"] += self.step_s.pop(step)
        for step in range(self.saved + 1, until + 1):
            seconds = self.draw.uniform(0.5, 1.5) * mean_step_s
            self.step_s[step] = seconds
            self.passes(seconds)
            if step == self.saved + 1 and len(self.first_step_s) < number:
                self.first_step_s.append(self.now - began)
            told = self.after(step, told, number)
        if end == "kill":
            for step in range(told + 1, until + 1):  # trained, and known to nobody
                self.truth["lost_s"] += self.step_s.pop(step)
            self.passes(-self.truth_of_silence())
        elif until % self.save_steps:
            self.save(until, told, number)
        codes = {"stop": 85, "done": 0}
        if end in codes:
            self.tell("end", step=until, state="finished" if end == "done" else "stopped")
            self.passes(0.5)
        self.facts.append(
            Attempt(number, "node-1", 7, began, self.now if end in codes else None, codes.get(end), asked_by=asked_by)
        )

    def truth_of_silence(self) -> float:
        """After the last event nobody knows until when a killed attempt lived."""
        return self.now - self.events[-1]["time"]

    def after(self, step: int, told: int, number: int) -> int:
        if step % self.eval_steps == 0:
            seconds = self.draw.uniform(5, 20)
            self.passes(seconds, "evaluating_s")
            self.tell("eval", step=step, dataset="held_out", loss=1.0, seconds=seconds)
        if step % self.logging_steps == 0:
            spent = sum(self.step_s[each] for each in range(told + 1, step + 1))
            self.tell("step", attempt=number, step=step, loss=1.0, seconds=round(spent, 4))
            told = step
        if step % self.save_steps == 0:
            self.save(step, told, number)
            told = step
        return told

    def save(self, step: int, told: int, number: int) -> None:
        seconds = self.draw.uniform(0.2, 3)
        self.passes(seconds, "saving_s")
        if step > told:
            spent = sum(self.step_s[each] for each in range(told + 1, step + 1))
            self.tell("trained", attempt=number, step=step, seconds=round(spent, 4))
        self.tell("commit", step=step, checkpoint=f"checkpoint-{step}", seconds=seconds + 4, blocked_s=seconds)
        self.saved = step

    def waits(self, seconds: float, *, idle: bool) -> None:
        self.now += seconds
        self.truth["idle_s" if idle else "down_s"] += seconds
        self.truth["wall_s"] += 0 if idle else seconds


@pytest.mark.parametrize("logging_steps", [1, 7])
@pytest.mark.parametrize("seed", range(20))
def test_goodput_is_the_injected_truth_within_a_hundredth(seed, logging_steps):
    """Kills, stops, automatic restarts and nights in which nobody ran, at random; whatever is logged how often."""
    run = Simulated(seed, logging_steps=logging_steps)
    while run.saved < 900:
        end = run.draw.choice(["kill", "kill", "stop"])
        run.attempt(until=min(999, run.saved + run.draw.randrange(1, 150)), end=end)
        waited = run.draw.uniform(1, 3000)
        run.waits(waited, idle=end == "stop")
    run.attempt(until=1000, end="done")
    found = measure(run.events, run.facts)

    truth = run.productive_s / run.truth["wall_s"]
    assert found.share == pytest.approx(truth, abs=0.01 * truth)
    assert found.wall_s == pytest.approx(run.truth["wall_s"], rel=0.01)
    assert (found.idle_s, found.down_s) == pytest.approx((run.truth["idle_s"], run.truth["down_s"]), rel=0.01, abs=1)
    for name in ("evaluating_s", "saving_s"):
        assert found.total(name) == pytest.approx(run.truth[name], rel=0.01)
    assert found.attempts[-1].to_step == 1000
    assert sum(each.steps - each.lost_steps for each in found.attempts) == 1000


def test_a_healthy_week_and_its_failures():
    """A failure after 1,390 steps of 5 s, 30 of them not saved; 34 saves of 1.6 s, half a minute to load, 10 s to notice.

    6,800 s of 10 + 32.5 + 6,950 + 54 s are 96.5 %.
    """
    run = Simulated(0, save_steps=40, eval_steps=10**9)
    for number in range(1, 85):
        run.attempt(until=run.saved + 1390, end="kill", asked_by="person" if number == 1 else "policy", mean_step_s=5)
        run.waits(10, idle=False)
    found = measure(run.events, run.facts)

    assert found.share == pytest.approx(0.965, abs=0.002)
    assert found.share == pytest.approx(run.productive_s / run.truth["wall_s"], rel=0.001)
    assert found.lost_steps == 83 * 30  # those of the last attempt are not lost before another goes on without them
    assert found.idle_s == 0


def step(number, time, attempt=1, seconds=2.0, event="step"):
    return {"event": event, "time": time, "attempt": attempt, "step": number, "seconds": seconds}


def attempt(number, time):
    return {"event": "attempt", "time": time, "attempt": number}


def start(number, time, at=0):
    return {"event": "start", "time": time, "attempt": number, "step": at}


FIRST = [attempt(1, 0.0), start(1, 6.0), *(step(n, 6.0 + 2 * n) for n in (1, 2, 3, 4, 5))]
"""Ten seconds of training after six of loading."""


def test_a_step_trained_again_counts_once():
    """Five steps, the last two again after a kill, 10 s down: of 6 + 10 + 10 + 4 + 6 s, 12 are productive, 4 lost."""
    again = [attempt(2, 26.0), start(2, 30.0, at=3), *(step(n, 24.0 + 2 * n, attempt=2) for n in (4, 5, 6))]
    found = measure([*FIRST, *again])

    assert (found.wall_s, found.down_s, found.idle_s, found.other_s) == (36.0, 10.0, 0.0, 10.0)
    assert (found.total("productive_s"), found.total("lost_s"), found.lost_steps) == (12.0, 4.0, 2)
    assert found.share == pytest.approx(12 / 36)
    one, two = found.attempts
    assert (one.from_step, one.to_step, one.steps, one.lost_steps) == (0, 5, 5, 2)
    assert (two.from_step, two.to_step, two.steps, two.lost_steps) == (3, 6, 3, 0)
    assert (one.first_step_s, two.first_step_s) == (8.0, 6.0)


def test_a_log_over_several_steps_is_cut_where_the_next_attempt_begins():
    """A log of ten steps and 20 s, gone on from step 4: 8 s count. The first step ended 18 s before that log."""
    events = [attempt(1, 0.0), start(1, 5.0), step(10, 25.0, seconds=20.0), attempt(2, 25.0), start(2, 30.0, at=4)]
    found = measure(events)

    assert (found.total("productive_s"), found.total("lost_s"), found.lost_steps) == (8.0, 12.0, 6)
    assert found.attempts[0].first_step_s == 7.0


@pytest.mark.parametrize(
    ("code", "asked_by", "idle"),
    [(85, "person", True), (130, "person", True), (0, "person", True), (6, "person", False), (None, "person", False), (85, "policy", False)],
)  # fmt: skip
def test_time_is_idle_only_where_a_person_wanted_it(code, asked_by, idle):
    """After an error, a kill, or a stop that the restart policy answers, the run should have been running."""
    facts = [
        Attempt(1, "a", 1, 0.0, None if code is None else 16.0, code),
        Attempt(2, "a", 1, 116.0, asked_by=asked_by),
    ]
    found = measure([*FIRST, attempt(2, 116.0), start(2, 118.0, at=5), step(6, 120.0, attempt=2)], facts)

    assert (found.idle_s, found.down_s) == ((100.0, 0.0) if idle else (0.0, 100.0))
    assert found.wall_s == 20.0 + found.down_s


@pytest.mark.parametrize(
    ("code", "turns", "waited"),
    [
        (85, (Turn("7", 1), Turn("7", 2)), "queued_s"),  # time limit, preemption
        (85, (Turn("7", 1), Turn("8", 2)), "queued_s"),  # the next of several jobs that were queued up front
        (86, (Turn("7", 1), Turn("7", 2)), "down_s"),  # a node failed: the queue is a part of what that cost
        (85, (Turn("7", 1), Turn("7", 1)), "down_s"),
        (85, (None, None), "down_s"),
    ],
)
def test_time_in_the_queue_between_two_turns_is_told_apart(code, turns, waited):
    """An attempt of 100 s, 7,200 s until the next one by itself, which takes 50 s."""
    first, second = turns
    events = [
        {"event": "attempt", "time": 0.0, "attempt": 1},
        {"event": "end", "time": 100.0},
        {"event": "attempt", "time": 7300.0, "attempt": 2},
        {"event": "start", "time": 7350.0, "attempt": 2, "step": 0},
    ]
    facts = [
        Attempt(1, "n", 1, 0.0, 100.0, code, turn=first),
        Attempt(2, "n", 1, 7300.0, asked_by="policy", turn=second),
    ]
    found = measure(events, facts).as_json()
    assert {name: found[name] for name in ("queued_s", "down_s", "idle_s")} == {
        "queued_s": 0.0,
        "down_s": 0.0,
        "idle_s": 0.0,
        waited: 7200.0,
    }
    assert found["wall_s"] == (7350.0 if waited == "down_s" else 150.0)


def test_without_facts_the_events_say_whether_a_stop_was_wanted():
    """A copied run may lack `attempts/`; its numbers begin at 1 again."""
    stopped = {"event": "stage", "time": 20.0, "stage": "train", "state": "stopped"}
    found = measure([*FIRST, stopped, attempt(1, 100.0), start(1, 110.0, at=5)], [Attempt(1, "a", 1, 100.0)])
    assert (found.idle_s, found.down_s, found.wall_s) == (80.0, 0.0, 30.0)


def test_what_a_replaced_attempt_still_says_does_not_count():
    """A rank that was paused wakes up, trains a step and tells of it."""
    late = [attempt(2, 20.0), start(2, 22.0, at=5), step(6, 23.0), start(1, 23.0), step(6, 24.0, attempt=2)]
    found = measure([*FIRST, *late])

    assert [(each.from_step, each.to_step) for each in found.attempts] == [(0, 5), (5, 6)]
    assert (found.total("productive_s"), found.lost_steps) == (12.0, 0)


def test_ranks_started_by_hand_are_an_attempt_each():
    """torchrun, typed by a person, writes no `attempt` event."""
    found = measure([start(1, 6.0), step(1, 8.0), start(2, 20.0), step(1, 22.0, attempt=2)])

    assert [(each.number, each.steps, each.lost_steps) for each in found.attempts] == [(1, 1, 1), (2, 1, 0)]
    assert found.total("productive_s") == 2.0


def test_preparing_evaluation_and_saving_are_told_apart():
    """Each is wall time; that of a checkpoint only as long as training waited."""
    stage = {"event": "stage", "stage": "prepare"}
    found = measure([
        attempt(1, 0.0), {**stage, "time": 1.0, "state": "started"}, {**stage, "time": 31.0, "state": "done"}, start(1, 40.0),
        {"event": "eval", "time": 44.0, "step": 0, "seconds": 3.0}, {"event": "score", "time": 45.0, "step": 0, "seconds": 1.0},
        step(1, 47.0), {"event": "commit", "time": 50.0, "seconds": 2.5, "blocked_s": 0.5}, {"event": "commit", "time": 53.0, "seconds": 1.5},
    ])  # fmt: skip
    totals = {name: found.total(name) for name in ("preparing_s", "evaluating_s", "saving_s", "productive_s")}

    assert totals == {"preparing_s": 30.0, "evaluating_s": 4.0, "saving_s": 2.0, "productive_s": 2.0}
    assert (found.wall_s, found.other_s) == (53.0, 15.0)


@pytest.mark.parametrize(
    "events",
    [[], [attempt(1, 0.0)], FIRST[:2], [*FIRST, {"event": "step", "time": 20.0, "attempt": 1, "step": 6}], [{"event": "step"}], [{"event": "attempt"}, {"event": "step", "step": None}]],
)  # fmt: skip
def test_what_is_not_known_is_not_made_up(events):
    """No attempt, no step, a step of an older version that did not say how long it took, damaged lines."""
    assert measure(events).share is None
