"""Whether the plan says that TRL trains with another text than the tokenizer's chat template."""

from pathlib import Path

from launcher.worker import training_templates
from tests.support import planning, warm

RECIPE = """\
model: {model_name_or_path: Qwen/Qwen3-0.6B, chat_template_path: template.jinja}
data:
  datasets: [{label: talk, path: talk.jsonl}]
training: {global_batch_size: 16}
"""


def decided(folder: Path, template: str, *sets: str) -> list[str]:
    (folder / "template.jinja").write_text(template)
    planning.tiny.jsonl(folder / "talk.jsonl", planning.tiny.messages(20))
    plan = planning.planned(folder, RECIPE, sets).plan
    return [str(each.value) for each in plan.decisions if each.key == "data.chat_template"]


def test_a_template_that_trl_copies_is_named(tmp_path):
    """Its copy renders some conversations differently, and nobody would see it in a loss curve."""
    template = warm.run("tests.support.cases:trl_template", {"name": "qwen3"}).value

    assert decided(tmp_path, template) == ["TRL's training copy of qwen3"]
    assert decided(tmp_path, template, "data.loss_on=all") == []
    assert decided(tmp_path, "{# ours #}" + template) == []


def test_the_table_is_that_of_the_installed_trl():
    """`make golden` writes it; a new TRL shows as a difference."""
    assert training_templates.text() == training_templates.PATH.read_text(encoding="utf-8")
