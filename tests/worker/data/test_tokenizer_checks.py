"""Tokenizer, template and model that do not belong together, told before a row is read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support import tiny, trained, warm

HERE = "tests.worker.data.test_tokenizer_checks"
LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


def checked(run_dir: str) -> Any:
    """In a process with transformers: load the tokenizer, check it; notes, or [exit code, message, hint]."""
    from launcher.errors import LauncherError
    from launcher.worker.data.tokenizer import write_tokenizer
    from launcher.worker.data.tokenizer_checks import check
    from launcher.worker.job import load

    try:
        job = load(Path(run_dir))
        return list(check(job, write_tokenizer(job)))
    except LauncherError as fault:
        return [int(fault.exit_code), fault.message, fault.hint]


def said(tmp_path: Path, placement: dict[str, str], **model_plan: Any) -> Any:
    """What `checked` says of a run with these places, paths shortened."""
    run = tiny.run_dir(tmp_path / "run", tiny.plan(model_plan=model_plan), placement)
    answer = json.dumps(warm.run(f"{HERE}:checked", {"run_dir": str(run.root)}).value)
    return json.loads(answer.replace(str(tmp_path), "DIR"))


def own(tmp_path: Path, **changes: Any) -> dict[str, str]:
    return {"model": str(tiny.model(tmp_path / "model", **changes))}


def edit(file: Path, **changes: Any) -> None:
    """Change keys of a JSON file; None removes."""
    content = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def test_a_model_with_its_own_tokenizer_is_fine(tmp_path):
    assert said(tmp_path, own(tmp_path)) == []


def test_no_pad_token_is_fine_and_said(tmp_path):
    """The end token pads then; it stays trained where it ends an answer."""
    placement = own(tmp_path)
    edit(tmp_path / "model/tokenizer_config.json", pad_token=None)
    assert said(tmp_path, placement) == [
        "`<|im_end|>` ends and pads: where it ends an answer it is trained, as padding it is not"
    ]


def test_no_end_token_is_refused_with_the_fix(tmp_path):
    """Rows would have no end, and a template that writes it fails with `'eos_token' is undefined`."""
    placement = own(tmp_path)
    edit(tmp_path / "model/tokenizer_config.json", eos_token=None)
    assert said(tmp_path, placement) == [
        2,
        "the tokenizer has no eos_token, so a trained model would never stop",
        'write the token that ends a text into its tokenizer_config.json in DIR/model: `"eos_token": "…"`',
    ]


def test_a_broken_template_is_refused_with_file_and_line(tmp_path):
    """It came with the model, so the recipe does not name it."""
    placement = own(tmp_path)
    (tmp_path / "model/chat_template.jinja").write_text("{% for m in messages %}\n{{ m.content }\n{% endfor %}")
    assert said(tmp_path, placement) == [
        2,
        "DIR/model/chat_template.jinja:2: unexpected '}'",
        "correct it, or name another file in `model.chat_template_path`",
    ]


def test_tokens_past_the_embedding_are_refused(tmp_path):
    """`index out of range in self` on a CPU, a device assert on a GPU; growing the model in silence is no better."""
    placement = own(tmp_path, vocab_size=320)
    assert said(tmp_path, placement) == [
        2,
        f"tokenizer `DIR/model` has ids up to 383, model `DIR/model` 320 embedding rows: none for 64 tokens, the last {last(tmp_path)}",
        "use the tokenizer that this model was trained with",
    ]


def last(tmp_path: Path) -> str:
    vocabulary = json.loads((tmp_path / "model/tokenizer.json").read_text())["model"]["vocab"]
    return next(f"`{token}`" for token, number in vocabulary.items() if number == 383)


def test_a_few_tokens_more_are_added_when_the_recipe_says_so(tmp_path):
    """The hint works: the same run with `model.add_tokens` is fine."""
    placement = own(tmp_path)
    file = tmp_path / "model/tokenizer.json"
    content = json.loads(file.read_text())
    content["added_tokens"].append({**content["added_tokens"][0], "id": 384, "content": "<tool>"})
    file.write_text(json.dumps(content))
    assert said(tmp_path, placement) == [
        2,
        "tokenizer `DIR/model` has ids up to 384, model `DIR/model` 384 embedding rows: none for 1 token `<tool>`",
        'use the tokenizer that this model was trained with, or write `model.add_tokens: ["<tool>"]`, which adds rows to the model',
    ]
    assert said(tmp_path, placement, add_tokens=("<tool>",)) == []


def test_the_tokenizer_of_another_model_is_refused(tmp_path):
    """Both have tokens of the same names at other places: the model would read another text."""
    placement = own(tmp_path)
    other = tiny.tokenizer(tmp_path / "other", texts=["zebra zebra zebra"] * 500)
    code, message, hint = said(tmp_path, {**placement, "tokenizer": str(other)}, tokenizer="other")
    mine, theirs = (
        json.loads((tmp_path / name / "tokenizer.json").read_text())["model"]["vocab"] for name in ("other", "model")
    )
    moved = {token for token in mine if theirs.get(token, mine[token]) != mine[token]}
    assert moved
    assert code == 2
    assert message.startswith(
        f"tokenizer `DIR/other` is another model's: {len(moved)} tokens have other ids in DIR/model/tokenizer.json, "
    )
    assert hint == "remove `model.tokenizer_name_or_path`, or name a tokenizer that was made from the model's own"


def test_a_copy_of_the_tokenizer_is_the_models_own(tmp_path):
    """A chat template beside a copied tokenizer is common."""
    placement = own(tmp_path)
    assert said(tmp_path, {**placement, "tokenizer": str(tiny.tokenizer(tmp_path / "copy"))}, tokenizer="copy") == []


def test_without_the_models_own_tokenizer_its_configuration_is_compared(tmp_path):
    """A suspicion, not a proof: many chat models end with another token than their base."""
    model = tiny.model(tmp_path / "model", with_tokenizer=False, eos_token_id=7)
    placement = {"model": str(model), "tokenizer": str(tiny.tokenizer(tmp_path / "other"))}
    assert said(tmp_path, placement, tokenizer="other") == [
        "tokenizer `DIR/other` may be another model's: its eos_token_id is 2, in config.json 7"
    ]


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        ({"model_type": "nosuch"}, 4, "model `DIR/model`: its config.json cannot be loaded: "),
        (
            {"model_type": "nosuch", "auto_map": {"AutoConfig": "configuration_x.X"}},
            4,
            "model `DIR/model` brings Python code of its own, and transformers has none for its type",
        ),
        ({"model_type": "t5"}, 2, "model `DIR/model` is of type `t5`, which does not continue text"),
    ],
)
def test_a_model_that_cannot_be_trained_is_told_before_training(tmp_path, change, code, says):
    """The weights are loaded in the next stage, on a machine one has waited for."""
    placement = {"tokenizer": str(tiny.tokenizer(tmp_path / "tok")), **own(tmp_path)}
    edit(tmp_path / "model/config.json", **change)
    answer = said(tmp_path, placement, tokenizer="tok")
    assert answer[0] == code
    assert answer[1].startswith(says)


def test_code_of_its_own_is_not_run_for_the_tokenizer_either(tmp_path):
    """The tokenizer's class may hang on the model's type, so this is where it is met first."""
    placement = own(tmp_path)
    edit(tmp_path / "model/config.json", model_type="mine", auto_map={"AutoConfig": "configuration_mine.Mine"})
    code, message, hint = said(tmp_path, placement)
    assert code == 4
    assert "brings Python code of its own, and transformers has none for its type" in message
    assert hint == "read that code, then set `model.trust_remote_code: true`"


def rendered(template: str, seconds: float) -> Any:
    """In a process with transformers: the probe rendering of one conversation."""
    from transformers.utils.chat_template_utils import render_jinja_template

    from launcher.errors import DataError
    from launcher.worker.data.tokenizer_checks import render_with_limit

    chat = [[{"role": "user", "content": "Hi"}]]
    start = time.monotonic()
    try:
        render_with_limit(lambda: render_jinja_template(chat, chat_template=template)[0][0], seconds=seconds)
    except DataError as fault:
        return [fault.message, time.monotonic() - start]
    return ["", time.monotonic() - start]


@pytest.mark.parametrize(
    ("template", "seconds", "says"),
    [
        (tiny.CHATML, 30, ""),
        ("{{ raise_exception('no') }}", 30, ""),
        (LOOP, 1, "the chat template takes more than 1 s for one conversation"),
        ("{{ 7 ** (9 ** 9) }}", 1, "the chat template takes more than 1 s for one conversation"),
        ("{{ 'x' * 80000000 }}", 30, "the chat template writes more than 64 MiB for one conversation"),
        (
            "{% set text = 'x' * 1600000000 %}{{ text | length }}",
            30,
            "the chat template takes more than 1024 MiB of memory for one conversation",
        ),
    ],
    ids=["fine", "refuses", "loops", "computes", "writes", "fills-memory"],
)
def test_a_rendering_has_an_end(template, seconds, says):
    """Nested loops, one long computation that no signal interrupts, text without end."""
    message, took = warm.run(f"{HERE}:rendered", {"template": template, "seconds": seconds}).value
    assert message == says
    assert took < 30


OFFLINE = """
import sys, time
from pathlib import Path
from launcher.errors import LauncherError
from launcher.worker.data.tokenizer import write_tokenizer
from launcher.worker.data.tokenizer_checks import load_config
from launcher.worker.job import load
import transformers.models.auto.modeling_auto
start = time.monotonic()
for each in (write_tokenizer, load_config):
    try:
        each(load(Path(sys.argv[1])))
    except LauncherError as fault:
        print(int(fault.exit_code), fault.message, fault.hint, sep="|")
