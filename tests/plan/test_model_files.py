"""A model's files against the recipe, from headers alone: damage, foreign code, layers that are not there."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from launcher.cli.main import main
from launcher.errors import EnvironmentFault, RecipeErrors
from launcher.plan import model_files
from launcher.plan.model_files import fingerprint, read_header
from launcher.predict.architecture import architecture
from tests.support import planning, tiny

MODEL = "model.model_name_or_path=./model"


def said(folder: Path, *sets: str, text: str = planning.RECIPE) -> list[str]:
    """What the plan of the small recipe on ./model is refused with; paths below `folder` are shortened."""
    with pytest.raises(RecipeErrors) as caught:
        planning.plan(folder, MODEL, *sets, text=text)
    found = [f"{each.key}: {each.message}\nhint: {each.hint}" for each in caught.value.errors]
    return [each.replace(str(folder), "DIR") for each in found]


def warned(folder: Path, *sets: str) -> str:
    return "\n".join(planning.plan(folder, MODEL, *sets).warnings)


@pytest.fixture
def model(tmp_path):
    return tiny.model(tmp_path / "model")


def shards(folder: Path) -> Path:
    """The model's weights in two files with an index."""
    whole = folder / "model.safetensors"
    from safetensors.numpy import load_file

    tensors = load_file(whole)
    names = sorted(tensors)
    files = {"model-00001-of-00002.safetensors": names[:10], "model-00002-of-00002.safetensors": names[10:]}
    for file, part in files.items():
        save_file({name: tensors[name] for name in part}, folder / file)
    whole.unlink()
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {name: file for file, part in files.items() for name in part}}))
    return index


def test_headers_hold_the_shapes(model):
    """The same names and shapes that the model was written with, and that its configuration asks for."""
    stored = read_header(model / "model.safetensors")
    assert stored["model.layers.1.mlp.down_proj.weight"] == (64, 128)
    assert stored == architecture(tiny.CONFIG).tensors


def test_shards_are_one_model(model, tmp_path):
    """An index and its files plan like one file."""
    shards(model)
    assert planning.plan(tmp_path, MODEL).model.parameters
    assert "matches no layer" in said(tmp_path, "peft.target_modules='.*qq.*'")[0]


def test_a_hub_cache_of_links_is_a_model_folder(model, tmp_path):
    """Its snapshots are links to blobs; naming one as a folder must work."""
    blob = tmp_path / "blob"
    (model / "model.safetensors").rename(blob)
    (model / "model.safetensors").symlink_to(blob)
    assert planning.plan(tmp_path, MODEL).method == "lora"


@pytest.mark.parametrize(
    ("left", "says"),
    [
        (300_000, "300,000 bytes of {size:,}"),
        (1_000, "1,000 bytes, its header ends at {header:,}"),
        (5, "5 bytes, its header ends at"),
    ],
)
def test_weights_that_were_cut_off(model, tmp_path, left, says):
    """A copy that stopped; the library says `SafetensorError` and no file."""
    file = model / "model.safetensors"
    size, header = file.stat().st_size, 8 + struct.unpack("<Q", file.read_bytes()[:8])[0]
    os.truncate(file, left)
    (message,) = said(tmp_path)
    assert message.startswith("model.model_name_or_path: DIR/model/model.safetensors is cut off: ")
    assert says.format(size=size, header=header) in message
    assert message.endswith("\nhint: copy it again")


def test_bytes_behind_the_last_tensor(model, tmp_path):
    """Two copies into one file; safetensors refuses it when training starts."""
    with (model / "model.safetensors").open("ab") as file:
        file.write(b"\0" * 7)
    size = (model / "model.safetensors").stat().st_size
    assert f"has {size:,} bytes, its header accounts for {size - 7:,}" in said(tmp_path)[0]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
            "is a Git LFS pointer, not the weights",
        ),
        (b"\xff" * 64, "is not safetensors: its header would be 18,446,744,073,709,551,615 bytes"),
        (struct.pack("<Q", 4) + b"[1]x", "is not safetensors: its header cannot be read"),
        (struct.pack("<Q", 8) + b'{"a": 5}', "is not safetensors: its header cannot be read"),
    ],
)
def test_what_is_no_safetensors_file(model, tmp_path, content, says):
    """Each would end in a trace, or in a read of all memory."""
    (model / "model.safetensors").write_bytes(content)
    assert says in said(tmp_path)[0]


