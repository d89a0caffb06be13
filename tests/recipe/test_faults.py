"""The schema's findings, as sentences with hints that work."""

import re

import pytest

from launcher.recipe.load import load_recipe
from launcher.recipe.ownership import PASSED_ON
from launcher.recipe.patterns import SLUG
from launcher.recipe.schema import Recipe
from launcher.recipe.schema_walk import leaves
from launcher.recipe.trainer import passed_on
from tests.recipe.writing import FULL, SHORT, fault, faults, load, write

NUMERIC = [
    f"{key}"
    for key, field in leaves(Recipe)
    if re.search(r"\b(int|float)\b", str(field.annotation)) and "space" not in key
]
SIGNED = {
    "training.max_steps": "-1 means whole epochs",
    "evaluation.gates[].min": "scores have no sign",
    "evaluation.gates[].max": "",
    "evaluation.gates[].min_delta_vs_base": "",
}
UNBOUNDED = {"evaluation.gates[].min", "evaluation.gates[].max", "evaluation.gates[].min_delta_vs_base"}


def with_value(key, value):
    """The full recipe as flow YAML with one value, written raw, at a dotted key."""
    import copy
    import json

    recipe = copy.deepcopy(FULL)
    inside = recipe
    *parts, last = key.replace("[]", ".0").split(".")
    for part in parts:
        inside = inside[int(part)] if isinstance(inside, list) else inside.setdefault(part, {})
    inside[last] = "@@"
    return json.dumps(recipe).replace('"@@"', value)


@pytest.mark.parametrize("key", NUMERIC)
def test_every_numeric_key_has_a_range(tmp_path, key):
    """A learning rate of 1e6 trains nothing and exits 0; no key takes a number just because it is one."""
    wrong = [".nan", ".inf", "-.inf", '"1"', "true", "[1]"]
    wrong += [] if key in UNBOUNDED else ["-7", "1e30"]
    for value in wrong:
        path = write(tmp_path, with_value(key, value))
        found = [each for each in _faults(path) if each.place is not None]
        assert found, f"{key}: {value} was accepted"


def _faults(path):
    from launcher.recipe.load import problems

    return problems(path)


@pytest.mark.parametrize("key", [name for name, field in passed_on().items() if {"int", "float"} & set(field.types)])
def test_every_number_passed_on_has_a_range(tmp_path, key):
    """The same for SFTConfig's own keys, whose types alone would accept anything."""
    for value in ("-7", "1e30", '"1"', "true", "[1]"):
        assert fault(tmp_path, f"{SHORT}training: {{{key}: {value}}}").key == f"training.{key}"


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("peft: {use_dora: yes}", "write `use_dora: true`"),
        ("peft: {use_dora: off}", "write `use_dora: false`"),
        ("peft: {use_dora: 1}", "write `use_dora: true`"),
        ('peft: {r: "16"}', "write `r: 16`"),
        ("peft: {r: 16.0}", "write `r: 16`"),
        ("peft: {bias: All}", "write `bias: all`"),
        ("peft: {bias: lora-only}", "did you mean `lora_only`?"),
        ("peft: {lora_dropout: 5%}", "write `lora_dropout: 0.05`"),
        ("training: {learning_rate: '2e-4'}", "write `learning_rate: 2e-4`"),
        ("training: {num_train_epochs: '3'}", "write `num_train_epochs: 3`"),
        ("training: {max_steps: 1_000}", "write `max_steps: 1000`"),
        ("training: {max_steps: '1,000'}", "write `max_steps: 1000`"),
        ("training: {max_grad_norm: '1.0'}", "write `max_grad_norm: 1.0`"),
        ("training: {torch_compile: yes}", "write `torch_compile: true`"),
        ("training: {log_level: Info}", "write `log_level: info`"),
        ("training: {optim: adamw_trch}", "did you mean `adamw_torch`?"),
        ("training: {lr_scheduler_type: cosin}", "did you mean `cosine`?"),
        ("tracking: {report_to: wandb}", "write `report_to: [wandb]`"),
        ("tracking: {report_to: 'wandb, mlflow'}", "write `report_to: [wandb, mlflow]`"),
        ("tracking: {report_to: none}", "write `report_to: []`"),
        ("tracking: {project: 1.10}", 'write `project: "1.10"`'),
        ("tracking: {tags: a}", "write `tags: [a]`"),
        ("launch: {time_limit: 90}", 'write `time_limit: "01:30:00"`'),
        ("launch: {time_limit: 12h}", 'write `time_limit: "12:00:00"`'),
        ("evaluation: {eval_steps: [5]}", "write `eval_steps: 5`"),
    ],
)
def test_hints_are_right_and_work(tmp_path, line, hint):
    """Each `write` line, put in place of the wrong one, loads."""
    error = fault(tmp_path, SHORT + line)
    assert error.hint == hint
    if hint and hint.startswith("write"):
        name, value = re.fullmatch(r"write `(\w+): (.*)`", hint).groups()
        section = line.split(":")[0]
        held = ", eval_datasets: [{label: h, path: h}]}" if section == "evaluation" else "}"
        load(tmp_path, SHORT.rstrip().removesuffix("}") + held + f"\n{section}: {{{name}: {value}}}\n")


