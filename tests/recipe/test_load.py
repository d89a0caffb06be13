"""Bases, `--set` and provenance."""

import hashlib

import pytest

from launcher.errors import RecipeErrors
from launcher.recipe.load import load_recipe
from launcher.recipe.shipped import shipped
from tests.recipe.writing import SHORT, fault, faults, load, write


def test_a_short_recipe_is_enough(tmp_path):
    """A model and one data set; the name is the file's."""
    path = write(tmp_path, SHORT, "My Recipe_2.yaml")
    recipe = load_recipe(path).recipe
    assert recipe.name == "my-recipe_2"
    assert recipe.data.datasets[0].path == "train.jsonl"
    assert recipe.peft is None


def test_bases_merge_deeply(tmp_path):
    """Mappings merge, lists replace, null deletes; the recipe wins over its base, and that over its own."""
    write(tmp_path, "training: {seed: 1, max_grad_norm: 2, weight_decay: 0.1}\npeft: {r: 4}\n", "far.yaml")
    write(
        tmp_path,
        "extends: far.yaml\ntraining: {seed: 2}\npeft: {lora_alpha: 4}\ntracking: {tags: [a, b]}\n",
        "near.yaml",
    )
    loaded = load(tmp_path, "extends: near.yaml\n" + SHORT + "training: {weight_decay: null}\ntracking: {tags: [c]}\n")
    recipe = loaded.recipe
    assert (recipe.training.seed, recipe.training.model_extra) == (2, {"max_grad_norm": 2})
    assert (recipe.peft.r, recipe.peft.lora_alpha) == (4, 4.0)
    assert recipe.tracking.tags == ("c",)
    assert str(loaded.place("training.seed")).endswith("near.yaml:2:18")
    assert str(loaded.place("peft.r")).endswith("far.yaml:2:11")


def test_null_deletes_a_section_of_the_base(tmp_path):
    """`peft: null` on a QLoRA base leaves quantization without an adapter, which is refused; both away is fine."""
    assert fault(tmp_path, f"extends: launcher:base/qlora.yaml\n{SHORT}peft: null\n").key == "quantization"
    recipe = load(tmp_path, f"extends: launcher:base/qlora.yaml\n{SHORT}peft: null\nquantization: null\n").recipe
    assert recipe.peft is recipe.quantization is None


def test_null_deletes_a_key_of_a_free_mapping(tmp_path):
    """In `from_config` null is a value of its own, except over one that a base wrote."""
    write(tmp_path, "model: {from_config: {model_type: qwen3, a: 1}, tokenizer_name_or_path: t}\n", "base.yaml")
    text = "extends: base.yaml\nmodel: {from_config: {a: null, b: null}}\ndata: {datasets: [{label: a, path: b}]}\n"
    assert load(tmp_path, text).recipe.model.from_config == {"model_type": "qwen3", "b": None}


def test_names_are_not_inherited(tmp_path):
    """Two recipes with one base would otherwise share one run directory."""
    write(tmp_path, "name: base-name\n", "base.yaml")
    assert load(tmp_path, "extends: base.yaml\n" + SHORT).recipe.name == "recipe"


def test_bases_are_recorded_with_their_hash(tmp_path):
    """A shipped base may change with a new version; the record tells."""
    loaded = load(tmp_path, "extends: launcher:base/qlora.yaml\n" + SHORT)
    digest = hashlib.sha256((shipped("recipes") / "base" / "qlora.yaml").read_bytes()).hexdigest()
    assert loaded.bases[0] == ("launcher:base/qlora.yaml", digest)
    assert [name for name, _ in loaded.bases] == ["launcher:base/qlora.yaml", "lora.yaml"]


def test_every_shipped_base_is_a_valid_start(tmp_path):
    """Each base with a model and data is a valid recipe."""
    for base in sorted((shipped("recipes") / "base").glob("*.yaml")):
        load(tmp_path, f"extends: launcher:base/{base.name}\n{SHORT}")