def test_a_shard_that_is_missing_is_named(model, tmp_path):
    """`save_pretrained` copied by hand, one file forgotten."""
    shards(model)
    (model / "model-00002-of-00002.safetensors").unlink()
    assert said(tmp_path) == [
        (
            "model.model_name_or_path: DIR/model lacks 1 of its 2 weight files: model-00002-of-00002.safetensors\n"
            "hint: copy them too"
        )
    ]


def test_an_index_that_is_missing_is_named(model, tmp_path):
    shards(model).unlink()
    assert said(tmp_path)[0].startswith(
        "model.model_name_or_path: DIR/model holds shards, but no model.safetensors.index.json"
    )


@pytest.mark.parametrize(
    "name", ["../secret.safetensors", "/etc/passwd", "a/b.safetensors", "a\\b.safetensors", "x.bin"]
)
def test_an_index_names_files_beside_it_only(model, tmp_path, name):
    """CVE-2026-69112: `../` in a weight_map read files outside the folder."""
    index = shards(model)
    save_file({"a": np.zeros(1, np.float32)}, tmp_path / "secret.safetensors")
    index.write_text(json.dumps({"weight_map": {"a": name}}))
    assert f"index.json names `{name}`, which is no safetensors file beside it" in said(tmp_path)[0]


@pytest.mark.parametrize("name", ["model-00001-of-00002.safetensors", "model.safetensors.index.json", "config.json"])
def test_a_pipe_is_not_read(model, tmp_path, name):
    """Reading it would wait for ever (the other half of CVE-2026-69112)."""
    shards(model)
    (model / name).unlink()
    os.mkfifo(model / name)
    with pytest.raises((RecipeErrors, EnvironmentFault), match=r"is not a (regular )?file"):
        planning.plan(tmp_path, MODEL)


def test_pickles_are_refused_with_the_way_to_convert_them(model, tmp_path):
    """Reading one runs the code in it."""
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    (message,) = said(tmp_path)
    assert "DIR/model/pytorch_model.bin is a pickle, which runs code when it is read" in message
    assert 'AutoModelForCausalLM as M; M.from_pretrained("DIR/model").save_pretrained("NEW")`' in message


def test_a_folder_without_weights_and_an_adapter_as_model(model, tmp_path):
    """Both are told before anything is started; the second says what the folder is."""
    (model / "model.safetensors").unlink()
    assert "DIR/model holds no weights (model.safetensors)" in said(tmp_path)[0]
    (model / "config.json").rename(model / "adapter_config.json")
    with pytest.raises(EnvironmentFault) as caught:
        planning.plan(tmp_path, MODEL)
    assert caught.value.hint == "it holds an adapter: name it in `model.adapter_name_or_path`, and its base model here"


def test_other_files_that_the_recipe_asks_for_are_not_judged(model, tmp_path):
    """`variant: fp16` reads model.fp16.safetensors."""
    (model / "model.safetensors").rename(model / "model.fp16.safetensors")
    assert planning.plan(tmp_path, MODEL, "model.model_init_kwargs={variant: fp16}")


def test_weights_and_configuration_belong_together(model, tmp_path):
    """Missing layers would start at random, which transformers only logs."""
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    # a block has 7 matrices, 2 norms, and qwen3's norms of q and k
    assert (
        "lacks 11 of the weights its config.json asks for, first `model.layers.2.self_attn.q_proj" in said(tmp_path)[0]
    )
    (model / "config.json").write_text(json.dumps({**config, "vocab_size": 320}))
    assert "`model.embed_tokens.weight` is 384×64, by its config.json 320×64" in said(tmp_path)[0]


@pytest.mark.parametrize("where", ["top", "nested"])
def test_internal_keys_are_refused(model, tmp_path, where):
    """CVE-2026-4372: `_attn_implementation_internal` loaded kernel code although trust_remote_code was off."""
    config = json.loads((model / "config.json").read_text())
    extra = {"_attn_implementation_internal": "evil/kernel"}
    config |= extra if where == "top" else {"text_config": {"inner": [extra]}}
    (model / "config.json").write_text(json.dumps(config))
    assert said(tmp_path) == [
        (
            "model.model_name_or_path: its config.json sets `_attn_implementation_internal`, a key that can load foreign code\n"
            "hint: no saved model has it: remove it, or use another copy"
        )
    ]


