"""Notes on what a tracker was told outlive whatever ends the process."""

import pytest

from launcher.worker.sent import Sent, mark


@pytest.fixture
def path(tmp_path):
    return tmp_path / "wandb.sent"


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["loss", "grad_norm", "epoch"], "training"),
        (["eval_held_loss", "eval_held_exact_match", "epoch"], "evaluation"),
        (["train_runtime", "train_loss", "epoch"], "end"),
    ],
)
def test_a_log_is_known_by_its_step_and_kind(names, kind):
    """The evaluation of a step and its training loss are two logs."""
    assert mark(7, names) == (7, kind)


def test_notes_are_there_for_the_next_attempt(path):
    """The first attempt has none."""
    first = Sent(path)
    first.add([(1, "training"), (1, "evaluation")])
    first.add([(2, "training")])
    again = Sent(path)

    assert (first.kept, again.kept) == (False, True)
    assert set(again) == set(first) == {(1, "training"), (1, "evaluation"), (2, "training")}
    assert (2, "evaluation") not in again


@pytest.mark.parametrize("torn", ["\n12", "\n12 trai", "\n", "\n\x00\x00"])
def test_a_torn_note_costs_only_itself(path, torn):
    """A full disk or a power loss can cut a line; 12 must not be taken for 1, nor glued to the next."""
    Sent(path).add([(1, "training")])
    with path.open("a") as file:
        file.write(torn)
    Sent(path).add([(13, "training")])

    assert set(Sent(path)) == {(1, "training"), (13, "training")}


def test_what_cannot_be_written_is_known_and_written_later(tmp_path):
    """Telling a tracker must not end because a disk is full."""
    sent = Sent(tmp_path / "away" / "wandb.sent")
    sent.add([(1, "training")])
    assert (1, "training") in sent
    (tmp_path / "away").mkdir()
    sent.add([(2, "training")])

    assert set(Sent(tmp_path / "away" / "wandb.sent")) == {(1, "training"), (2, "training")}


def test_a_trackers_own_word_replaces_the_notes(path):
    """Here and in the file."""
    sent = Sent(path)
    sent.add([(1, "training"), (2, "training"), (3, "training")])
    sent.replace([(1, "training"), (1, "evaluation")])

    assert set(sent) == set(Sent(path)) == {(1, "training"), (1, "evaluation")}
