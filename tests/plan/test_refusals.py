"""No key of the language is ever ignored: it changes the plan, or it is refused."""

import dataclasses

import pytest

from launcher.cluster.schema import Cluster, Gpu
from launcher.errors import LauncherError, RecipeErrors
from launcher.plan.make import Planned
from tests.support import planning

GPUS = Cluster("local", Gpu("H100", 79.6, 79.6), gpus_per_node=2, cpus_per_node=8, memory_gib=64.0)
RECIPE = """\
model: {model_name_or_path: Qwen/Qwen3-0.6B}
quantization: {load_in_4bit: true}
peft: {r: 8}
data:
  datasets:
    - {label: sums, path: train.jsonl, columns: {prompt: question, completion: answer}}
    - {label: more, path: train.jsonl, columns: {prompt: question, completion: answer}}
  eval_datasets:
    - {label: held_out, from: sums, fraction: 0.1}
    - {label: faq, path: faq.jsonl, columns: {prompt: question, completion: answer}}
training: {global_batch_size: 16}
evaluation: {eval_steps: 3, generate: [{dataset: faq}]}
"""
REFUSED = [
    "evaluation.harness={tasks: [ifeval]}",
    "evaluation.early_stopping={metric: eval_faq_loss}",
    "evaluation.gates=[{metric: eval_faq_loss, max: 1.0}]",
    "sweep={metric: eval_faq_loss, space: {peft.r: [4, 8]}}",
    "export.push_to_hub={repo: me/mine}",
]
# Key → another valid value. Together with REFUSED this is the whole language; the last test holds that.
EFFECTIVE = {
    "name": "other",
    "model.model_name_or_path": "Qwen/Qwen3-8B",
    "model.revision": "v1",
    "model.tokenizer_name_or_path": "Qwen/Qwen3-8B",
    "model.dtype": "float32",
    "model.attn_implementation": "eager",
    "model.trust_remote_code": "true",
    "model.chat_template_path": "template.jinja",
    "model.add_tokens": "[<a>]",
    "model.model_init_kwargs": "{low_cpu_mem_usage: true}",
    "quantization.load_in_8bit": "true",
    "quantization.bnb_4bit_quant_type": "fp4",
    "quantization.bnb_4bit_use_double_quant": "false",
    "quantization.bnb_4bit_compute_dtype": "float32",
    "quantization.bnb_4bit_quant_storage": "bfloat16",
    "sharding.strategy": "zero2",
    "peft.r": "4",
    "peft.lora_alpha": "8",
    "peft.lora_dropout": "0.1",
    "peft.target_modules": "[q_proj]",
    "peft.exclude_modules": "[q_proj]",
    "peft.layers_to_transform": "[0]",
    "peft.rank_pattern": "{q_proj: 4}",
    "peft.alpha_pattern": "{q_proj: 4}",
    "peft.modules_to_save": "[norm]",
    "peft.bias": "all",
    "peft.use_rslora": "true",
    "peft.use_dora": "true",
    "peft.init_lora_weights": "gaussian",
    "export.merge": "true",
    "export.merge_base": "original",
    "data.datasets.more.label": "other",
    "data.datasets.sums.path": "other.jsonl",
    "data.datasets.sums.name": "subset",
    "data.datasets.sums.split": "test",
    "data.datasets.sums.data_files": "[a.jsonl]",
    "data.datasets.sums.revision": "v1",
    "data.datasets.sums.format": "messages",
    "data.datasets.sums.columns": "{prompt: answer, completion: question}",
    "data.datasets.sums.max_rows": "50",
    "data.datasets.sums.min_tokens": "5",
    "data.datasets.sums.max_tokens": "500",
    "data.datasets.sums.max_epochs": "2",
    "data.eval_datasets.held_out.group_by": "question",
    "data.mixture.unit": "rows",
    "data.mixture.temperature": "2.0",
    "data.mixture.stopping_strategy": "all_exhausted",
    "data.max_cut_fraction": "0.5",
    "data.deduplicate": "none",
    "data.decontaminate": "false",
    "data.num_proc": "3",
    "data.eval_datasets.held_out.from": "more",
    "data.eval_datasets.held_out.fraction": "0.2",
    "data.eval_datasets.faq.max_rows": "5",
    "data.mixture.seed": "7",
    "data.max_length": "512",
    "data.packing": "true",
    "data.packing_strategy": "wrapped",
    "data.loss_on": "all",
    "data.on_bad_row": "drop",
    "data.max_bad_fraction": "0.5",
    "data.template_kwargs": "{enable_thinking: false}",
    "training.global_batch_size": "32",
    "training.on_oom": "halve",
    "training.per_device_train_batch_size": "2",
    "training.gradient_accumulation_steps": "2",
    "training.num_train_epochs": "1",
    "training.max_steps": "7",
    "training.learning_rate": "0.1",
    "training.lr_scheduler_type": "cosine",
    "training.warmup_steps": "0.1",
    "training.optim": "sgd",
    "training.activation_checkpointing": "false",
    "training.logging_steps": "5",
    "training.seed": "7",
    "training.weight_decay": "0.1",
    "checkpoint.save_steps": "5",
    "checkpoint.save_total_limit": "1",
    "checkpoint.keep_best": "eval_faq_loss",
    "checkpoint.keep_every": "10",
    "evaluation.eval_steps": "5",
    "evaluation.per_device_eval_batch_size": "2",
    "evaluation.generate": "[{dataset: held_out, metrics: [chrf], max_new_tokens: 5, max_rows: 2, batch_size: 1}]",
    "evaluation.generate_steps": "5",
    "tracking.report_to": "[tensorboard]",
    "tracking.project": "other",
    "tracking.entity": "me",
    "tracking.tags": "[a]",
    "launch.gpus": "1",
    "launch.nodes": "2",
    "launch.gpus_per_node": "1",
    "launch.max_requeues": "3",
    "launch.time_limit": "'12:00:00'",
    "launch.hang_limit_s": "120",
    "launch.probe": "true",
}
# Keys of hub datasets; for files they are refused (tests/plan/test_facts.py).
HUB_ONLY = {f"data.datasets.sums.{name}" for name in ("name", "split", "data_files", "revision")}
# The rest: said once for each, and tested where it acts.
ELSEWHERE = {
    "schema": "one version only",
    "extends": "merged before validation (tests/recipe)",
    "task": "one task only",
    "model.from_config": "tests/plan/test_facts.py",
    "quantization.load_in_4bit": "false alone is refused by the recipe",
    "model.adapter_name_or_path": "below: it replaces `peft`",
    "data.datasets.weight": "below: every source needs one",
    "sharding.offload": "tests/plan/test_sharding.py",
    "sharding.dp_shard_size": "tests/plan/test_sharding.py",
    "sharding.preset": "tests/plan/test_sharding.py",
    "launch.processes": "ranks on a CPU: tests/plan/test_choices.py",
}


