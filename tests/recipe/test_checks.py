"""Contradictions within a recipe, each at its place."""

import pytest

from tests.recipe.writing import fault, faults, load

MODEL = "model: {model_name_or_path: org/name}\n"
DATA = "data: {datasets: [{label: a, path: a.jsonl}]}\n"
HELD = "data: {datasets: [{label: a, path: a.jsonl}], eval_datasets: [{label: h, from: all, fraction: 0.1}]}\n"


def data(train="{label: a, path: a.jsonl}", more=""):
    return f"data: {{datasets: [{train}]{', ' + more if more else ''}}}\n"


def evals(one):
    return data(more=f"eval_datasets: [{one}]")


@pytest.mark.parametrize(
    ("text", "key", "part"),
    [
        (MODEL + DATA + "quantization: {load_in_4bit: true}", "quantization", "no adapter"),
        (MODEL + DATA + "peft: {}\nquantization: {}", "quantization", "neither 4 nor 8"),
        (
            MODEL + DATA + "peft: {}\nquantization: {load_in_4bit: true, load_in_8bit: true}",
            "quantization.load_in_8bit",
            "at once",
        ),
        (
            MODEL + DATA + "peft: {}\nquantization: {load_in_8bit: true, bnb_4bit_quant_type: nf4}",
            "quantization.bnb_4bit_quant_type",
            "no meaning",
        ),
        ("model: {}\n" + DATA, "model", "names no model"),
        ("model: {from_config: {model_type: qwen3}}\n" + DATA, "model.from_config", "no tokenizer"),
        ("model: {from_config: {}, tokenizer_name_or_path: t}\n" + DATA, "model.from_config", "no `model_type`"),
        (
            "model: {from_config: {model_type: qwen3}, tokenizer_name_or_path: t, model_name_or_path: x}\n" + DATA,
            "model.from_config",
            "a model to load",
        ),
        (MODEL + data("{label: a, path: a}, {label: a, path: b}"), "data.datasets.1.label", "two sources"),
        (MODEL + evals("{label: a, path: b}"), "data.eval_datasets.a.label", "two sources"),
        (MODEL + data("{label: all, path: a}"), "data.datasets.all.label", "every source"),
        (MODEL + data("{label: a, path: a, weight: 1}, {label: b, path: b}"), "data.datasets.b.label", "no `weight`"),
        (
            MODEL + data("{label: a, path: a, weight: 1}", "mixture: {temperature: 2}"),
            "data.mixture.temperature",
            "weights given",
        ),
        (
            MODEL + data("{label: a, path: a, format: text, columns: {prompt: q}}"),
            "data.datasets.a.columns.prompt",
            "`text` has no column",
        ),
        (
            MODEL + data("{label: a, path: a, columns: {question: prompt}}"),
            "data.datasets.a.columns.question",
            "no format has",
        ),
        (
            MODEL + data("{label: a, path: a, format: text}", "loss_on: assistant"),
            "data.loss_on",
            "not possible for `a`",
        ),
        (MODEL + evals("{label: h}"), "data.eval_datasets.h", "neither `path` nor `from`"),
        (MODEL + evals("{label: h, path: x, fraction: 0.1}"), "data.eval_datasets.h.fraction", "without `from`"),
        (MODEL + evals("{label: h, from: a}"), "data.eval_datasets.h.from", "without `fraction`"),
        (MODEL + evals("{label: h, from: b, fraction: 0.1}"), "data.eval_datasets.h.from", "no training source `b`"),
        (
            MODEL + evals("{label: h, from: a, fraction: 0.1, path: x}"),
            "data.eval_datasets.h.path",
            "read with their training source",
        ),
        (
            MODEL + evals("{label: h, from: a, fraction: 0.6}, {label: i, from: all, fraction: 0.5}"),
            "data.eval_datasets.i.fraction",
            "add up to 1.1",
        ),
        (MODEL + DATA + "training: {max_steps: 0}", "training.max_steps", "trains nothing"),
        (MODEL + DATA + "training: {max_steps: 10, warmup_steps: 20}", "training.warmup_steps", "20 steps of warm-up"),
        (MODEL + DATA + "evaluation: {eval_steps: 5}", "evaluation.eval_steps", "no eval set"),
        (MODEL + DATA + "evaluation: {generate: [{dataset: h}]}", "evaluation.generate.0.dataset", "no eval set `h`"),
        (MODEL + DATA + "evaluation: {generate_steps: 5}", "evaluation.generate_steps", "nothing to generate"),
        (
            MODEL + HELD + "checkpoint: {keep_best: eval_x_loss}\nevaluation: {eval_steps: 5}",
            "checkpoint.keep_best",
            "no metric",
        ),
        (MODEL + HELD + "checkpoint: {keep_best: eval_h_loss}", "checkpoint.keep_best", "not measured during training"),
        (
            MODEL + HELD + "evaluation: {eval_steps: 5, early_stopping: {metric: loss}}",
            "evaluation.early_stopping.metric",
            "no metric `loss`",
        ),
        (
            MODEL + HELD + "evaluation: {gates: [{metric: eval_h_chrf, min: 1}]}",
            "evaluation.gates.0.metric",
            "no metric",
        ),
        (MODEL + HELD + "evaluation: {gates: [{metric: eval_h_loss}]}", "evaluation.gates.0", "no condition"),
        (MODEL + DATA + "peft: {target_modules: []}", "peft.target_modules", "no layer"),
        (MODEL + data(more="template_kwargs: {tokenize: true}"), "data.template_kwargs.tokenize", "no variable"),
        (
            MODEL + HELD + "evaluation: {generate: [{dataset: h}, {dataset: h, metrics: [chrf]}]}",
            "evaluation.generate.1.dataset",
            "twice",
        ),
        (
            MODEL + DATA + "training: {lr_scheduler_type: reduce_lr_on_plateau}",
            "training.lr_scheduler_type",
            "follows an eval loss",
        ),
        (
            MODEL + DATA + "training: {lr_scheduler_type: cosine_with_min_lr}",
            "training.lr_scheduler_type",
            "the rate to end at",
        ),
        (MODEL + DATA + "launch: {gpus: 4, nodes: 2}", "launch.nodes", "beside `gpus`"),
        (MODEL + DATA + "launch: {gpus: 4, processes: 2}", "launch.processes", "beside `gpus`"),
        (MODEL + DATA + "launch: {processes: 2, gpus_per_node: 2}", "launch.processes", "without GPUs"),
    ],
)
def test_contradictions(tmp_path, text, key, part):
    """Each is one fault with its place and a hint."""
    error = fault(tmp_path, text)
    assert error.key == key
    assert part in error.message
    assert error.hint
    assert error.place.line