def test_a_shipped_recipe_goes_by_its_name(tmp_path, monkeypatch):
    """From any folder; its run is named after it, and its paths stay beside it."""
    monkeypatch.chdir(tmp_path)
    loaded = load_recipe("launcher:qwen3-0.6b-lora-sft.yaml", ["training.seed=1"])
    assert loaded.recipe.name == "qwen3-0.6b-lora-sft"
    assert str(loaded.place("model.model_name_or_path")).startswith("launcher:qwen3-0.6b-lora-sft.yaml:")
    assert loaded.folder("model.model_name_or_path") == shipped("recipes")
    with pytest.raises(RecipeErrors) as caught:
        load_recipe("launcher:qwen3-0.6b-lroa-sft.yaml")
    assert caught.value.errors[0].hint.startswith("did you mean `launcher:qwen3-0.6b-lora-sft.yaml`?")


def test_an_error_in_a_base_names_the_base(tmp_path):
    """Provenance: the line that wrote the value, not the one that inherited it."""
    write(tmp_path, "training:\n  seed: -1\n", "base.yaml")
    error = fault(tmp_path, "extends: base.yaml\n" + SHORT)
    assert str(error.place) == str(tmp_path / "base.yaml") + ":2:9"


def test_a_cycle_is_printed_as_a_chain(tmp_path):
    """Who extends whom, up to the one that closes the circle."""
    write(tmp_path, "extends: b.yaml\n", "a.yaml")
    write(tmp_path, "extends: a.yaml\n", "b.yaml")
    with pytest.raises(RecipeErrors) as caught:
        load_recipe(tmp_path / "a.yaml")
    chain = " → ".join(str(tmp_path / name) for name in ("a.yaml", "b.yaml", "a.yaml"))
    assert caught.value.errors[0].message == f"a cycle: {chain}"


def test_bases_stay_inside_the_repository(tmp_path):
    """A recipe that needs a file from elsewhere does not work where it is cloned."""
    write(tmp_path, "peft: {}\n", "outside.yaml")
    inside = tmp_path / "repository"
    (inside / ".git").mkdir(parents=True)
    error = fault(inside, "extends: ../outside.yaml\n" + SHORT)
    assert "outside this repository" in error.message
    (inside / "link.yaml").symlink_to(tmp_path / "outside.yaml")
    assert "outside this repository" in fault(inside, "extends: link.yaml\n" + SHORT).message


@pytest.mark.parametrize(
    "name",
    ["launcher:base/lroa.yaml", "launcher:../pyproject.toml", "launcher:/etc/passwd", "missing.yaml", ".", '"a\\0b"'],
)
def test_a_base_that_is_not_there(tmp_path, name):
    """One error at the `extends` line; shipped names never leave the shipped folder."""
    error = fault(tmp_path, f"extends: {name}\n{SHORT}")
    assert (error.key, error.place.line, error.place.column) == ("extends", 1, 10)


@pytest.mark.parametrize("name", ["/dev/zero", "/dev/null", "."])
def test_only_regular_files_are_recipes(name):
    """A device would never end."""
    with pytest.raises(RecipeErrors) as caught:
        load_recipe(name)
    assert "not a regular file" in caught.value.errors[0].message


def test_set_reads_values_like_a_recipe(tmp_path):
    """Numbers, text, lists and null, by the same strict rules."""
    sets = [
        "training.learning_rate=1e-4",
        "launch.time_limit=12:30:00",
        "tracking.tags=[no, on]",
        "peft={r: 4}",
        "peft.use_dora=true",
    ]
    recipe = load(tmp_path, SHORT, *sets).recipe
    assert recipe.training.learning_rate == 1e-4
    assert recipe.launch.time_limit == "12:30:00"
    assert recipe.tracking.tags == ("no", "on")
    assert (recipe.peft.r, recipe.peft.use_dora) == (4, True)


def test_set_addresses_list_items_by_label_and_by_number(tmp_path):
    """Labels read better; numbers always work."""
    text = "model: {model_name_or_path: a/b}\ndata:\n  datasets:\n  - {label: one, path: x, weight: 1}\n  - {label: two, path: y, weight: 1}\n"
    loaded = load(tmp_path, text, "data.datasets.two.weight=0.5", "data.datasets.0.path=z")
    assert [(each.path, each.weight) for each in loaded.recipe.data.datasets] == [("z", 1), ("y", 0.5)]
    assert str(loaded.place("data.datasets.two.weight")) == "--set data.datasets.two.weight=0.5"
    assert str(loaded.place("data.datasets.1.path")).endswith(":5:24")


