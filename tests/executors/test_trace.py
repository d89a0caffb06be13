"""A worker traces a plan: what it answers, and the errors of models that cannot be traced."""

from __future__ import annotations

import json

import pytest

from launcher.cli.main import main
from launcher.errors import EnvironmentFault, RunFailed
from launcher.executors.trace import trace
from tests.worker.trace_cases import RECIPE, config, plan_of


@pytest.mark.train
def test_a_plan_with_trace_says_what_was_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """`launcher plan --trace --json` has the plan's keys and one more; two layers are traced as they are."""
    arguments = ["plan", str(RECIPE), "--gpus", "none", "--trace", "--json", "--set", "sharding.strategy=ddp"]
    assert main([*arguments, "--set", "launch.processes=1"]) == 0

    told = json.loads(capsys.readouterr().out)
    assert told["name"] == "tiny-zero2-sft"
    assert told["trace"]["copies"] == [2]
    # 2 layers of 64 wide and a tied embedding of 1,024 rows, in float32, as the recipe's sizes say:
    layer = 64 * (64 + 32 + 32 + 64) + 3 * 64 * 192 + 2 * 64 + 2 * 16
    assert told["trace"]["peaks"]["step"]["gradients"] == 4 * (1024 * 64 + 2 * layer + 64)


@pytest.mark.slow
def test_a_type_that_transformers_does_not_know_is_named() -> None:
    """The worker's error is ours: it names version and type, and none of the 500 types that are known."""
    with pytest.raises(EnvironmentFault, match=r"--trace: transformers .* cannot read this `qwen9`") as fault:
        trace(plan_of(), config("qwen9", 2))

    assert len(str(fault.value)) < 200


def test_a_trace_that_takes_too_long_is_given_up() -> None:
    """The process is ended, and the error says what to do."""
    with pytest.raises(RunFailed, match="not done after 0 s"):
        trace(plan_of(), config("llama", 2), limit_s=0.01)