print(time.monotonic() - start)
"""


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "http://192.0.2.1"])
def test_a_model_that_cannot_be_fetched_is_told_in_seconds(tmp_path, endpoint):
    """The hub's client tries five times for each of several files: 46 s for a refused connection, minutes for a lost one."""
    run = tiny.run_dir(tmp_path / "run", tiny.plan(model_plan={"name": "me/mine"}), {})
    env = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path), "no_proxy": "*"}
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE, str(run.root)], env=env, capture_output=True, text=True, check=True
    )
    fetch = "`launcher fetch RECIPE` on a machine with network brings it; a local folder works too"
    *lines, took = done.stdout.splitlines()
    assert lines == [
        f"4|{kind} `me/mine` is not on this machine, and {endpoint} does not answer|{fetch}"
        for kind in ("tokenizer", "model")
    ]
    assert float(took) < 10


def agreed(model: str, changes: list[Any]) -> list[list[bool]]:
    """In a process with peft: for each `target_modules`, whether peft takes it, and whether we do."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    from launcher.plan.layers import Layers
    from launcher.plan.model_files import read_weights

    layers = Layers(read_weights(Path(model)).tensors)
    answers = []
    for change in changes:
        with torch.device("meta"):
            network = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(model))
        try:
            get_peft_model(network, LoraConfig(target_modules=change, task_type="CAUSAL_LM"))
            takes = True
        except ValueError:
            takes = False
        if isinstance(change, str):
            matched = layers.matched(change)
            ours = bool(matched) and all(name in layers.weights for name in matched)
        else:
            ours = all(layers.unfit(name) is None for name in change)
        answers.append([takes, ours])
    return answers


def test_peft_agrees_on_what_a_target_is(tmp_path):
    """Names and patterns judged from the headers, and by peft on the network."""
    changes = [
        ["q_proj"],
        ["layers.1.mlp.up_proj"],
        ["embed_tokens"],
        r".*\.(q|v)_proj",
        "model.layers.0.mlp.up_proj",
        ["query"],
        ["input_layernorm"],
        ["mlp"],
        "q_proj",
        ".*mlp.*",
        ".*layers.0.*",
    ]
    found = warm.run(f"{HERE}:agreed", {"model": str(tiny.model(tmp_path / "model")), "changes": changes}).value
    assert found == [[True, True]] * 5 + [[False, False]] * 6


@pytest.mark.train
@pytest.mark.parametrize("tied", [True, False])
def test_added_tokens_are_trained_with_a_tied_embedding(tmp_path, tied):
    """Rows are added once for both uses; the result is loaded with them and holds one matrix where they are tied."""
    made = tiny.plan(model_plan={"add_tokens": ("<tool>", "<done>")}, epochs=1.0)
    data = tiny.jsonl(tmp_path / "train.jsonl", tiny.messages(8))
    run = tiny.run_dir(tmp_path / "run", made, {**own(tmp_path, tie_word_embeddings=tied), "data.train": str(data)})
    trained.prepare(run)
    trained.train(run)

    from launcher.plan.model_files import read_weights

    shapes = read_weights(run.model).tensors
    assert shapes["model.embed_tokens.weight"] == (386, 64)
    assert shapes.get("lm_head.weight") == (None if tied else (386, 64))
