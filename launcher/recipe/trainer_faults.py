"""What is wrong with a key of `training:`, in words."""

from __future__ import annotations

from launcher.errors import RecipeError
from launcher.recipe import trainer
from launcher.recipe.deprecated import value_of
from launcher.recipe.faults import as_written, readings, seen, unknown
from launcher.recipe.nodes import Node, Scalar, Table, at, key_place
from launcher.recipe.ownership import owner_of
from launcher.recipe.suggest import written
from launcher.recipe.unknown import owned_key
from launcher.text import did_you_mean


def training_fault(tree: Table, name: str) -> RecipeError:
    """The fault of a key that `trainer.fits` refuses: not the trainer's, another section's, or a wrong value."""
    node, place = at(tree, ("training", name)), key_place(tree, ("training", name))
    if node is None or not (trainer.words_of(name) or name in trainer.passed_on() or owner_of(name)):
        return unknown(tree, ("training", name))
    if trainer.words_of(name):
        message, hint = _no_such_word(node, name)
        place = node.place
    elif name in trainer.passed_on():
        message, hint = _wrong_value(node, trainer.passed_on()[name])
        place = node.place
    else:
        message, hint = owned_key(tree, name)
    return RecipeError(message, key=f"training.{name}", place=place, hint=hint)


def _no_such_word(node: Node, name: str) -> tuple[str, str]:
    """For a key of ours whose words are the trainer's."""
    words = trainer.words_of(name)
    near = did_you_mean(node.text, words) if isinstance(node, Scalar) else None
    hint = f"did you mean `{near}`?" if near else f"write one of {', '.join(words)}"
    return f"no such {'optimizer' if name == 'optim' else 'schedule'}: {seen(node)}", hint


def _wrong_value(node: Node, field: trainer.TrainerField) -> tuple[str, str]:
    old = value_of(field.name, node.text) if isinstance(node, Scalar) else None
    if old:
        return f"{seen(node)} is deprecated, and ends with {old.ends}", old.instead
    hint = f"leave it out for the default, {written(field.default)}"
    if isinstance(node, Scalar):
        others = readings(node, field.choices, boolean="bool" in field.types)
        fitting = [each for each in others if each is not None and field.accepts(each)]
        if fitting:
            hint = f"write `{field.name}: {as_written(node, fitting[0])}`"
        elif near := did_you_mean(node.text, field.choices):
            hint = f"did you mean `{near}`?"
    return f"needs {field.expects()}, got {seen(node)}", hint
