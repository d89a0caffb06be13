"""A run that merges, as a person types it, from the recipe to a model that plain transformers loads."""

import json

import pytest

from launcher.runs import events
from launcher.runs.paths import RunDir
from tests.support import project, tiny, warm

RECIPE = """\
name: sums
model: {model_name_or_path: model}
quantization: {load_in_4bit: true}
peft: {r: 4}
data:
  datasets:
    - {label: sums, path: sums.jsonl, columns: {prompt: question, completion: answer}}
training: {global_batch_size: 8, learning_rate: 0.01, max_steps: 4}
export: {merge: true}
"""


@pytest.mark.train
@pytest.mark.slow
def test_run_merges_and_export_merges_again_into_another_base(tmp_path):
    """The first is the trained model; the second differs from it by the quantization, and says by how much."""
    folder = project.made(tmp_path / "project", RECIPE, rows=30)
    run = RunDir(folder / "runs" / "sums")
    first = project.launcher("run", "sums.yaml", cwd=folder)
    assert first.returncode == 0, first.stderr
    assert "result  runs/sums/model · runs/sums/merged\n" in first.stdout
    assert "merged into the quantized base" in first.stderr
    folders = {"base": str(folder / "model"), "adapter": str(run.model), "merged": str(run.merged)}
    away = warm.run("tests.worker.merge_cases:compare", {**folders, "quantization": tiny.NF4}).value["away"]
    assert away < 1e-5

    second = project.launcher("export", "sums", "--merge-base", "original", cwd=folder)
    assert (second.returncode, second.stdout) == (0, "runs/sums/merged\n"), second.stderr
    (line,) = (each for each in second.stderr.splitlines() if each.startswith("merged into the original base"))
    assert line.endswith("of the trained model's")
    merges = [event for event in events.read(run.events) if event["event"] == "export"]
    assert [event["base"] for event in merges] == ["quantized", "original"]
    assert merges[0]["logits"]["trained"] < 1e-5
    assert merges[1]["logits"]["trained"] > 1e-3
    assert json.loads((run.merged / "config.json").read_text())["dtype"] == "float32"
    assert project.launcher("run", "sums.yaml", cwd=folder).stderr == "runs/sums is finished; nothing to do\n"
