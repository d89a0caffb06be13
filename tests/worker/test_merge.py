"""RUN/merged is the model that was trained, by a script that knows transformers and peft only."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from launcher.plan import codec
from launcher.plan.types import Plan
from launcher.runs import events
from launcher.runs.paths import RunDir
from tests.support import tiny, trained, warm

INT8 = {"load_in_8bit": True}
# Name → settings of the adapter beside those of tiny.LORA, and the quantization.
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any] | None]] = {
    "on the base itself": ({}, None),
    "rank-stabilised DoRA on 4 bits": ({"use_rslora": True, "use_dora": True}, tiny.NF4),
    "on 4 bits kept as bfloat16": ({}, {**tiny.NF4, "bnb_4bit_quant_storage": "bfloat16"}),
    "on 8 bits": ({}, INT8),
    "with a head of its own, untied": ({"modules_to_save": ["lm_head"]}, tiny.NF4),
    "with some rows of the embedding": ({"trainable_token_indices": [3, 300]}, tiny.NF4),
    "on a base that it starts by changing": ({"init_lora_weights": "olora"}, None),
}
EXACT = 1e-5
"""Sums in another order: float32 holds seven digits, and logits here reach 1."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> RunDir:
    """A run whose data is ready, and its base model beside it."""
    return trained.run_dir(tmp_path_factory.mktemp("merge") / "run", tiny.plan(peft=tiny.LORA), tiny.messages(20))


def finished(prepared: RunDir, root: Path, plan: Plan, lora: Mapping[str, Any]) -> RunDir:
    """A copy of the prepared run by another plan, with an adapter that was not trained, but might have been."""
    shutil.copytree(prepared.root, root)
    run = RunDir(root)
    run.plan.write_text(codec.dumps(plan))
    made = {"model": str(base_of(prepared)), "out": str(run.model), "lora": dict(lora), "tokenizer": str(run.tokenizer)}
    assert warm.run("tests.worker.merge_cases:adapt", made).codes == (0,)
    return run


def base_of(run: RunDir) -> Path:
    """The folder of the base model."""
    return run.root.parent / "model"


def exported(run: RunDir, base: str, *, function: str = "export") -> dict[str, Any]:
    """Run the stage; returns its note."""
    result = warm.run(f"tests.worker.merge_cases:{function}", {"run_dir": str(run.root), "base": base})
    note = dict(json.loads((run.attempt(1) / "exit-export.json").read_text()))
    assert result.value == note["code"], result.logs[0]
    return note


def compared(run: RunDir, base: Path, **how: Any) -> dict[str, Any]:
    """What the plain script says of RUN/merged."""
    folders = {"base": str(base), "adapter": str(run.model), "merged": str(run.merged)}
    return dict(warm.run("tests.worker.merge_cases:compare", {**folders, **how}).value)


def told(run: RunDir) -> dict[str, Any]:
    """The last `export` event."""
    return [each for each in events.read(run.events) if each["event"] == "export"][-1]


@pytest.mark.train
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_merged_model_is_adapter_and_base(prepared, tmp_path, variant):
    """Whatever was trained, and in however many bits the base was kept."""
    more, quantization = VARIANTS[variant]
    lora = {**tiny.LORA, **more}
    run = finished(prepared, tmp_path / "run", tiny.plan(peft=lora, quantization=quantization), lora)
    note = exported(run, "quantized" if quantization else "original")
    found = compared(run, base_of(prepared), quantization=quantization)

    assert note["code"] == 0, note
    assert found["away"] < EXACT < 0.1 < found["adapter"]
    assert (found["dtypes"], found["quantized"]) == (["float32"], False)
    assert told(run)["logits"]["merged"] < EXACT
    assert told(run)["logits"]["adapter"] > 0.1


