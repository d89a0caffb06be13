"""`training:` against the installed TRL."""

import pytest

from launcher.recipe import trainer
from launcher.recipe.describe import keys_of
from launcher.recipe.ownership import OWNED, PASSED_ON, WORDS
from launcher.recipe.training import Training
from launcher.worker import trainer_schema
from tests.recipe.writing import SHORT, fault, load
from tests.support import warm

FIELDS = sorted(trainer.schema()["SFTConfig"])


def regenerated():
    """The schema as the installed TRL gives it now."""
    return trainer_schema.text()


@pytest.mark.train
def test_the_schema_is_that_of_the_installed_trl():
    """`python -m launcher.worker.trainer_schema` writes it; a new TRL shows as a difference."""
    now = warm.run("tests.recipe.test_trainer:regenerated", {}).value
    assert now == trainer_schema.PATH.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_is_allowed_or_has_one_owner(name):
    """One fact, one key; a field that a new TRL brings must be given a place first."""
    owners = [owner for owner, names in OWNED.items() if name in names]
    homes = owners + ["passed on"] * (name in PASSED_ON) + ["ours"] * (name in keys_of(Training))
    assert len(homes) == 1, homes


def test_the_tables_name_nothing_else():
    """What TRL has removed leaves the tables too."""
    named = {*PASSED_ON, *WORDS, *(name for names in OWNED.values() for name in names)}
    assert named <= set(FIELDS)
    assert set(keys_of(Training)) - set(FIELDS) == {"global_batch_size", "on_oom"}


@pytest.mark.parametrize(("owner", "name"), [(owner, name) for owner, names in OWNED.items() for name in names])
def test_owned_fields_are_refused_with_a_pointer(tmp_path, owner, name):
    """The owner is named, and what to do instead."""
    error = fault(tmp_path, f"{SHORT}training: {{{name}: x}}")
    assert error.key == f"training.{name}"
    assert {"plan": "`launcher plan`", "training": "deprecated"}.get(owner, f"`{owner}`") in error.message
    assert error.hint


@pytest.mark.parametrize("name", sorted(PASSED_ON))
def test_defaults_of_what_is_passed_on_are_accepted(tmp_path, name):
    """What SFTConfig itself would use is never refused."""
    from launcher.recipe.suggest import written

    value = trainer.passed_on()[name].default
    if name != "debug":
        loaded = load(tmp_path, f"{SHORT}training: {{{name}: {written(value)}}}")
        assert value is None or loaded.recipe.training.model_extra == {name: value}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("weight_decay: x", "needs a number from 0 to 10, got the text `x`"),
        ("torch_compile: 1", "needs true or false, got the number `1`"),
        ("log_level: loud", "needs one of critical, debug, detail, error, info, passive, warning, got the text `loud`"),
        ("dataloader_num_workers: 1.5", "needs a whole number from 0 to 1,024, got the number `1.5`"),
        ("lr_scheduler_kwargs: 5", "needs text, or a mapping, got the number `5`"),
        ("pad_to_multiple_of: never", "needs a whole number from 1 to 65,536, or one of auto, got the text `never`"),
    ],
)
def test_types_ranges_and_words_are_checked_without_importing_trl(tmp_path, line, message):
    """The generated schema knows them."""
    assert fault(tmp_path, f"{SHORT}training: {{{line}}}").message == message


def test_a_current_answer_about_trl_pastes_in(tmp_path):
    """SFTConfig arguments by their own names, as one finds them in its documentation."""
    text = (
        SHORT
        + "training:\n  per_device_train_batch_size: 2\n  gradient_accumulation_steps: 8\n  learning_rate: 2e-5\n  lr_scheduler_type: cosine_with_min_lr\n  lr_scheduler_kwargs: {min_lr_rate: 0.1}\n  warmup_steps: 0.1\n  weight_decay: 0.01\n  max_grad_norm: 0.3\n  neftune_noise_alpha: 5\n  loss_type: dft\n  torch_empty_cache_steps: 4\n"
    )
    assert load(tmp_path, text).recipe.training.model_extra["max_grad_norm"] == 0.3
