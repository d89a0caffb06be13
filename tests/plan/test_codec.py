"""plan.json: round trip, one set of bytes, and refusal of what is no plan."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.errors import EnvironmentFault
from launcher.plan import codec
from launcher.plan.types import Plan
from tests.support import planning

ROOT = Path(__file__).parent.parent.parent
EVERYTHING = (
    "quantization={load_in_4bit: true}",
    "data.eval_datasets=[{label: held_out, from: all, fraction: 0.1}]",
    "evaluation.generate=[{dataset: held_out, metrics: [exact_match, chrf]}]",
    "tracking={report_to: [tensorboard], tags: [a, b]}",
    "peft.target_modules=[q_proj, v_proj]",
    "training.warmup_steps=0.03",
)


def test_a_plan_reads_back_as_itself(tmp_path):
    """The worker sees exactly what was decided: tuples stay tuples, nested types stay types."""
    plan = planning.plan(tmp_path, *EVERYTHING)
    again = codec.loads(codec.dumps(plan))
    assert again == plan
    assert codec.digest(again) == codec.digest(plan)
    assert isinstance(again.evaluation.generate[0].metrics, tuple)


def test_no_absolute_path_stands_in_a_plan(tmp_path):
    """A run directory can be copied to another machine; paths of this one stand in the placement."""
    made = planning.planned(tmp_path, sets=EVERYTHING)
    assert str(tmp_path) not in codec.dumps(made.plan)
    assert made.placement == {"data.sums": [str(tmp_path / "train.jsonl")]}


def test_no_auto_is_left(tmp_path):
    """Nothing is decided after the plan."""
    values = json.loads(codec.dumps(planning.plan(tmp_path, *EVERYTHING)))
    values.pop("identity")  # holds the recipe's own words, so that a run can move to other hardware
    assert '"auto"' not in json.dumps(values)


def test_the_same_input_gives_the_same_bytes_whatever_the_hash_seed(tmp_path):
    """Plans are reviewed as golden files and their hash stands in every checkpoint."""
    planning.recipe(tmp_path, sets=())
    program = (
        "import sys; from pathlib import Path; from tests.support import planning; from launcher.plan import codec;"
        f"print(codec.digest(planning.plan(Path(sys.argv[1]), *{EVERYTHING!r})))"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", program, str(tmp_path)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert len(digests) == 1


def test_every_field_changes_the_digest(tmp_path):
    """A field that the hash leaves out could change between plan and checkpoint unseen."""
    plan = planning.plan(tmp_path, *EVERYTHING)
    for field in dataclasses.fields(Plan):
        other = dataclasses.replace(plan, **{field.name: "other"})
        assert codec.digest(other) != codec.digest(plan), field.name


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not JSON"),
        ("[]", "schema None"),
        ('{"schema": 99}', "schema 99, this launcher reads 5"),
        ('{"schema": 5}', "damaged"),
    ],
)
def test_what_is_no_plan_is_refused_in_one_sentence(text, says):
    """A torn or foreign file must not become a half-filled plan."""
    with pytest.raises(EnvironmentFault, match=says):
        codec.loads(text)


def test_a_field_of_another_version_is_refused(tmp_path):
    """An unknown field is a decision this version would not carry out."""
    values = json.loads(codec.dumps(planning.plan(tmp_path)))
    values["batch"]["micro"] = 1
    with pytest.raises(EnvironmentFault, match="micro"):
        codec.loads(json.dumps(values))