@pytest.mark.train
def test_a_trained_qlora_adapter_fits_either_base(tmp_path):
    """Expanded, the 4-bit base gives the trained model; the original base gives another one, and the run says how far off."""
    run = trained.run_dir(tmp_path / "run", tiny.plan(peft=tiny.LORA, quantization=tiny.NF4), tiny.messages(20))
    trained.train(run)
    base = tmp_path / "model"
    assert exported(run, "quantized")["code"] == 0
    same = compared(run, base, quantization=tiny.NF4)
    names = {path.name for path in run.merged.iterdir()}
    texts = [(run.merged / each.name).read_bytes() == each.read_bytes() for each in run.tokenizer.iterdir()]
    assert exported(run, "original")["code"] == 0
    other, on_original = compared(run, base, quantization=tiny.NF4), compared(run, base)

    assert same["away"] < EXACT < 0.01 < other["away"]
    assert on_original["away"] < EXACT
    assert told(run)["base"] == "original"
    assert told(run)["logits"]["trained"] == pytest.approx(other["away"], rel=0.9)  # other rows
    assert all(texts) and {"config.json", "generation_config.json", "model.safetensors"} < names
    assert not names & {"adapter_config.json", "README.md"}
    assert not run.merged_drafts


@pytest.mark.train
def test_an_adapter_that_was_trained_on_is_merged_once(prepared, tmp_path):
    """What lies in RUN/model holds what it started from."""
    start = tmp_path / "start"
    shutil.copytree(base_of(prepared), tmp_path / "model")
    made = {
        "model": str(tmp_path / "model"),
        "out": str(start),
        "lora": tiny.LORA,
        "tokenizer": str(prepared.tokenizer),
    }
    assert warm.run("tests.worker.merge_cases:adapt", made).codes == (0,)
    plan = tiny.changed(tiny.plan(model_plan={"adapter": "start"}, max_steps=2), method="lora")
    run = trained.run_dir(tmp_path / "run", plan, tiny.messages(20), adapter=str(start))
    trained.train(run)

    assert exported(run, "original")["code"] == 0
    assert compared(run, tmp_path / "model")["away"] < EXACT


@pytest.mark.train
def test_sixteen_bits_round_the_sum_once(prepared, tmp_path):
    """bfloat16 keeps eight digits of a weight: half a unit of the last, 2^-9, is lost of each, and no more."""
    plan = tiny.plan(peft=tiny.LORA, model_plan={"dtype": "bfloat16"})
    run = finished(prepared, tmp_path / "run", plan, tiny.LORA)
    note = exported(run, "original")
    found = compared(run, base_of(prepared), dtype="bfloat16")

    assert note["code"] == 0, note
    assert found["dtypes"] == ["bfloat16"]
    assert 0 < found["away"] < 0.05 * found["largest"]
    assert told(run)["logits"]["merged"] < told(run)["logits"]["allowed"]
    assert told(run)["bytes"] < 0.6 * sum(path.stat().st_size for path in base_of(prepared).glob("*.safetensors")) + 5e4


@pytest.mark.train
def test_an_adapter_that_rounding_swamps_is_told(prepared, tmp_path):
    """An update far below the last place of a 16-bit weight is gone, though nothing went wrong."""
    lora = {**tiny.LORA, "lora_alpha": 0.001}
    run = finished(prepared, tmp_path / "run", tiny.plan(peft=lora, model_plan={"dtype": "bfloat16"}), lora)
    assert exported(run, "original")["code"] == 0
    (warning,) = (each["message"] for each in events.read(run.events) if each["event"] == "warning")
    assert warning.startswith("rounding the merged weights to bfloat16 moves the logits by up to ")


@pytest.mark.train
def test_a_merge_that_lost_the_adapter_never_becomes_the_result(prepared, tmp_path):
    """What was saved is loaded and asked before it gets its name; an older result stays."""
    run = finished(prepared, tmp_path / "run", tiny.plan(peft=tiny.LORA), tiny.LORA)
    run.merged.mkdir()
    (run.merged / "older").touch()
    note = exported(run, "original", function="export_losing_the_adapter")

    assert note["code"] == 6
    assert note["error"].startswith("the merged model is another one than adapter and base: logits differ by up to ")
    assert [path.name for path in run.merged.iterdir()] == ["older"]
    assert not [each for each in events.read(run.events) if each["event"] == "export"]


@pytest.mark.train
def test_a_newer_result_takes_the_old_merged_model_away(tmp_path):
    """RUN/merged beside an adapter that was trained further would be another model under the same run."""
    run = trained.run_dir(tmp_path / "run", tiny.plan(peft=tiny.LORA, max_steps=2), tiny.messages(20))
    run.merged.mkdir()
    trained.train(run)
    assert run.model.exists()
    assert not run.merged.exists()
