"""Tokenizers, templates, weights and adapters that do not belong to each other, or are not whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from launcher.runs.paths import RunDir
from tests.corpus.case import (
    ROWS,
    TEXT,
    Case,
    Plain,
    Prepared,
    Refused,
    Writer,
    both,
    edit_json,
    pairs,
    prepared_rows,
    recipe,
    rows,
    texts,
)
from tests.support import tiny, trained, warm

BOS, END = "<|endoftext|>", "<|im_end|>"
LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor %}{% endfor %}{% endfor %}"


def template(text: str | None) -> Writer:
    """Conversations, and a tokenizer with this chat template."""

    def write(folder: Path) -> None:
        rows()(folder)
        (folder / "model" / "chat_template.jinja").unlink()
        tiny.tokenizer(folder / "model", chat_template=text)

    return write


def tokenizer(**changes: Any) -> Writer:
    """Conversations, and a tokenizer with other keys in `tokenizer_config.json`; None removes one."""
    return both(rows(), lambda folder: edit_json(folder / "model" / "tokenizer_config.json", **changes))


def config(**changes: Any) -> Writer:
    """Conversations, and a model with other keys in `config.json`."""
    return both(rows(), lambda folder: edit_json(folder / "model" / "config.json", **changes))


def _without_eos(folder: Path) -> None:
    template(tiny.CHATML.replace("'<|im_end|>'", "eos_token"))(folder)
    edit_json(folder / "model" / "tokenizer_config.json", eos_token=None)


def _begins_texts(folder: Path) -> None:
    """A tokenizer that begins every text with a token of its own."""
    path = folder / "model" / "tokenizer.json"
    single = [{"SpecialToken": {"id": BOS, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    pair = [*single, {"Sequence": {"id": "B", "type_id": 1}}]
    special = {BOS: {"id": BOS, "ids": [0], "tokens": [BOS]}}
    edit_json(
        path, post_processor={"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special}
    )
    edit_json(folder / "model" / "tokenizer_config.json", bos_token=BOS)


def _begun_by_the_template(folder: Path) -> None:
    template("{{ bos_token }}" + tiny.CHATML)(folder)
    _begins_texts(folder)


def _begun_by_the_text(folder: Path) -> None:
    texts(lambda row: {"text": BOS + row["text"]})(folder)
    _begins_texts(folder)


def _other_tokenizer(folder: Path) -> None:
    rows()(folder)
    tiny.tokenizer(folder / "other", texts=["zebra quagga okapi gnu " * 50])


def _cut_weights(folder: Path) -> None:
    rows()(folder)
    file = folder / "model" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])


def _index_outside(folder: Path) -> None:
    rows()(folder)
    (folder / "model" / "model.safetensors").rename(folder / "stolen.safetensors")
    index = {"metadata": {}, "weight_map": {"model.norm.weight": "../stolen.safetensors"}}
    (folder / "model" / "model.safetensors.index.json").write_text(json.dumps(index))


def _adapter(folder: Path) -> None:
    """An adapter for a model with half as many dimensions."""
    import numpy as np
    from safetensors.numpy import save_file

    rows()(folder)
    name = "base_model.model.model.layers.0.self_attn.q_proj"
    weights = {
        f"{name}.lora_A.weight": np.ones((4, 32), np.float32),
        f"{name}.lora_B.weight": np.ones((64, 4), np.float32),
    }
    (folder / "adapter").mkdir()
    save_file(weights, folder / "adapter" / "adapter_model.safetensors")
    settings = {**tiny.LORA, "target_modules": ["q_proj"], "peft_type": "LORA", "base_model_name_or_path": "org/small"}
    (folder / "adapter" / "adapter_config.json").write_text(json.dumps(settings))


def _other_weights(folder: Path) -> None:
    tiny.model(folder / "model", seed=9)


def _one_begin(run: RunDir) -> None:
    assert all(ids[0] == 0 and ids[1] != 0 for ids, labels in prepared_rows(run) if len(ids) > 2)


def _ends_are_trained(run: RunDir) -> None:
    """<|im_end|> (id 2) ends both turns, and carries a label where it ends the answer."""
    assert [(ids.count(2), labels.count(2)) for ids, labels in prepared_rows(run)] == [(2, 1)] * ROWS


def _answers_are_trained(run: RunDir) -> None:
    """One answer with its end, and nothing else."""
    shown = warm.run("tests.support.cases:marked", {"run_dir": str(run.root), "label": "train"}).value
    said = [f"⟦{row['answer']}<|im_end|>⟧" for row in tiny.words(ROWS)]
    assert all(any(part in row and row.count("⟦") == 1 for row in shown) for part in said)


def _trains_the_new_row(run: RunDir) -> None:
    trained.train(run)
    found = warm.run("tests.support.cases:embedding", {"run_dir": str(run.root), "token": "<|new|>"}).value
    assert found == {"id": tiny.VOCABULARY, "rows": tiny.VOCABULARY + 1}


CASES = (
    Case("T01", "no chat template", Refused(("chat template", "DIR/model"), hint="chat_template_path"), template(None)),
    Case(
        "T02",
        "a template without marks around the answer, of which alone is trained",
        Prepared(ROWS, check=_answers_are_trained),
        template(tiny.CHATML_WITHOUT_MARKERS),
    ),
    Case(
        "T03",
        "a chat template that is not Jinja",
        Refused(("model/chat_template.jinja:3",)),
        template("{# chat #}\n\n{% for message in messages %}{{ message.content }}{% end %}"),
        variant="model",
    ),
    Case(
        "T03",
        "a chat template of one's own that is not Jinja",
        Refused(("recipe.yaml:1", "chat.jinja:2")),
        both(rows(), lambda folder: (folder / "chat.jinja").write_text("{# chat #}\n{{ messages[0.content }}")),
        recipe(model="chat_template_path: chat.jinja"),
        variant="own",
        plain=Plain(template="chat.jinja"),
    ),
    Case(
        "T04", "a template without an end", Refused(("chat template", "DIR/model", "5 s")), template(LOOP + tiny.CHATML)
    ),
    Case("T05", "no pad token", Prepared(ROWS, check=_ends_are_trained), tokenizer(pad_token=None)),
    Case(
        "T06",
        "the end token also pads",
        Prepared(ROWS, warned=("ends and pads",), check=_ends_are_trained),
        tokenizer(pad_token=END),
    ),
    Case(
        "T07",
        "no end token, which the template prints",
        Refused(("eos_token", "DIR/model"), hint="eos_token"),
        _without_eos,
    ),
    Case(
        "T07",
        "no end token, and completions must end",
        Refused(("eos_token", "DIR/model"), hint="eos_token"),
        both(pairs(), lambda folder: edit_json(folder / "model" / "tokenizer_config.json", eos_token=None)),
        variant="completion",
        plain=TEXT,
    ),
    Case(
        "T08",
        "more tokens than embedding rows",
        Refused(("DIR/model", "383", "320")),
        both(rows(), lambda folder: tiny.model(folder / "model", vocab_size=320)),
    ),
    Case(
        "T09",
        "rows of no tokens",
        Refused(("recipe.yaml:6", "data.max_length", "0")),
        rows(),
        recipe(data="max_length: 0\n"),
        variant="zero",
        plain=Plain(config={"max_length": 0}),
    ),
    Case(
        "T09",
        "rows of fewer than no tokens",
        Refused(("recipe.yaml:6", "data.max_length", "-5")),
        rows(),
        recipe(data="max_length: -5\n"),
        variant="negative",
        plain=Plain(config={"max_length": -5}),
    ),
    Case(
        "T10",
        "rows longer than the model's context",
        Refused(("recipe.yaml:6", "1024", "512"), hint="512"),
        rows(),
        recipe(data="max_length: 1024\n"),
        plain=Plain(config={"max_length": 1024}),
    ),
    Case(
        "T11",
        "template and tokenizer both begin a conversation",
        Prepared(ROWS, check=_one_begin),
        _begun_by_the_template,
        variant="template",
    ),
    Case(
        "T11",
        "a text begins with what the tokenizer adds",
        Refused(("train.jsonl:5", BOS)),
        _begun_by_the_text,
        variant="text",
        plain=TEXT,
    ),
    Case(
        "T12",
        "another model's tokenizer of the same size",
        Refused(("DIR/other", "DIR/model/tokenizer.json")),
        _other_tokenizer,
        recipe(model="tokenizer_name_or_path: ./other"),
        plain=Plain(tokenizer="other"),
    ),
    Case("T13", "weights are cut off", Refused(("model.safetensors", "cut off")), _cut_weights, variant="cut"),
    Case(
        "T13",
        "an index names a file outside of its folder",
        Refused(("model.safetensors.index.json", "../stolen.safetensors")),
        _index_outside,
        variant="outside",
    ),
    Case(
        "T14",
        "no layer has the name that LoRA shall train",
        Refused(("recipe.yaml", "peft.target_modules", "`q_porj`"), hint="q_proj"),
        rows(),
        recipe(rest="peft: {target_modules: [q_porj]}\n"),
        plain=Plain(peft={"target_modules": ["q_porj"]}),
    ),
    Case(
        "T15",
        "all weights are trained, in 4 bits",
        Refused(("recipe.yaml", "quantization"), hint="peft"),
        rows(),
        recipe(rest="quantization: {load_in_4bit: true}\n"),
        variant="full",
        plain=Plain(four_bit=True),
    ),
    Case(
        "T15",
        "4 bits, moved to host memory by what moves nothing",
        Refused(("recipe.yaml", "sharding")),
        rows(),
        recipe(rest="peft: {r: 4}\nquantization: {load_in_4bit: true}\nsharding: {strategy: ddp, offload: params}\n"),
        variant="offload",
        plain=Plain(untried="needs DeepSpeed"),
    ),
    Case(
        "T16",
        "an adapter of another model",
        Refused(("DIR/adapter", "q_proj", "64×32", "64×64"), hint="org/small"),
        _adapter,
        recipe(model="adapter_name_or_path: ./adapter"),
        plain=Plain(adapter="adapter"),
    ),
    Case(
        "T17",
        "the weights under an adapter have changed since its training began",
        Refused(("DIR/model", "changed")),
        rows(),
        recipe(rest="peft: {r: 4}\n"),
        then=_other_weights,
        plain=Plain(then=_other_weights, peft={"r": 4}),
    ),
    Case(
        "T18",
        "a model that is neither here nor to be had",
        Refused(("me/unknown",), code=4),
        rows(),
        recipe().replace("./model", "me/unknown"),
        plain=Plain(model="me/unknown"),
    ),
    Case(
        "T19",
        "a key in config.json that loads foreign code",
        Refused(("recipe.yaml", "`_attn_implementation_internal`")),
        config(_attn_implementation_internal="evil/kernels"),
        variant="key",
    ),
    Case(
        "T19",
        "a type of model that is Python code beside its weights",
        Refused(("DIR/model", "code"), code=4, hint="trust_remote_code"),
        config(model_type="evil", architectures=["EvilForCausalLM"], auto_map={"AutoConfig": "evil.EvilConfig"}),
        variant="code",
    ),
    Case(
        "T20",
        "a new token for a model whose output head is its embedding",
        Prepared(ROWS, check=_trains_the_new_row),
        rows(),
        recipe(model="add_tokens: ['<|new|>']"),
        plain=Plain(add_tokens=("<|new|>",)),
    ),
)