def test_set_null_deletes(tmp_path):
    """A section, a key, or a list item."""
    loaded = load(tmp_path, "peft: {r: 4}\n" + SHORT, "peft=null")
    assert loaded.recipe.peft is None


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("training.seed", "needs KEY=VALUE"),
        ("=1", "needs KEY=VALUE"),
        ("training..seed=1", "needs KEY=VALUE"),
        ("training.seed=", "has no value"),
        ("training.seed=010", "leading zero"),
        ("training.seed=[1", "not YAML"),
        ("training.seed=-1", "needs a whole number"),
        ("data.datasets.trian.path=x", "no item `trian`"),
        ("data.datasets.7.path=x", "no item `7`"),
        ("model.model_name_or_path.x=1", "has no key `x`"),
        ("trainign.seed=1", "unknown key"),
        ("extends=launcher:base/lora.yaml", "before `--set`"),
    ],
)
def test_a_wrong_set_is_placed_at_the_set(tmp_path, text, part):
    """The place of a value from the command line is the command line."""
    error = fault(tmp_path, SHORT, text)
    assert part in error.message
    assert str(error.place) == f"--set {text}"


def test_all_errors_come_at_once_and_in_file_order(tmp_path):
    """The recipe's by line, then the base's, then those of --set."""
    write(tmp_path, "peft: {r: 0}\n", "base.yaml")
    text = "extends: base.yaml\nlaunch: {gpus: 0}\n" + SHORT + "training: {sed: 1, seed: x}\n"
    found = faults(tmp_path, text, "checkpoint.save_steps=0")
    assert [each.key for each in found] == [
        "launch.gpus",
        "training.sed",
        "training.seed",
        "peft.r",
        "checkpoint.save_steps",
    ]


def test_errors_of_the_plan_find_the_nearest_written_place(tmp_path):
    """A default has no place of its own: the section around it, else the file."""
    loaded = load(tmp_path, SHORT + "training: {seed: 1}\n")
    assert str(loaded.error("x", key="training.seed").place).endswith("recipe.yaml:3:18")
    assert str(loaded.error("x", key="training.max_steps").place).endswith("recipe.yaml:3:1")
    assert str(loaded.error("x", key="launch.gpus").place).endswith("recipe.yaml:1:1")
    assert str(loaded.error("x", key="data.datasets.train.weight").place).endswith("recipe.yaml:2:19")


def test_folders_are_those_of_the_file_that_wrote_the_value(tmp_path, monkeypatch):
    """Paths are relative to the file they stand in; on the command line, to where one stands."""
    write(tmp_path, "model: {chat_template_path: x.jinja}\n", "bases/base.yaml")
    monkeypatch.chdir("/")
    loaded = load(tmp_path, "extends: bases/base.yaml\n" + SHORT, "sharding.preset=p.yaml")
    assert loaded.folder("model.chat_template_path") == tmp_path / "bases"
    assert loaded.folder("data.datasets.train.path") == tmp_path
    assert str(loaded.folder("sharding.preset")) == "/"


@pytest.mark.parametrize(
    "secret", ["hf_" + "a1B2" * 8, "sk-" + "a1B2c3" * 6, "AKIA" + "A1B2C3D4E5F6G7H8", "ghp_" + "a1B2" * 9]
)
@pytest.mark.parametrize("where", ["model: {{model_name_or_path: {0}}}", "x: 1 # {0}", "tracking: {{tags: ['{0}']}}"])
def test_no_secret_stands_in_a_recipe_or_comes_out_again(tmp_path, secret, where):
    """Not as a value, not in a comment, and no message repeats it."""
    found = faults(tmp_path, where.format(secret) + "\ndata: {datasets: [{label: a, path: b}]}\n")
    assert any("credential" in each.message and each.place.line == 1 for each in found)
    assert not any(secret in f"{each} {each.hint}" for each in found)
    assert not any(secret in f"{each} {each.hint}" for each in faults(tmp_path, SHORT, f"name={secret}"))


@pytest.mark.parametrize(
    "text", ["task-1234567890-abcdefghijkl", "risk-aware-model-2024-version", "hf_hub_download", "0123456789abcdef" * 2]
)
def test_ordinary_names_are_not_taken_for_secrets(tmp_path, text):
    """Commit hashes and names with `sk-` in them are fine."""
    load(tmp_path, f"model: {{model_name_or_path: org/{text}}}\ndata: {{datasets: [{{label: a, path: b}}]}}\n")
