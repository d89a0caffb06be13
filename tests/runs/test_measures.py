"""What an attempt takes, from its events: while it runs, and when it has told it all."""

from launcher.runs.measures import Measures, measures, percentile

START = {"event": "start", "attempt": 1, "step": 0}


def step(number, seconds, tokens=None, attempt=1, name="step"):
    return {"event": name, "attempt": attempt, "step": number, "seconds": seconds, "tokens": tokens, "memory_gib": 1.5}


def whole(attempt=1, **more):
    return {"event": "measured", "attempt": attempt, "steps": 6, "step_s": 2.0, "ranks": [{"rank": 0}], **more}


def test_percentiles_are_values_that_occurred():
    """Of one to ten, 90 % do not exceed 9 and 99 % do not exceed 10 (nearest rank)."""
    values = [float(each) for each in range(10, 0, -1)]
    assert (percentile(values, 90), percentile(values, 99), percentile([3.0], 90), percentile([], 90)) == (
        9,
        10,
        3,
        None,
    )


def test_steps_so_far_count_without_the_first_two():
    """Steps 3 to 5 take 1, 3 and 1 s and train 600 tokens: 120 a second."""
    seconds = [9.0, 5.0, 1.0, 3.0, 1.0]
    found = measures([START, *(step(n, s, tokens=200 * n) for n, s in enumerate(seconds, 1))])
    assert found == Measures(
        1, steps=3, step_s=1.0, step_p90_s=3.0, step_p99_s=3.0, tokens_per_s=120.0, resident_gib=1.5
    )


def test_a_step_that_is_not_logged_alone_counts_by_the_mean():
    """`logging_steps: 4`: the first log holds the slow steps and is left out; the second took 2 s a step."""
    found = measures([START, step(4, 40.0, tokens=400), step(8, 8.0, tokens=800)])
    assert (found.steps, found.step_s, found.tokens_per_s) == (4, 2.0, 50.0)


def test_seconds_of_saved_steps_are_not_lost():
    """Saved at 4 (`trained`, without tokens), logged at 5: their times count; a rate needs the tokens of each."""
    found = measures([START, step(2, 9.0, 200), step(4, 2.0, name="trained"), step(5, 1.0, 500)])
    assert (found.steps, found.step_s, found.tokens_per_s) == (3, 1.0, None)


def test_before_anything_counts_memory_is_known():
    """The first screen of a run shows its memory, not an empty line."""
    assert measures([START, step(1, 9.0)]) == Measures(1, resident_gib=1.5)
    assert measures([START]) is None
    assert measures([]) is None


def test_what_the_attempt_says_itself_comes_first():
    """It has timed every step; logs know means."""
    found = measures([START, *(step(n, 1.0) for n in range(1, 9)), whole(tokens_per_s=7.5, device="AMD EPYC")])
    assert (found.step_s, found.tokens_per_s, found.device, found.over) == (2.0, 7.5, "AMD EPYC", True)


def test_another_attempt_starts_anew_and_late_words_of_the_old_one_are_passed_over():
    """Ranks of a replaced attempt may still write; the new one's figures must not mix with theirs."""
    again = {"event": "start", "attempt": 2, "step": 5}
    found = measures(
        [START, whole(), again, *(step(n, 3.0, attempt=2) for n in (6, 7, 8)), step(9, 1.0), whole(), START]
    )
    assert (found.attempt, found.steps, found.step_s, found.over) == (2, 1, 3.0, False)


def test_the_largest_of_the_ranks_counts():
    """The GPU that is fullest decides whether a run fits."""
    ranks = [{"rank": 0, "allocated_bytes": 5}, {"rank": 1, "allocated_bytes": 7}]
    found = measures([START, step(1, 1.0), whole(ranks=ranks)])
    assert (found.most("allocated_bytes"), found.most("anonymous_bytes")) == (7, None)


def test_a_spill_is_remembered_until_the_next_attempt():
    """`status` must say it long after the line has scrolled away; another attempt has another split."""
    spilled = {"event": "warning", "message": "spilled", "spill": {"seconds": 9.0}}
    assert measures([START, step(1, 1.0), spilled, whole()]).spill == "spilled"
    assert measures([START, step(1, 1.0), spilled, {**START, "attempt": 2}, step(1, 1.0, attempt=2)]).spill is None


def test_damaged_figures_are_passed_over():
    """A line that a kill tore or a person edited costs only itself."""
    odd = [step("x", 1.0), step(1, None), step(2, "fast"), {"event": "measured", "attempt": "one"}]
    assert measures([START, *odd]) == measures([START, *odd, {"event": "warning", "attempt": 1}]) is None
