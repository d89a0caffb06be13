"""The result of a run is an adapter that peft reads alone, beside the base as it is published, and answers as it did in training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file, save_file

from launcher.runs.paths import RunDir
from tests.support import tiny, trained, warm
from tests.worker.adapter_cases import LOGITS

ROWS = tiny.messages(24)
TOKENS = {"add_tokens": ("plus",)}  # in every row
CASES: dict[str, dict[str, Any]] = {
    "int8": {"quantization": tiny.INT8},
    "added tokens": {"model_plan": TOKENS},
    "pissa_niter": {"peft": {"init_lora_weights": "pissa_niter_4"}},
    "added tokens, qlora": {"model_plan": TOKENS, "quantization": tiny.NF4},
    "added tokens, int8": {"model_plan": TOKENS, "quantization": tiny.INT8},
    "added tokens, head of its own": {"model_plan": TOKENS, "model": {"tie_word_embeddings": False}},
    "added tokens, embeddings trained whole": {
        "model_plan": TOKENS,
        "peft": {"modules_to_save": ["embed_tokens", "lm_head"]},
    },
    "dora": {"peft": {"use_dora": True}},
    "dora qlora": {"peft": {"use_dora": True}, "quantization": tiny.NF4},
    "olora, dora, head trained whole": {
        "peft": {"init_lora_weights": "olora", "use_dora": True, "modules_to_save": ["lm_head"]}
    },
    "pissa, rslora, patterns, added tokens": {
        "model_plan": TOKENS,
        "peft": {
            "init_lora_weights": "pissa",
            "use_rslora": True,
            "rank_pattern": {"q_proj": 8},
            "alpha_pattern": {"up_proj": 3.0},
        },
    },
    "mica": {"peft": {"init_lora_weights": "mica"}},
    "orthogonal": {"peft": {"init_lora_weights": "orthogonal"}},
}
QUICK = ("added tokens", "pissa_niter")
ROUNDING = {"pissa_niter": 2e-5, "olora, dora, head trained whole": 2e-5, "pissa, rslora, patterns, added tokens": 2e-5}
"""Where the start is taken out again, sums come in another order; all others are equal to the bit."""


def run_of(folder: Path, *, peft: dict[str, Any] | None = None, model: dict[str, Any] | None = None, **more: Any):
    """A run that is trained, with what its model answers."""
    plan = tiny.plan(peft={**tiny.LORA, **(peft or {})}, max_steps=6, **more)
    base = tiny.model(folder / "model", **(model or {}))
    data = tiny.jsonl(folder / "train.jsonl", ROWS)
    run = tiny.run_dir(folder / "run", plan, {"model": str(base), "data.train": str(data)})
    trained.prepare(run)
    env = {"LAUNCHER_ATTEMPT": "1"}
    result = warm.run("tests.worker.adapter_cases:rank", {"run_dir": str(run.root)}, torchrun=True, env=env)
    assert result.codes == (0,), run.rank_log(1, 0).read_text()[-3000:]
    return run


def read_alone(run: RunDir, quantization: dict[str, Any] | None = None) -> dict[str, Any]:
    args = {"adapter": str(run.model), "base": str(run.root.parent / "model"), "quantization": quantization}
    return dict(warm.run("tests.worker.adapter_cases:read_alone", {**args, "logits": str(run.root / LOGITS)}).value)


@pytest.mark.train
@pytest.mark.parametrize(
    "case", [each if each in QUICK else pytest.param(each, marks=pytest.mark.slow) for each in CASES]
)
def test_peft_alone_reads_the_result_as_it_was_trained(tmp_path: Path, case: str):
    """Six steps moved the answers; a file that held too little, or fitted another base, would be further off than that."""
    settings = CASES[case]
    read = read_alone(run_of(tmp_path, **settings), settings.get("quantization"))

    assert read["difference"] <= ROUNDING.get(case, 0.0)
    assert read["apart_from_the_start"] > 0.05
    assert read["as_float32"] < 0.05
    assert read["start"] in (True, "mica", "orthogonal")


@pytest.mark.train
@pytest.mark.slow
def test_the_rows_of_added_tokens_are_all_that_is_saved_of_the_embeddings(tmp_path: Path):
    """peft would add the whole embedding, twice, as it has grown: 1.2 GB each for an 8B model."""
    plain = read_alone(run_of(tmp_path / "plain"))
    grown = read_alone(run_of(tmp_path / "grown", model_plan=TOKENS))
    hidden = 64
    assert grown["bytes"] - plain["bytes"] == hidden * 4
    assert grown["others"] == ["base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta"]


@pytest.mark.train
@pytest.mark.slow
@pytest.mark.parametrize("quantization", [tiny.NF4, tiny.INT8])
def test_an_adapter_is_trained_on_over_a_quantized_base(tmp_path: Path, quantization: dict[str, Any]):
    """It begins where it ended, and its result answers alone as in training."""
    first = run_of(tmp_path / "first", quantization=quantization)
    second = tmp_path / "second"
    plan = tiny.plan(quantization=quantization, model_plan={"adapter": "first/model"}, trainer={"learning_rate": 1e-2})
    plan = tiny.changed(plan, method="int8" if "load_in_8bit" in quantization else "qlora")
    base, data = tmp_path / "first" / "model", tiny.jsonl(second / "train.jsonl", ROWS)
    run = tiny.run_dir(second / "run", plan, {"model": str(base), "adapter": str(first.model), "data.train": str(data)})
    trained.prepare(run)
    result = warm.run(
        "tests.worker.adapter_cases:rank", {"run_dir": str(run.root)}, torchrun=True, env={"LAUNCHER_ATTEMPT": "1"}
    )
    assert result.codes == (0,), run.rank_log(1, 0).read_text()[-3000:]

    assert trained.losses(run)[0] < trained.losses(first)[0] - 0.1
    args = {"adapter": str(run.model), "base": str(base), "quantization": quantization}
    read = warm.run("tests.worker.adapter_cases:read_alone", {**args, "logits": str(run.root / LOGITS)}).value
    assert read["difference"] == 0.0


@pytest.mark.train
@pytest.mark.slow
def test_a_run_whose_start_differs_here_does_not_go_on(tmp_path: Path):
    """Another machine's `pissa_niter` may find other vectors; the adapter of a checkpoint would then stand on another base."""
    plan = tiny.plan(peft={**tiny.LORA, "init_lora_weights": "pissa_niter_4"}, max_steps=6, save_steps=2)
    run = trained.run_dir(tmp_path / "run", plan, ROWS)
    trained.train(run)
    file = run.adapter_start
    start = load_file(file)
    name = min(start)
    save_file({**start, name: start[name] * 1.01}, file)
    trained.train(run, attempt=2, code=93)

    assert "starts from other numbers here than when this run began" in trained.note(run, attempt=2)["error"]


@pytest.mark.train
def test_the_wrapper_of_peft_still_hides_the_bias(tmp_path: Path):
    """As of peft 0.21.2. When this fails, peft passes it on, and `launcher.worker.adapter.ready` sets it no more."""
    told = warm.run("tests.worker.adapter_cases:bias_of_a_wrapped_head", {"model": str(tiny.model(tmp_path))}).value
    assert told == "'TrainableTokensWrapper' object has no attribute 'bias'"