def made(folder, *sets: str) -> Planned:
    (folder / "template.jinja").write_text("{{ messages }}")
    for name in ("other", "faq"):
        if not (folder / f"{name}.jsonl").exists():
            planning.tiny.jsonl(folder / f"{name}.jsonl", planning.tiny.words(30, seed=len(name)))
    return planning.planned(folder, RECIPE, sets, GPUS)


@pytest.mark.parametrize("change", REFUSED)
def test_a_key_without_behaviour_is_refused_with_its_place(tmp_path, change):
    """One clear sentence, from the key that was written, and a hint that works: remove it."""
    with pytest.raises(RecipeErrors) as caught:
        made(tmp_path, change)
    refused = [error for error in caught.value.errors if "not supported yet" in error.message]
    assert len(refused) == 1
    assert refused[0].place is not None
    assert change.startswith(refused[0].key.partition(".load")[0])


@pytest.mark.parametrize(
    ("sets", "key"),
    [
        (("model.adapter_name_or_path=me/mine", "peft=null", "model.add_tokens=[<a>]"), "model.add_tokens"),
        (("model.adapter_name_or_path=me/mine", "quantization=null"), "peft"),
    ],
)
def test_adapters_are_refused_where_they_would_not_do_what_they_say(tmp_path, sets, key):
    """New embeddings that stay random, and settings an old adapter overrules."""
    with pytest.raises(RecipeErrors) as caught:
        made(tmp_path, *sets)
    assert [error.key for error in caught.value.errors] == [key]


