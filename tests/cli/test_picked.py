"""What a start says about a recipe that changed, field by field."""

from launcher.cli import output
from launcher.executors.pick import Pick
from launcher.runs.paths import RunDir

RATE, SEED, EPOCHS = (
    ("training.learning_rate", 0.1, 0.2),
    ("training.seed", 1, None),
    ("training.num_train_epochs", 2, 3),
)


def said(capsys, pick):
    output.picked(pick)
    return capsys.readouterr().err.splitlines()


def test_a_new_run_says_in_what_it_differs_from_the_last_one(capsys, tmp_path):
    """The person sees why a second directory appeared."""
    pick = Pick("start", RunDir(tmp_path / "tiny-2"), RunDir(tmp_path / "tiny"), (RATE, SEED))
    assert said(capsys, pick) == [
        "the recipe differs from tiny:",
        "  training.learning_rate: 0.1 → 0.2",
        "  training.seed: 1 → not set",
        f"starting {tmp_path}/tiny-2",
    ]


def test_allowed_changes_are_listed_and_a_new_schedule_is_explained(capsys, tmp_path):
    """Of more epochs, the rate of the next step is what surprises: it jumps to where the longer schedule would be."""
    run = RunDir(tmp_path / "tiny")
    assert said(capsys, Pick("continue", run, differences=(EPOCHS,))) == [
        "allowed changes:",
        "  training.num_train_epochs: 2 → 3",
        "  the learning rate goes on as if this had been its schedule from the start",
        f"continuing {run.root}",
    ]
    assert len(said(capsys, Pick("continue", run, differences=(SEED,)))) == 3
