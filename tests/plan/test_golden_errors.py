"""What a person sees when a recipe cannot be planned: exit code, `file:line`, value and hint, byte for byte."""

import pytest

from launcher.cli.main import main
from tests.support import golden, planning, tiny

# Name → lines that are added to or replace those of planning.RECIPE, `--set`s, and further arguments.
CASES: dict[str, tuple[str, tuple[str, ...]]] = {
    "sharding-fsdp2-on-cpu": (planning.RECIPE + "sharding: {strategy: fsdp2}\n", ()),
    "sharding-ddp-offload": (planning.RECIPE + "sharding: {strategy: ddp, offload: params}\n", ()),
    "sharding-fsdp2-moves-all": (
        planning.RECIPE + "sharding: {strategy: fsdp2, offload: optimizer}\n",
        ("--on", "H100x8"),
    ),
    "sharding-zero2-params": (planning.RECIPE + "sharding: {strategy: zero2, offload: params}\n", ("--on", "H100x8")),
    "sharding-fsdp2-int8": (
        planning.RECIPE + "quantization: {load_in_8bit: true}\nsharding: {strategy: fsdp2}\n",
        ("--on", "H100x8"),
    ),
    "sharding-zero3-uint8": (
        planning.RECIPE
        + "quantization: {load_in_4bit: true, bnb_4bit_quant_storage: uint8}\nsharding: {strategy: zero3}\n",
        ("--on", "H100x8"),
    ),
    "sharding-groups-do-not-divide": (
        planning.RECIPE + "sharding: {strategy: fsdp2, dp_shard_size: 3}\n",
        ("--on", "H100x8"),
    ),
    "sharding-groups-of-zero": (
        planning.RECIPE + "sharding: {strategy: zero3, dp_shard_size: 4}\n",
        ("--on", "H100x8"),
    ),
    "sharding-preset-is-missing": (planning.RECIPE + "sharding: {preset: mine.yaml}\n", ()),
    "b17-device-map": (
        planning.RECIPE.replace("Qwen3-0.6B}", "Qwen3-0.6B, model_init_kwargs: {device_map: auto}}"),
        (),
    ),
    "b17-flash-attention-on-cpu": (
        planning.RECIPE.replace("Qwen3-0.6B}", "Qwen3-0.6B, attn_implementation: flash_attention_2}"),
        (),
    ),
    "b18-batch-does-not-divide": (planning.RECIPE.replace("16}", "16, per_device_train_batch_size: 3}"), ()),
    "b18-batch-does-not-divide-by-ranks": (planning.RECIPE.replace("16}", "20}"), ("--on", "H100x8")),
    "b18-three-sizes-disagree": (
        planning.RECIPE.replace("16}", "16, per_device_train_batch_size: 4, gradient_accumulation_steps: 8}"),
        (),
    ),
    "b19-save-interval-past-the-end": (
        planning.RECIPE.replace("16}", "16, max_steps: 50}") + "checkpoint: {save_steps: 100}\n",
        (),
    ),
    "b25-more-gpus-than-present": (planning.RECIPE + "launch: {gpus: 8}\n", ("--on", "RTX4090x2")),
    "keys-without-behaviour": (
        planning.RECIPE
        + "sweep: {metric: eval_x_loss, space: {peft.r: [4]}}\nexport: {push_to_hub: {repo: me/mine}}\n",
        (),
    ),
    "merge-without-an-adapter": (
        planning.RECIPE.replace("peft: {r: 8}\n", "") + "export: {merge: true}\n",
        (),
    ),
    "merge-into-another-base": (planning.RECIPE + "export: {merge: true, merge_base: quantized}\n", ()),
    "data-file-missing": (planning.RECIPE.replace("train.jsonl", "trian.jsonl"), ()),
    "data-columns-unknown": (planning.RECIPE.replace(", columns: {prompt: question, completion: answer}", ""), ()),
    "data-and-template-missing": (
        planning.RECIPE.replace("train.jsonl", "data/x.csv").replace(
            "Qwen3-0.6B}", "Qwen3-0.6B, chat_template_path: chat.jinja}"
        ),
        (),
    ),
    "gpu-unknown": (planning.RECIPE, ("--on", "RTX4091x2")),
    "model-not-on-this-machine": (planning.RECIPE.replace("Qwen/Qwen3-0.6B", "me/unknown"), ()),
}


@pytest.mark.parametrize("case", CASES)
def test_the_message_is_as_reviewed(case, tmp_path, capsys, monkeypatch):
    """Exit code 2, or 4 where this machine lacks something; nothing on standard output."""
    text, arguments = CASES[case]
    monkeypatch.setenv("HF_HUB_CACHE", "/nowhere")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    tiny.jsonl(tmp_path / "train.jsonl", tiny.words(4))
    (tmp_path / "small.yaml").write_text(text, encoding="utf-8")

    code = main(["plan", "small.yaml", *arguments])

    seen = capsys.readouterr()
    assert seen.out == ""
    assert "hint:" in seen.err
    golden.check(f"plan_errors/{case}.txt", f"{seen.err.replace(str(tmp_path), 'DIR')}exit {code}\n")
