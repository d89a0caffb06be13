"""Settings of the trainer that fail in its first step, or do nothing: refused with the recipe, whatever the hardware."""

import pytest

from launcher.recipe import checks_settings, trainer
from launcher.recipe.optimizers import OPTIMIZERS, REFUSED
from tests.recipe.writing import SHORT, faults, load
from tests.support import warm


def found(folder, line: str, more: str = "") -> list[tuple[str, str, str]]:
    """Key, message and hint of each fault."""
    return [(each.key, each.message, each.hint) for each in faults(folder, f"{SHORT}{more}training: {{{line}}}")]


def test_every_optimizer_of_transformers_is_offered_or_refused():
    """A new release's optimizers must be given a place before anyone can name them."""
    known = set(trainer.schema()["SFTConfig"]["optim"]["choices"])
    assert set(OPTIMIZERS) | set(REFUSED) == known
    assert not set(OPTIMIZERS) & set(REFUSED)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_optimizers_that_are_not_offered_say_why_and_what_to_write(tmp_path, name):
    """Each would fail when the optimizer is built, minutes after the start; the hint is tried."""
    ((key, message, hint),) = found(tmp_path, f"optim: {name}")
    assert key == "training.optim"
    assert message == f"`{name}` {REFUSED[name][0]}"
    load(tmp_path, f"{SHORT}training: {{{hint.split('`')[1]}}}")


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_optimizers_that_are_offered_load(tmp_path, name):
    """By transformers' names."""
    assert load(tmp_path, f"{SHORT}training: {{optim: {name}}}").recipe.training.optim == name


@pytest.mark.parametrize(
    ("optim", "written", "message", "hint"),
    [
        ("adamw_torch_fused", "beta1=0.8", "reads no `beta1` from it", "write `training.adam_beta1`"),
        ("auto", "momentum=0.9", "`auto` reads no `momentum`", "name the optimizer"),
        ("adafactor", "foo=1", "reads no `foo` from it", "remove `optim_args`"),
        ("sgd", "momentun=0.9", "reads no `momentun` from it", "did you mean `momentum`?"),
        ("sgd", "momentum", "is not NAME=VALUE", "momentum=0.9"),
        ("sgd", "momentum=much", "`momentum` needs a number, got `much`", "momentum=0.9"),
        ("sgd", "momentum=0.9,nesterov=yes", "`nesterov` needs true or false, got `yes`", "nesterov=true"),
        ("sgd", "nesterov=true", "`nesterov` needs a momentum and no dampening", "momentum=0.9,nesterov=true"),
        ("ademamix_8bit", "t_alpha=1.5", "`t_alpha` needs a whole number, got `1.5`", "t_alpha=1000"),
        ("rmsprop_bnb_8bit", "alpha=0.9", "reads no `alpha` from it", "remove `optim_args`"),
    ],
)
def test_arguments_an_optimizer_would_ignore_or_choke_on_are_refused(tmp_path, optim, written, message, hint):
    """transformers ignores an unknown one without a word; bitsandbytes' RMSprop is handed text and fails on any."""
    ((key, said, instead),) = found(tmp_path, f"optim: {optim}, optim_args: '{written}'")
    assert key == "training.optim_args"
    assert message in said
    assert hint in instead


@pytest.mark.parametrize(
    ("optim", "written"),
    [
        ("sgd", "momentum=0.9, nesterov=True"),
        ("rmsprop", "alpha=0.9,centered=true"),
        ("ademamix", "beta3=0.999,t_alpha=10"),
    ],
)
def test_arguments_an_optimizer_reads_load(tmp_path, optim, written):
    """In transformers' own spelling, blanks and all."""
    load(tmp_path, f"{SHORT}training: {{optim: {optim}, optim_args: '{written}'}}")


def arguments_read() -> dict[str, list[str]]:
    """What transformers' own code asks `optim_args` for, by optimizer."""
    from transformers.trainer_optimizer import _OPTIMIZER_HANDLERS, OptimizerContext
    from transformers.training_args import TrainingArguments

    class Asked(dict):
        def __init__(self):
            super().__init__({"": ""})
            self.names = set()

        def __contains__(self, name):
            self.names.add(name)
            return False

        def get(self, name, default=None):
            self.names.add(name)
            return default

    seen = {}
    for name in OPTIMIZERS:
        asked = Asked()
        args = TrainingArguments(optim=name, use_cpu=True)
        _OPTIMIZER_HANDLERS[name](OptimizerContext(args, None, {}, {}, asked))
        seen[name] = sorted(asked.names)
    return seen