@pytest.mark.parametrize(
    ("text", "key", "part"),
    [
        ("data: {datasets: [{label: a, path: b}]}", "model", "missing"),
        ("model: {model_name_or_path: x}", "data", "missing"),
        ("model: {model_name_or_path: x}\ndata: {max_length: 5}", "data.datasets", "missing"),
        ("model: {model_name_or_path: x}\ndata: {datasets: []}", "data.datasets", "at least one"),
        ("model: {model_name_or_path: x}\ndata: {datasets: [{path: b}]}", "data.datasets.0.label", "missing"),
        ("model: {model_name_or_path: x}\ndata: {datasets: [{label: a}]}", "data.datasets.a.path", "missing"),
        (
            "model: {model_name_or_path: x}\ndata: {datasets: [{label: a b, path: c}]}",
            "data.datasets.a b.label",
            "a label",
        ),
        ("model: {model_name_or_path: x}\ndata: {datasets: [5]}", "data.datasets.0", "needs a mapping"),
        ("model: {model_name_or_path: x}\ndata: {datasets: {a: {path: b}}}", "data.datasets", "needs a list"),
        ("model: org/name\ndata: {datasets: [{label: a, path: b}]}", "model", "needs a mapping"),
        (SHORT + "schema: 2", "schema", "needs 1"),
        (SHORT + "task: dpo", "task", "needs sft"),
        (SHORT + "launch: {time_limit: 12h}", "launch.time_limit", "HH:MM:SS"),
        (SHORT + "peft:", "peft", "is empty"),
        (SHORT + "quantization:\npeft: {}", "quantization", "is empty"),
    ],
)
def test_structure(tmp_path, text, key, part):
    """What is missing or of another shape is said at its key."""
    error = fault(tmp_path, text)
    assert error.key == key
    assert part in error.message
    assert error.place.line


def test_an_empty_section_that_means_nothing_by_itself_is_fine(tmp_path):
    """`training:` with every line commented out is what people have while they edit."""
    assert load(tmp_path, SHORT + "training:\nlaunch:\ntracking: null\n").recipe.training.seed == 42


def test_a_model_in_one_word_gets_its_key(tmp_path):
    """The most likely short form."""
    error = fault(tmp_path, "model: org/name\ndata: {datasets: [{label: a, path: b}]}")
    assert error.hint == "write `model: {model_name_or_path: org/name}`"


def test_strange_text_stays_on_one_line(tmp_path):
    """A value is shown short, in one line and without control characters."""
    error = fault(tmp_path, SHORT + 'name: "a\\nb\\e[31m' + "x" * 300 + '"')
    assert "\n" not in error.message
    assert "\x1b" not in error.message
    assert len(error.message) < 250


def test_the_full_recipe_of_these_tests_is_valid(tmp_path):
    """Else the tests above would find its faults instead of theirs."""
    import json

    load(tmp_path, json.dumps(FULL))


def test_nothing_is_hidden_by_another_fault(tmp_path):
    """Contradictions are found although other keys are wrong, except where they would rest on them."""
    text = "training: {seed: x}\nlaunch: {gpus: 4, nodes: 2}\npeft: 5\nquantization: {load_in_4bit: true}\n"
    keys = [each.key for each in faults(tmp_path, text)]
    assert keys == ["model", "data", "training.seed", "launch.nodes", "peft"]


def _hostile(count):
    import random

    random.seed(20)
    pieces = [
        "..",
        "/",
        "~",
        "$(id)",
        "`id`",
        ";rm -rf /",
        "-rf",
        "\n",
        "\t",
        "é",
        "🙂",
        "\u202e",
        "%2e%2e",
        "C:\\",
        "|",
        "&",
        "'",
        '"',
        "*",
        "?",
        " ",
        ".",
        "a",
        "A",
        "0",
        "${x}",
        "\\",
        "#",
        "<",
        ">",
        "x" * 40,
        "\u200b",
    ]
    return ["".join(random.choices(pieces, k=random.randint(1, 6))) for _ in range(count)]


def test_500_hostile_names_are_slugs_or_refused(tmp_path):
    """What passes can be a folder's name and nothing else: no separator, no shell character, no hidden or long name."""
    import json

    accepted = 0
    for text in _hostile(500):
        path = write(tmp_path, json.dumps({**FULL, "name": text}, ensure_ascii=False).replace("\u202e", "\\u202e"))
        found = _faults(path)
        if not found:
            accepted += 1
            name = load_recipe(path).recipe.name
            assert re.fullmatch(SLUG, name)
            assert "/" not in name
            assert not name.startswith((".", "-"))
            assert len(name) <= 64
        else:
            assert [each.key for each in found if each.key] in (["name"], ["name", "name"])
    assert accepted < 100


def test_hostile_file_names_give_safe_run_names(tmp_path):
    """The name taken from the file is held to the same."""
    for text in {each.replace("/", "") for each in _hostile(200)} - {"", ".", ".."}:
        path = write(tmp_path, SHORT, f"{text}.yaml")
        found = _faults(path)
        assert [each.key for each in found] == ["name"] if found else re.fullmatch(SLUG, load_recipe(path).recipe.name)


def test_all_ranges_are_tested():
    """The lists above follow the schema."""
    assert len(NUMERIC) > 30
    assert set(UNBOUNDED) <= set(NUMERIC)
    assert set(PASSED_ON) == set(passed_on())


@pytest.mark.parametrize(("short", "long"), [("bf16", "bfloat16"), ("FP16", "float16"), ("fp32", "float32")])
def test_short_names_of_number_types_are_known(tmp_path, short, long):
    """What most other tools write."""
    error = fault(tmp_path, SHORT.replace("model: {", f"model: {{dtype: {short}, "))
    assert error.hint == f"write `dtype: {long}`"


def test_a_wrong_item_of_a_list_is_shown(tmp_path):
    """The value seen, and not only how many there are."""
    text = "evaluation: {generate: [{dataset: h, metrics: [chrf, exact]}]}\n"
    (wrong,) = (each for each in faults(tmp_path, SHORT + text) if each.key == "evaluation.generate.0.metrics.1")
    assert (wrong.message.rpartition(", ")[2], wrong.place.column) == ("got the text `exact`", 1 + text.index("exact"))
    assert "exact_match" in wrong.hint
