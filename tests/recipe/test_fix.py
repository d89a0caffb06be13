"""`launcher validate --fix`: names rewritten in place, comments and values kept."""

import stat

import pytest

from launcher.cli.main import main
from launcher.errors import RecipeError
from launcher.recipe import yaml
from launcher.recipe.dialects import ROWS
from launcher.recipe.fix import fix
from launcher.recipe.load import load_recipe
from launcher.recipe.nodes import plain
from launcher.recipe.suggest import written
from tests.recipe.writing import SHORT, write
from tests.support import golden

AXOLOTL = """\
# A file as axolotl reads it.
base_model: Qwen/Qwen3-8B   # the base
load_in_4bit: true
adapter: qlora
datasets:
  - path: tatsu-lab/alpaca   # from the hub
    label: alpaca
    type: chat_template
    train_on_split: train
val_set_size: 0.05

# adapters
lora_r: 16
lora_alpha: 32   # twice r
lora_dropout: 0.05
lora_target_linear: true

sequence_len: 2048
sample_packing: true
micro_batch_size: 2
gradient_accumulation_steps: 4
num_epochs: 3
optimizer: adamw_bnb_8bit
lr_scheduler: cosine
learning_rate: 2.0e-4
train_on_inputs: false
gradient_checkpointing: true
warmup_ratio: 0.03
weight_decay: 0.0
tf32: false
bf16: auto
flash_attention: true
wandb_project: support
output_dir: ./out   # where it went
special_tokens:
# the end
"""

FACTORY = """\
### model
model_name_or_path: Qwen/Qwen3-8B
trust_remote_code: true

### method
stage: sft
finetuning_type: lora
lora_rank: 8
lora_target: all

### dataset
dataset: data/identity.jsonl
template: qwen3
cutoff_len: 2048
max_samples: 1000
val_size: 0.1

### output
output_dir: saves/qwen3
logging_steps: 10
save_steps: 500
plot_loss: true

### train
per_device_train_batch_size: 1
gradient_accumulation_steps: 8
learning_rate: 1.0e-4
num_train_epochs: 3.0
lr_scheduler_type: cosine
warmup_ratio: 0.1
bf16: true
ddp_timeout: 180000000
"""


@pytest.mark.parametrize(("name", "text"), [("axolotl", AXOLOTL), ("llama-factory", FACTORY)])
def test_golden_fix(name, text, tmp_path, monkeypatch, capsys):
    """A whole file of another tool: the difference, what is left, and the remaining errors."""
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path, text, f"{name}.yaml")
    code = main(["validate", path.name, "--fix"])
    golden.check(f"recipe/fix/{name}.txt", f"exit {int(code)}\n{capsys.readouterr().err}")
    after = path.read_text(encoding="utf-8")
    for line in text.splitlines():
        comment = line.partition("#")[2].strip("# ")
        assert comment in after
    main(["validate", path.name, "--fix"])
    assert path.read_text(encoding="utf-8") == after


def test_a_fixed_recipe_loads_and_means_the_same(tmp_path):
    """Values move as they were written."""
    path = write(
        tmp_path,
        "base_model: org/name # the base\ndata: {datasets: [{label: a, path: a.jsonl}]}\ntraining: {warmup_ratio: 3.0e-2, packing: true}\nlora_r: 8\n",
    )
    fix(path).write()
    recipe = load_recipe(path).recipe
    assert (recipe.model.model_name_or_path, recipe.peft.r) == ("org/name", 8)
    assert (recipe.training.warmup_steps, recipe.data.packing) == (0.03, True)
    assert "3.0e-2" in path.read_text()


def test_what_is_set_already_is_left(tmp_path):
    """Two values for one fact are for a person to settle."""
    path = write(tmp_path, SHORT + "peft: {r: 4}\nlora_r: 8\n")
    fixed = fix(path)
    assert fixed.after == fixed.before
    assert fixed.left == ("lora_r: `peft.r` is set already",)


def test_the_same_value_twice_becomes_one(tmp_path):
    """Nothing is lost when both agree."""
    path = write(tmp_path, SHORT + "peft: {r: 8}\nlora_r: 8\n")
    fix(path).write()
    assert load_recipe(path).recipe.peft.r == 8


@pytest.mark.parametrize("name", sorted(ROWS))
def test_no_name_loses_its_value(tmp_path, name):
    """For every known name: rewritten and valid YAML, or left as it stands."""
    path = write(tmp_path, f"{SHORT}# before\n{name}: {written(ROWS[name].example)} # beside\n# after\n")
    fixed = fix(path)
    assert bool(fixed.done) != bool(fixed.left)
    for comment in ("# before", "# beside", "# after"):
        assert comment in fixed.after
    if fixed.left:
        assert fixed.after == fixed.before
    else:
        assert name not in plain(yaml.read_text(fixed.after, "x"))


@pytest.mark.parametrize(
    "style", ["- {label: a, path: b}", "  - {label: a, path: b}", "    - label: a\n        path: b"]
)
def test_lists_keep_their_indentation(tmp_path, style):
    """The difference shows what was rewritten and nothing else."""
    path = write(
        tmp_path, f"model: {{model_name_or_path: x}}\ndata:\n  datasets:\n  {style}\n  max_seq_length: 5 # c\n"
    )
    fixed = fix(path)
    changed = [line for line in fixed.difference().splitlines()[2:] if line[:1] in "+-"]
    assert changed == ["-  max_seq_length: 5 # c", "+  max_length: 5 # c"]


def test_nothing_to_do_changes_no_byte(tmp_path):
    """Not even the line ends."""
    path = write(tmp_path, SHORT + "name:   x\n\n\n# end")
    before = path.read_bytes()
    fix(path).write()
    assert path.read_bytes() == before


def test_the_file_keeps_its_mode_and_a_link_stays_a_link(tmp_path):
    """Rewriting is not replacing."""
    path = write(tmp_path, SHORT + "lora_r: 8\n", "real.yaml")
    path.chmod(0o640)
    link = tmp_path / "link.yaml"
    link.symlink_to(path)
    fix(link).write()
    assert link.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert load_recipe(path).recipe.peft.r == 8


def test_a_file_that_is_not_strict_yaml_is_not_touched(tmp_path):
    """The first error is said as always."""
    path = write(tmp_path, SHORT + "lora_r: 8\nlora_r: 9\n")
    with pytest.raises(RecipeError, match="duplicate"):
        fix(path)


def test_the_difference_shows_no_secret(tmp_path):
    """It goes to the screen."""
    secret = "hf_" + "a1B2" * 8
    path = write(tmp_path, SHORT + f"lora_r: 8\nmodel_revision: {secret}\n")
    assert secret not in fix(path).difference()
