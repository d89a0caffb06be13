"""What makes two runs the same training, key by key."""

import pytest

from launcher.cluster.schema import Cluster, Gpu
from launcher.runs.changes import difference
from tests.support import planning

GPU = Cluster("local", Gpu("H100", 79.6, 79.6), gpus_per_node=2, cpus_per_node=32, memory_gib=256.0)
RECIPE = planning.RECIPE.replace(
    "training:",
    "  eval_datasets: [{label: held_out, from: sums, fraction: 0.1}]\nevaluation: {eval_steps: 3}\ntraining:",
)


def identity(folder, *sets, cluster=planning.CPU):
    return planning.plan(folder, *sets, cluster=cluster, text=RECIPE).identity


@pytest.mark.parametrize(
    "change",
    [
        "model.model_name_or_path=Qwen/Qwen3-8B",
        "model.revision=v1",
        "model.dtype=bfloat16",
        "model.tokenizer_name_or_path=Qwen/Qwen3-8B",
        "quantization={load_in_4bit: true}",
        "peft.r=4",
        "peft.lora_dropout=0.1",
        "peft=null",
        "data.datasets.sums.path=other.jsonl",
        "data.datasets.sums.max_rows=10",
        "data.datasets.sums.columns={prompt: answer, completion: question}",
        "data.eval_datasets.held_out.fraction=0.2",
        "data.mixture.seed=1",
        "data.max_length=128",
        "data.packing=true",
        "data.loss_on=all",
        "data.on_bad_row=drop",
        "training.global_batch_size=8",
        "training.num_train_epochs=1",
        "training.max_steps=5",
        "training.learning_rate=0.01",
        "training.lr_scheduler_type=cosine",
        "training.warmup_steps=2",
        "training.optim=sgd",
        "training.weight_decay=0.1",
        "training.max_grad_norm=0.5",
        "training.seed=1",
    ],
)
def test_what_changes_the_mathematics_is_another_training(tmp_path, change):
    """Such a run must not go on from the old one's checkpoint."""
    planning.tiny.jsonl(tmp_path / "other.jsonl", planning.tiny.words(10))
    assert identity(tmp_path, change) != identity(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        "name=renamed",
        "launch.processes=2",
        "training.on_oom=halve",
        "launch.max_requeues=3",
        "launch.probe=true",
        "launch.time_limit='12:00:00'",
        "training.per_device_train_batch_size=4",
        "training.gradient_accumulation_steps=4",
        "training.activation_checkpointing=true",
        "training.logging_steps=7",
        "training.dataloader_num_workers=2",
        "model.attn_implementation=eager",
        "checkpoint.save_steps=7",
        "checkpoint.save_total_limit=1",
        "checkpoint.keep_best=eval_held_out_loss",
        "evaluation.eval_steps=7",
        "evaluation.generate=[{dataset: held_out}]",
        "evaluation.per_device_eval_batch_size=1",
        "tracking.report_to=[tensorboard]",
        "tracking.tags=[a]",
    ],
)
def test_how_it_runs_saves_measures_or_reports_is_not(tmp_path, change):
    """Such a run continues."""
    assert difference(identity(tmp_path), identity(tmp_path, change)) == []


def test_an_eval_file_of_its_own_is_not_part_of_the_training(tmp_path):
    """Only held-out rows are taken from the training data."""
    planning.tiny.jsonl(tmp_path / "faq.jsonl", planning.tiny.words(10, seed=3))
    extra = "data.eval_datasets=[{label: held_out, from: sums, fraction: 0.1}, {label: faq, path: faq.jsonl, columns: {prompt: question, completion: answer}}]"
    assert identity(tmp_path, extra) == identity(tmp_path)


def test_a_run_can_move_to_other_hardware(tmp_path):
    """`auto` precision is the hardware's side of the bargain; a written one is the recipe's."""
    assert identity(tmp_path, cluster=GPU) == identity(tmp_path)


def test_a_run_can_move_to_another_folder(tmp_path):
    """A copied recipe with copied data is the same training: absolute paths and file times are not in it."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    assert identity(here) == identity(there)


def test_a_template_counts_by_its_text_and_not_by_its_path(tmp_path):
    """The same template under another name is the same training; an edited one is not."""
    for name, text in (("a.jinja", "{{ 1 }}"), ("b.jinja", "{{ 1 }}"), ("c.jinja", "{{ 2 }}")):
        (tmp_path / name).write_text(text)
    a, b, c = (identity(tmp_path, f"model.chat_template_path={name}.jinja") for name in "abc")
    assert a == b
    assert [key for key, _, _ in difference(a, c)] == ["model.chat_template"]


def test_epochs_do_not_count_when_steps_are_given(tmp_path):
    """`max_steps` overrides them, so changing them changes nothing."""
    steps = "training.max_steps=5"
    assert identity(tmp_path, steps, "training.num_train_epochs=9") == identity(tmp_path, steps)
