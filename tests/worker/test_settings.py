"""Settings that a recipe may name, trained with: the launcher's losses are plain TRL's, and forms that save memory change nothing."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from launcher.plan import codec
from launcher.recipe.optimizers import OPTIMIZERS
from launcher.runs.paths import RunDir
from tests.support import tiny, trained, warm

CASES = "tests.worker.settings_cases"
MOST = ("adamw_torch_fused", "adafactor", "adamw_8bit", "paged_adamw_8bit")
"""Trained with each time; the rest with `make test-slow`."""
FORMS: dict[str, dict[str, Any]] = {
    "all layers": {},
    "every second": {"activation_checkpointing_kwargs": {"every_n_layers": 2}},
    "selective": {"activation_checkpointing_kwargs": {"selective": True}},
    "selective, every second": {"activation_checkpointing_kwargs": {"selective": True, "every_n_layers": 2}},
    "reentrant": {"activation_checkpointing_kwargs": {"use_reentrant": True}},
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> RunDir:
    """A run that is prepared and not yet trained."""
    return trained.run_dir(tmp_path_factory.mktemp("settings") / "run", tiny.plan(epochs=1), tiny.messages(16))


def losses(prepared: RunDir, folder: Path, *, peft: dict[str, Any] | None = None, **settings: Any) -> list[float]:
    """Losses of the launcher's run of these settings."""
    shutil.copytree(prepared.root, folder)
    run = RunDir(folder)
    run.plan.write_text(codec.dumps(tiny.plan(epochs=1, peft=peft, trainer=settings)))
    trained.train(run)
    return trained.losses(run)


def plain(prepared: RunDir, *settings: dict[str, Any]) -> list[list[float]]:
    """The same with TRL alone."""
    model, rows = prepared.root.parent / "model", prepared.prepared("train")
    args = {"model": str(model), "rows": str(rows), "settings": list(settings)}
    return list(warm.run(f"{CASES}:plain", args).value)


@pytest.mark.train
@pytest.mark.parametrize("optim", MOST)
def test_an_optimizer_trains_as_with_trl_alone(tmp_path, prepared, optim):
    """Built by its name, it gives the same steps to the last bit."""
    (expected,) = plain(prepared, {"optim": optim})
    assert len(expected) == 4
    assert losses(prepared, tmp_path / "run", optim=optim) == expected


@pytest.mark.slow
@pytest.mark.parametrize("optim", sorted(set(OPTIMIZERS) - set(MOST)))
def test_every_optimizer_that_is_offered_trains_as_with_trl_alone(tmp_path, prepared, optim):
    """The table names nothing that was not run."""
    (expected,) = plain(prepared, {"optim": optim})
    assert losses(prepared, tmp_path / "run", optim=optim) == expected


@pytest.mark.train
def test_the_state_of_an_optimizer_takes_what_the_table_says():
    """Measured on a matrix of 2^20 elements; 8-bit states have a scale for each block of 256 beside."""
    on_a_cpu = {name: each for name, each in OPTIMIZERS.items() if not name.startswith("paged_ademamix")}
    measured = warm.run(f"{CASES}:state_bytes", {"names": list(on_a_cpu)}).value
    assert measured == pytest.approx({name: each.state_bytes for name, each in on_a_cpu.items()}, abs=0.05)


@pytest.mark.train
def test_paged_ademamix_has_no_cpu_form():
    """It asks for managed memory without looking where it runs: the reason why a plan for a CPU refuses it."""
    result = warm.run(f"{CASES}:state_bytes", {"names": ["paged_ademamix_8bit"]})
    assert "Method 'cget_managed_ptr' not available in CPU-only version" in result.logs[0]


@pytest.mark.train
@pytest.mark.parametrize("optim", ["adamw_8bit"])
def test_an_8_bit_state_is_continued_to_the_bit(tmp_path, optim):
    """Codes, scales and the code book come back from the checkpoint."""
    wide = {"hidden_size": 64, "intermediate_size": 128}
    tiny.model(tmp_path / "model", **wide)
    plan = tiny.plan(epochs=2, save_steps=3, trainer={"optim": optim})
    straight = trained.run_dir(tmp_path / "straight", plan, tiny.messages(16))
    trained.train(straight)
    cut = RunDir(tmp_path / "cut")
    shutil.copytree(straight.root, cut.root)
    for path in (cut.root / "checkpoints").iterdir():
        if not path.name.endswith("-3"):
            shutil.rmtree(path)
    shutil.rmtree(cut.model)
    cut.events.unlink()
    trained.train(cut, attempt=2)

    assert trained.losses(cut) == trained.losses(straight)[3:]
    assert trained.weights(cut.model) == trained.weights(straight.model)


@pytest.mark.train
@pytest.mark.parametrize("form", FORMS)
def test_recomputed_activations_change_no_loss(tmp_path, prepared, form):
    """Equal to plain TRL in the same form, and to no checkpointing at all, to the bit."""
    settings = {"activation_checkpointing": True, **FORMS[form]}
    with_trl, without = plain(prepared, settings, {})
    ours = losses(prepared, tmp_path / "run", **settings)
    assert ours == with_trl
    assert ours == without


@pytest.mark.train
def test_upstream_still_fails_on_selective_checkpoints_of_an_adapter(tmp_path, prepared):
    """The day it does not, the recipe need not refuse it."""
    shutil.copytree(prepared.root, tmp_path / "run")
    run = RunDir(tmp_path / "run")
    settings = {"activation_checkpointing": True, "activation_checkpointing_kwargs": {"selective": True}}
    run.plan.write_text(codec.dumps(tiny.plan(epochs=1, peft=tiny.LORA, trainer=settings)))
    trained.train(run, code=93)
    assert "Unexpected keyword arguments: selective" in run.rank_log(1, 0).read_text()


@pytest.mark.train
@pytest.mark.parametrize("peft", [None, tiny.LORA], ids=["full", "lora"])
def test_a_run_uses_nothing_that_is_deprecated(tmp_path, prepared, peft):
    """An argument that upstream will drop is an error here, before it is one for users."""
    shutil.copytree(prepared.root, tmp_path / "run")
    run = RunDir(tmp_path / "run")
    run.plan.write_text(codec.dumps(tiny.plan(epochs=1, peft=peft, trainer={"activation_checkpointing": True})))
    variables = {"LAUNCHER_ATTEMPT": "1"}
    args = {"run_dir": str(run.root)}
    result = warm.run(f"{CASES}:rank_without_deprecations", args, torchrun=True, env=variables)
    assert result.codes == (0,), run.rank_log(1, 0).read_text()[-3000:]


@pytest.mark.slow
def test_a_compiled_model_has_the_losses_of_the_plain_one(tmp_path):
    """One compilation for real, a minute on a CPU: fused kernels round otherwise, and no more."""
    found = warm.run(f"{CASES}:compiled", {"model": str(tiny.model(tmp_path / "model"))}, timeout=280).value
    assert found["compiled wrapper"] == ["OptimizedModule"]
    assert found["compiled"] == pytest.approx(found["eager"], abs=1e-5)
    assert len(found["eager"]) == 3