@pytest.mark.parametrize(
    ("quantization", "method"), [("null", "lora"), ("{load_in_4bit: true}", "qlora"), ("{load_in_8bit: true}", "int8")]
)
def test_an_existing_adapter_is_trained_on_whatever_the_base_is_stored_in(tmp_path, quantization, method):
    """It brings its own rank and targets."""
    plan = made(tmp_path, "model.adapter_name_or_path=me/mine", f"quantization={quantization}", "peft=null").plan
    assert (plan.method, plan.model.adapter, plan.peft) == (method, "me/mine", None)


def test_every_refusal_comes_at_once(tmp_path):
    """One round trip."""
    with pytest.raises(RecipeErrors) as caught:
        made(tmp_path, "sharding.offload=params", "export.push_to_hub={repo: me/mine}")
    assert [error.key for error in caught.value.errors] == ["export.push_to_hub", "sharding.offload"]


def test_weights_change_the_plan(tmp_path):
    """And the estimate: 100 rows of each at one to three take 100 and 33."""
    text = RECIPE.replace("label: more, path: train.jsonl", "label: more, path: other.jsonl")
    planning.tiny.jsonl(tmp_path / "other.jsonl", planning.tiny.words(100, seed=3))
    planning.tiny.jsonl(tmp_path / "faq.jsonl", planning.tiny.words(30, seed=5))
    sets = ("data.datasets.sums.weight=1", "data.datasets.more.weight=3", "data.eval_datasets=[]", "evaluation=null")
    plan = planning.planned(tmp_path, text, (*sets, "data.mixture.unit=rows"), GPUS).plan
    assert [source.weight for source in plan.data.sources] == [1.0, 3.0]
    assert [round(each.epochs * each.left) for each in plan.estimate.sources] == [33, 100]


@pytest.mark.parametrize("key", EFFECTIVE)
def test_every_other_key_changes_the_plan(tmp_path, key):
    """Beside the recipe that the plan repeats for people, something the worker or the executor reads must differ."""
    hub = ["data.datasets.sums.path=org/set"] if key in HUB_ONLY else []
    before = made(tmp_path, *hub)
    try:
        after = made(tmp_path, *hub, f"{key}={EFFECTIVE[key]}")
    except LauncherError as fault:
        # A value that only fits another source or other hardware is refused, which is not ignoring it.
        assert key in str(fault) or key.rpartition(".")[0] in str(fault), fault
        return
    strip = {"recipe": {}, "identity": {}, "decisions": (), "warnings": ()}
    plans = [dataclasses.replace(each.plan, **strip) for each in (before, after)]
    assert plans[0] != plans[1] or before.placement != after.placement


def test_the_lists_above_are_the_whole_language():
    """A key added to the language must say where it acts."""
    from launcher.recipe.schema import Recipe

    known = {plain(key) for key in [*EFFECTIVE, *ELSEWHERE, *(each.partition("=")[0] for each in REFUSED)]}
    leaves = set(schema_keys(Recipe, ""))
    missing = {key for key in leaves if not any(key == each or key.startswith(f"{each}.") for each in known)}
    assert missing == set()


def plain(key: str) -> str:
    """A key without the labels of list items; evaluation sources are sources."""
    parts = [part for part in key.split(".") if part not in ("sums", "more", "held_out", "faq")]
    return ".".join(parts).replace("eval_datasets", "datasets")


def schema_keys(section, prefix: str):
    """Dotted keys of every leaf of the schema."""
    from typing import get_args

    from launcher.recipe.section import Section

    def inner(annotation):
        if isinstance(annotation, type) and issubclass(annotation, Section):
            return annotation
        return next((found for each in get_args(annotation) if (found := inner(each))), None)

    for name, field in section.model_fields.items():
        key = f"{prefix}{field.alias or name}"
        below = inner(field.annotation)
        yield from schema_keys(below, f"{key}.") if below else [plain(key)]
