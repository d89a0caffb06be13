"""The tape gives out and takes back bytes as torch's engine does."""

from __future__ import annotations

from launcher.predict.tape import Tape, Weight


def test_a_result_that_nothing_needs_is_given_back_at_once():
    """Without a trained input nothing is kept for a gradient."""
    tape = Tape()
    x = tape.op(100, 4)
    y = tape.op(100, 4, [x])
    assert tape.now == 800
    del x
    assert tape.now == 400
    del y
    assert tape.now == 0


def test_a_product_keeps_what_its_gradient_needs_until_its_node_has_run():
    """y = x · W keeps x for W's gradient; the backward pass frees it and leaves W's gradient."""
    tape, weight = Tape(), Weight("w", 10, 4, trained=True)
    x = tape.op(100, 4)
    y = tape.op(50, 4, [x, weight], keep=[x])
    del x
    assert tape.now == 400 + 200

    grad = [tape.new(200)]
    del y
    tape.backward(grad, tape.nodes)

    assert tape.now == 40
    assert weight.grad is not None and weight.grad.size == 40


def test_a_second_gradient_is_added_to_the_first_in_place():
    """A weight that is used twice has one gradient; the second is there only until it is added."""
    tape, weight = Tape(), Weight("w", 10, 4, trained=True)
    x = tape.op(10, 4, [weight])
    y = tape.op(10, 4, [x, weight])
    del x
    grad = [tape.new(40)]
    del y
    tape.backward(grad, tape.nodes)
    assert tape.now == 40


def test_a_checkpoint_keeps_its_input_alone_and_holds_the_rest_while_it_runs_again():
    """Three results of 400 bytes inside: none is kept forward, all are there when the gradient comes."""
    tape, weight = Tape(), Weight("w", 1, 4, trained=True)

    def run(x):
        for _ in range(3):
            x = tape.op(100, 4, [x, weight], keep=[x])
        return x

    x = tape.op(100, 4, [weight])
    y = tape.checkpoint(run, x)
    assert tape.now == 800  # the input and the result
    del x
    grad = [tape.new(400)]
    del y
    assert tape.now == 800  # the input and the gradient
    with tape.stretch("backward"):
        tape.backward(grad, tape.nodes)
    assert tape.peaks["backward"][0] >= 800 + 2 * 400
    assert tape.now == 4


def test_what_is_held_is_told_apart_by_label():
    """The sum of all labels is what is held."""
    tape = Tape()
    with tape.labelled("loss"):
        kept = tape.new(8)
    other = tape.new(16)
    assert sum(tape.held) == tape.now == 24
    assert tape.held[kept.label] == 8
    other.relabel("gradients")
    assert sum(tape.held) == 24