def test_internal_keys_in_a_recipe_are_refused(model, tmp_path):
    """A recipe comes from others as a model does."""
    (message,) = said(tmp_path, "model.model_init_kwargs={_experts_implementation_internal: x}")
    assert message.startswith("model.model_init_kwargs: `_experts_implementation_internal`, a key")


def test_code_of_its_own_is_announced(model, tmp_path):
    """Only transformers knows whether it needs that code; it refuses to run it unasked."""
    config = json.loads((model / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoModelForCausalLM": "modeling_mine.Mine"}}
    (model / "config.json").write_text(json.dumps(config))
    assert "unless transformers knows the type `mine`, it needs model.trust_remote_code: true" in warned(tmp_path)
    assert "auto_map" not in warned(tmp_path, "model.trust_remote_code=true")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            "[q_porj, v_proj]",
            (
                "peft.target_modules.0: `q_porj` names no layer of this model\n"
                "hint: did you mean `q_proj`? Layers: down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj"
            ),
        ),
        (
            "[input_layernorm]",
            (
                "peft.target_modules.0: `input_layernorm` is no linear layer (`model.layers.0.input_layernorm`)\n"
                "hint: layers: down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj"
            ),
        ),
        (
            "q_proj",
            "peft.target_modules: `q_proj` matches no layer\nhint: write a list: `target_modules: [q_proj]`",
        ),
        (
            "'.*attn_x.*'",
            (
                "peft.target_modules: `.*attn_x.*` matches no layer\nhint: it is compared with whole names such as "
                "`model.layers.0.mlp.down_proj`; layers: down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj"
            ),
        ),
        (
            "'.*mlp.*'",
            (
                "peft.target_modules: `.*mlp.*` matches `model.layers.0.mlp`, which is no linear layer\n"
                "hint: let it end in layers (down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj)"
            ),
        ),
        (
            "'(q_proj'",
            (
                "peft.target_modules: `(q_proj` is no regular expression: missing ), unterminated subpattern at position 0\n"
                "hint: layers: down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj"
            ),
        ),
    ],
)
@pytest.mark.parametrize("weights", ["folder", "catalog"])
def test_target_modules_are_layers_of_the_model(tmp_path, change, expected, weights):
    """peft stops without a list, once the weights are loaded; a list that matches in part it takes in silence."""
    sets = [f"peft.target_modules={change}"]
    if weights == "catalog":
        sets.append("model.model_name_or_path=Qwen/Qwen3-0.6B")
    tiny.model(tmp_path / "model", seed=0, num_hidden_layers=2)
    assert said(tmp_path, *sets) == [expected]


@pytest.mark.parametrize(
    "change", ["all-linear", "[q_proj, down_proj]", "[layers.1.self_attn.q_proj]", "'.*_proj'", "[embed_tokens]"]
)
def test_what_peft_accepts_is_planned(model, tmp_path, change):
    """Names by their last parts, whole patterns, embeddings."""
    assert planning.plan(tmp_path, MODEL, f"peft.target_modules={change}").method == "lora"


@pytest.mark.parametrize("key", ["exclude_modules", "modules_to_save"])
def test_the_other_module_lists_are_checked_too(model, tmp_path, key):
    """peft ignores a name that is nowhere: the layer would silently be trained, or stay frozen."""
    (message,) = said(tmp_path, f"peft.{key}=[embed_token]")
    assert message.startswith(
        f"peft.{key}.0: `embed_token` is no module of this model\nhint: did you mean `embed_tokens`?"
    )
    for name in ("lm_head", "embed_tokens", "norm"):
        assert planning.plan(tmp_path, MODEL, f"peft.{key}=[{name}]")


def test_a_type_without_known_names_is_not_judged_without_weights(tmp_path):
    """A guess would refuse recipes that train."""
    text = planning.RECIPE.replace(
        "{model_name_or_path: Qwen/Qwen3-0.6B}", "{from_config: {model_type: bloom}, tokenizer_name_or_path: ./tok}"
    )
    (tmp_path / "tok").mkdir()
    assert planning.plan(tmp_path, "peft.target_modules=[query_key_value]", text=text)