@pytest.mark.parametrize(
    "text",
    [
        "peft: {}\nquantization: {load_in_4bit: true}",
        "peft: {}\nquantization: {load_in_8bit: true}",
        "training: {max_steps: 10, warmup_steps: 0.5}",
        "launch: {nodes: 2, gpus_per_node: 4}",
        "launch: {processes: 2}",
        "training: {lr_scheduler_type: cosine_with_min_lr, lr_scheduler_kwargs: {min_lr_rate: 0.1}}",
        "checkpoint: {keep_best: eval_h_loss}\nevaluation: {eval_steps: 5, gates: [{metric: eval_h_exact_match, min: 0}], generate: [{dataset: h}]}",
    ],
)
def test_what_is_no_contradiction(tmp_path, text):
    """The counterparts of the refusals."""
    load(tmp_path, MODEL + HELD + text)


def test_a_fault_does_not_breed_others(tmp_path):
    """With the eval sets unreadable, nothing is said about metrics of theirs."""
    text = (
        MODEL
        + evals("{label: 5}")
        + "evaluation: {eval_steps: 5, generate: [{dataset: h}]}\ncheckpoint: {keep_best: eval_h_loss}"
    )
    assert [each.key for each in faults(tmp_path, text)] == ["data.eval_datasets.0.label"]


def test_columns_written_the_wrong_way_round_are_turned(tmp_path):
    """The format's name stands first."""
    error = fault(tmp_path, MODEL + data("{label: a, path: a, format: prompt_completion, columns: {question: prompt}}"))
    assert "write `columns: {prompt: question}`" in error.hint