@pytest.mark.train
def test_the_arguments_of_each_optimizer_are_those_that_transformers_reads():
    """A name that it no longer reads would be ignored again."""
    read = warm.run("tests.recipe.test_settings:arguments_read", {}).value
    assert read == {name: sorted(each.arguments) for name, each in OPTIMIZERS.items()}


KWARGS = "training.activation_checkpointing_kwargs"


@pytest.mark.parametrize(
    ("line", "key", "message", "hint"),
    [
        ("{every_n_layer: 2}", f"{KWARGS}.every_n_layer", "unknown key", "did you mean `every_n_layers`?"),
        ("{every_n_layers: 0}", f"{KWARGS}.every_n_layers", "a whole number from 1, got `0`", "write `2`"),
        ("{every_n_layers: 2.0}", f"{KWARGS}.every_n_layers", "a whole number from 1, got `2.0`", "write `2`"),
        ("{selective: 1}", f"{KWARGS}.selective", "needs true or false, got `1`", "write `true`"),
        ("'{}x'", KWARGS, "needs a mapping", "write `{every_n_layers: 2}`"),
        ("{selective: true, use_reentrant: true}", f"{KWARGS}.selective", "not reentrant", "remove `use_reentrant`"),
        ("{selective: true, offload: true}", f"{KWARGS}.selective", "has not been tried", "keep one"),
        (
            "{offload: true}, activation_offloading: true",
            f"{KWARGS}.offload",
            "moved to host memory twice",
            "keep one",
        ),
        (
            "{every_n_layers: 2}, activation_checkpointing: false",
            KWARGS,
            "nothing is checkpointed",
            "remove the kwargs",
        ),
    ],
)
def test_forms_of_checkpointing_that_fail_or_do_nothing_are_refused(tmp_path, line, key, message, hint):
    """Upstream they are a ZeroDivisionError, an error of torch's in the first step, or silence."""
    ((where, said, instead),) = found(tmp_path, f"activation_checkpointing_kwargs: {line}")
    assert where == key
    assert message in said
    assert hint in instead


def test_selective_checkpointing_of_an_adapter_is_refused(tmp_path):
    """TRL wraps the method of the model it is given, and the trainer calls the one below the adapter."""
    ((key, message, hint),) = found(tmp_path, "activation_checkpointing_kwargs: {selective: true}", "peft: {r: 8}\n")
    assert key == f"{KWARGS}.selective"
    assert "fails with an adapter" in message
    assert "every_n_layers" in hint


@pytest.mark.parametrize(
    "form", ["{every_n_layers: 2}", "{selective: true, every_n_layers: 2}", "{use_reentrant: false}"]
)
def test_forms_of_checkpointing_that_train_load(tmp_path, form):
    """Those that tests/worker/test_settings.py trains with."""
    load(tmp_path, f"{SHORT}training: {{activation_checkpointing_kwargs: {form}}}")


@pytest.mark.parametrize(
    ("line", "key", "message", "hint"),
    [
        ("torch_compile: true, torch_compile_backend: inducter", "backend", "does not train here", "`inductor`?"),
        ("torch_compile: true, torch_compile_mode: fast", "mode", "does not train here", "write one of default"),
        ("torch_compile_mode: max-autotune", "mode", "nothing is compiled", "add `torch_compile: true`"),
        (
            "torch_compile: true, torch_compile_backend: eager, torch_compile_mode: default",
            "mode",
            "`eager` has no modes",
            "remove the mode",
        ),
    ],
)
def test_words_of_the_compiler_are_checked(tmp_path, line, key, message, hint):
    """transformers takes any text, and torch fails on it in the first step."""
    ((where, said, instead),) = found(tmp_path, line)
    assert where == f"training.torch_compile_{key}"
    assert message in said
    assert hint in instead


def compilers() -> dict[str, list[str]]:
    """Backends and modes of the installed torch."""
    import torch

    return {
        "backends": torch._dynamo.list_backends(exclude_tags=()),
        "modes": list(torch._inductor.list_mode_options()),
    }


@pytest.mark.train
def test_words_of_the_compiler_are_torchs():
    """They change with its releases."""
    words = warm.run("tests.recipe.test_settings:compilers", {}).value
    assert set(checks_settings.BACKENDS) <= set(words["backends"])
    assert set(checks_settings.MODES) <= set(words["modes"])