def adapter(folder: Path, layers: dict[str, tuple[int, int]], *, r: int = 4, **config: object) -> Path:
    """A LoRA adapter of rank 4 for `layers`: name → (out, in)."""
    tensors = {}
    for name, (rows, columns) in layers.items():
        prefix = f"base_model.model.model.layers.0.{name}"
        tensors[f"{prefix}.lora_A.weight"] = np.zeros((4, columns), np.float32)
        tensors[f"{prefix}.lora_B.weight"] = np.zeros((rows, 4), np.float32)
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    made = {"peft_type": "LORA", "r": r, "target_modules": [name.rpartition(".")[2] for name in layers], **config}
    (folder / "adapter_config.json").write_text(json.dumps(made))
    return folder


QKV = {"self_attn.q_proj": (64, 64), "self_attn.v_proj": (32, 64)}
ADAPTER = ("peft=null", "model.adapter_name_or_path=./adapter")


def test_an_adapter_of_this_model_is_planned(model, tmp_path):
    adapter(tmp_path / "adapter", QKV, base_model_name_or_path="someone/Model")
    assert "adapter was made" not in warned(tmp_path, *ADAPTER)


def test_an_adapter_that_names_another_base_is_a_warning(model, tmp_path):
    """A base may have been renamed or moved."""
    adapter(tmp_path / "adapter", QKV, base_model_name_or_path="Qwen/Qwen3-8B")
    assert "model.adapter_name_or_path: the adapter was made for `Qwen/Qwen3-8B`, the model is `./model`" in warned(
        tmp_path, *ADAPTER
    )


@pytest.mark.parametrize(
    ("layers", "config", "says"),
    [
        (
            {"self_attn.q_proj": (128, 128), "self_attn.v_proj": (64, 128)},
            {},
            "it adapts a `model.layers.0.self_attn.q_proj` of 128×128, the model's is 64×64 (and 1 more)",
        ),
        ({"attention.query": (64, 64)}, {}, "it adapts `model.layers.0.attention.query`, which the model has not"),
        (
            QKV,
            {"r": 8},
            "adapter_config.json has r 8, the weights of `model.layers.0.self_attn.q_proj` have rank 4 (and 1 more)",
        ),
        (
            QKV,
            {"target_modules": ["q_proj", "v_proj", "k_proj"]},
            "adapter_config.json adapts `k_proj`, adapter_model.safetensors has no weights for it",
        ),
    ],
)
def test_an_adapter_fits_its_configuration_and_the_model(model, tmp_path, layers, config, says):
    """torch fills the screen with size mismatches; layers without weights start anew in silence."""
    adapter(tmp_path / "adapter", layers, base_model_name_or_path="me/base", **config)
    assert said(tmp_path, *ADAPTER) == [
        f"model.adapter_name_or_path: DIR/adapter: {says}\nhint: it was made for `me/base`"
    ]


def test_adapter_files_are_whole(model, tmp_path):
    """Both files are judged, in one round."""
    made = adapter(tmp_path / "adapter", QKV)
    os.truncate(made / "adapter_model.safetensors", 700)
    (made / "adapter_config.json").write_text("{")
    first, second = said(tmp_path, *ADAPTER)
    assert "DIR/adapter/adapter_config.json is not JSON: " in first
    assert "DIR/adapter/adapter_model.safetensors is cut off: 700 bytes of " in second
    (made / "adapter_config.json").unlink()
    (made / "adapter_model.safetensors").rename(made / "adapter_model.bin")
    first, second = said(tmp_path, *ADAPTER)
    assert "DIR/adapter holds no adapter_config.json" in first
    assert "DIR/adapter/adapter_model.bin is a pickle" in second


def test_rows_longer_than_the_model_are_refused(model, tmp_path):
    """512 positions were trained; 1024 would be read as noise, in silence."""
    assert planning.plan(tmp_path, MODEL, "data.max_length=512")
    assert said(tmp_path, "data.max_length=1024") == [
        "data.max_length: 1024, the model was made for 512 tokens\nhint: write at most 512"
    ]


def test_a_length_nobody_wrote_is_a_warning(model, tmp_path):
    """The default is longer than some models; the rows need not be."""
    assert "data.max_length is 4096, the model was made for 512 tokens: write at most 512" in warned(tmp_path)


@pytest.mark.parametrize("where", ["config", "init"])
def test_rope_scaling_allows_longer_rows(tmp_path, where):
    """By the configuration or by `model_init_kwargs`; the plan says so."""
    scaling = {"rope_type": "yarn", "factor": 2.0, "rope_theta": 1e6}
    tiny.model(tmp_path / "model", **({"rope_parameters": scaling} if where == "config" else {}))
    sets = ["data.max_length=1024"]
    if where == "init":
        sets.append(f"model.model_init_kwargs={json.dumps({'rope_parameters': scaling})}")
    assert "made for 512 tokens (rope scaling by 2)" in warned(tmp_path, *sets)


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{% for m in messages %}\n{{ m.content }\n{% endfor %}", "chat.jinja:2: unexpected '}'"),
        ("a\nb\n{% if true %}", "chat.jinja:3: Unexpected end of template."),
        ("\n{{ messages | nosuch }}", "chat.jinja:2: No filter named 'nosuch'."),
        ("{% generation %}x", "chat.jinja:1: Unexpected end of template."),
        ("{{" + "(" * 3000 + "1" + ")" * 3000 + "}}", "chat.jinja:1: nested too deeply"),
    ],
)
def test_a_broken_template_is_refused_with_its_line(model, tmp_path, template, says):
    """The library names neither file nor line, once the rows are read."""
    (tmp_path / "chat.jinja").write_text(template)
    (message,) = said(tmp_path, "model.chat_template_path=chat.jinja")
    assert message.startswith(f"model.chat_template_path: {says}")
    assert f"hint: correct line {says.split(':')[1]} of that file" in message


@pytest.mark.parametrize(
    "template",
    [
        tiny.CHATML,
        "{% for m in messages %}{% continue %}{% endfor %}{{ raise_exception('x') }}{{ strftime_now('%Y') }}",
        "{{ tools | tojson(indent=2) }}",
    ],
)
def test_what_transformers_adds_to_jinja_is_known(model, tmp_path, template):
    """Markers, loop controls, its functions."""
    (tmp_path / "chat.jinja").write_text(template)
    assert planning.plan(tmp_path, MODEL, "model.chat_template_path=chat.jinja").model.chat_template == template


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("peft: null\nquantization: {load_in_4bit: true}\n", "there is no adapter"),
        ("quantization: {load_in_4bit: true}\nexport: {push_to_hub: {repo: me/mine}}\n", "not supported yet"),
        ("quantization: {load_in_4bit: true, load_in_8bit: true}\n", "4 and 8 bits at once"),
        ("quantization: {load_in_4bit: true}\nsharding: {strategy: ddp, offload: params}\n", "sharding.offload"),
    ],
)
def test_what_4_bits_cannot_do_is_refused(model, tmp_path, capsys, change, says):
    """Full fine-tuning, uploading, both widths, moving what ddp keeps."""
    tiny.jsonl(tmp_path / "train.jsonl", tiny.words(4))
    text = planning.RECIPE.replace("peft: {r: 8}\n", "") if change.startswith("peft") else planning.RECIPE
    (tmp_path / "small.yaml").write_text(text + change)
    assert main(["plan", "small.yaml", "--set", MODEL]) == 2
    assert says in capsys.readouterr().err


def test_the_fingerprint_sees_a_byte(model):
    """The base that an adapter was trained on is not the base any more."""
    before = fingerprint(model)
    assert fingerprint(model) == before
    content = bytearray((model / "model.safetensors").read_bytes())
    content[len(content) // 2] ^= 1
    (model / "model.safetensors").write_bytes(content)
    changed = fingerprint(model)
    (model / "config.json").write_text((model / "config.json").read_text() + "\n")
    assert len({before, changed, fingerprint(model)}) == 3


def test_the_fingerprint_of_a_large_file_reads_its_ends(model, monkeypatch):
    """Both ends count, the middle does not: a model of 100 GB takes milliseconds."""
    monkeypatch.setattr(model_files, "_WHOLE_LIMIT", 1000)
    monkeypatch.setattr(model_files, "_PIECE", 1000)
    file = model / "model.safetensors"
    whole = file.read_bytes()
    header = 8 + struct.unpack("<Q", whole[:8])[0]
    prints = []
    for at in (len(whole) // 2, header + 999, len(whole) - 1000, header + 1000):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        prints.append(fingerprint(model))
    assert prints[0] == prints[3]
    assert len(set(prints)) == 3
