"""Small real things for tests: a tokenizer, models of a few kilobytes, data with checkable answers, plans, run directories.

Everything is written as files, without torch, so that any test may use it; the same seed gives the same bytes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from launcher.plan.types import (
    SCHEMA,
    Batch,
    CheckpointPlan,
    DataPlan,
    Estimate,
    EvaluationPlan,
    GeneratePlan,
    Method,
    MixturePlan,
    ModelPlan,
    Plan,
    SourcePlan,
    TrackingPlan,
)
from launcher.runs.paths import RunDir

CHATML = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message['role'] + '\\n' }}"
    "{%- if message['role'] == 'assistant' %}"
    "{% generation %}{{- message['content'] + '<|im_end|>' }}{% endgeneration %}{{- '\\n' }}"
    "{%- else %}{{- message['content'] + '<|im_end|>\\n' }}{%- endif %}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
CHATML_WITHOUT_MARKERS = CHATML.replace("{% generation %}", "").replace("{% endgeneration %}", "")
VOCABULARY = 384
CONFIG: dict[str, Any] = {
    "model_type": "qwen3",
    "architectures": ["Qwen3ForCausalLM"],
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}
TEXT = (
    "The quick brown fox adds numbers. What is the sum of two and three? The answer is five. "
    "user assistant system question answer plus minus times equals because therefore calculate number "
    "How many apples are left when she gives away half of them? She has twelve left in total. "
)


def words(number: int, *, seed: int = 0) -> list[dict[str, str]]:
    """Rows `{question, answer}` of small sums, the same for the same seed; answers are right and can be checked."""
    rows = []
    for i in range(number):
        a, b = (i * 7 + seed * 13 + 3) % 50, (i * 11 + seed * 5 + 1) % 50
        rows.append({"question": f"What is {a} plus {b}?", "answer": f"{a} + {b} = {a + b}"})
    return rows


def messages(number: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """The rows of `words` as conversations."""
    return [
        {"messages": [{"role": "user", "content": r["question"]}, {"role": "assistant", "content": r["answer"]}]}
        for r in words(number, seed=seed)
    ]


def jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write rows, one JSON object per line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def tokenizer(
    folder: Path, *, chat_template: str | None = CHATML, vocabulary: int = VOCABULARY, texts: Iterable[str] = ()
) -> Path:
    """A byte-level BPE tokenizer, trained on our own text and `texts`: `<|im_end|>` ends a text, `<|endoftext|>` pads."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    fast = Tokenizer(models.BPE())
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    samples = [row["question"] + " " + row["answer"] for row in words(200)]
    fast.train_from_iterator([TEXT, *samples, *texts], trainer)
    folder.mkdir(parents=True, exist_ok=True)
    fast.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "model_max_length": 512,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1))
    if chat_template is not None:
        (folder / "chat_template.jinja").write_text(chat_template)
    return folder


def add_bos(folder: Path) -> None:
    """Have the tokenizer in `folder` begin each text with `<|endoftext|>`, as Llama's does with its own token."""
    from tokenizers import Tokenizer, processors

    fast = Tokenizer.from_file(str(folder / "tokenizer.json"))
    fast.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", fast.token_to_id("<|endoftext|>"))]
    )
    fast.save(str(folder / "tokenizer.json"))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "bos_token": "<|endoftext|>"}))


def model(folder: Path, *, seed: int = 0, with_tokenizer: bool = True, **changes: Any) -> Path:
    """A Qwen3 model with random weights (about 0.4 MB), its tokenizer beside it; `changes` go into its config."""
    import numpy as np
    from safetensors.numpy import save_file

    config = {**CONFIG, "dtype": "float32", "eos_token_id": 2, "pad_token_id": 0, **changes}
    random = np.random.default_rng(seed)
    weights = {
        name: np.ones(shape, np.float32) if len(shape) == 1 else random.normal(0, 0.02, shape).astype(np.float32)
        for name, shape in _shapes(config)
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    return tokenizer(folder) if with_tokenizer else folder


def _shapes(config: Mapping[str, Any]) -> list[tuple[str, tuple[int, ...]]]:
    hidden, wide, head = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    query, key = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    shapes: list[tuple[str, tuple[int, ...]]] = [
        ("model.embed_tokens.weight", (config["vocab_size"], hidden)),
        ("model.norm.weight", (hidden,)),
    ]
    for layer in range(config["num_hidden_layers"]):
        parts: dict[str, tuple[int, ...]] = {
            "self_attn.q_proj": (query, hidden),
            "self_attn.k_proj": (key, hidden),
            "self_attn.v_proj": (key, hidden),
            "self_attn.o_proj": (hidden, query),
            "self_attn.q_norm": (head,),
            "self_attn.k_norm": (head,),
            "mlp.gate_proj": (wide, hidden),
            "mlp.up_proj": (wide, hidden),
            "mlp.down_proj": (hidden, wide),
            "input_layernorm": (hidden,),
            "post_attention_layernorm": (hidden,),
        }
        shapes += [(f"model.layers.{layer}.{name}.weight", shape) for name, shape in parts.items()]
    if not config["tie_word_embeddings"]:
        shapes.append(("lm_head.weight", (config["vocab_size"], hidden)))
    return shapes


LORA: dict[str, Any] = {
    "r": 4,
    "lora_alpha": 8.0,
    "lora_dropout": 0.0,
    "target_modules": "all-linear",
    "task_type": "CAUSAL_LM",
}
INT8: dict[str, Any] = {"load_in_8bit": True}
NF4: dict[str, Any] = {
    "load_in_4bit": True,
    "bnb_4bit_quant_type": "nf4",
    "bnb_4bit_use_double_quant": True,
    "bnb_4bit_compute_dtype": "float32",
    "bnb_4bit_quant_storage": "uint8",
}


def held_out(label: str, fraction: float, **more: Any) -> tuple[SourcePlan, ...]:
    """An eval set that is held out from all sources."""
    return (SourcePlan(label, None, held_out_from="all", fraction=fraction, **more),)


def plan(
    *,
    peft: dict[str, Any] | None = None,
    quantization: dict[str, Any] | None = None,
    eval_sources: tuple[SourcePlan, ...] = (),
    generate: tuple[GeneratePlan, ...] = (),
    global_size: int = 4,
    per_device: int | None = None,
    world_size: int = 1,
    epochs: float = 2.0,
    max_steps: int = -1,
    save_steps: int = 1000,
    keep: int = 3,
    source: SourcePlan | None = None,
    model_plan: dict[str, Any] | None = None,
    data: dict[str, Any] | None = None,
    trainer: dict[str, Any] | None = None,
    eval_steps: int | None = None,
    generate_steps: int | None = None,
    report_to: tuple[str, ...] = (),
) -> Plan:
    """A plan made by hand: one CPU process, SFT on the source `train`, fp32, a step logged each time."""
    from launcher.plan.presets import Preset
    from launcher.plan.sharding import Sharding
    from launcher.plan.trainer_args import trainer_args

    per_device = per_device or global_size // world_size
    batch = Batch(global_size, per_device, global_size // (per_device * world_size), world_size)
    checkpoint = CheckpointPlan(save_steps, keep, None)
    chosen = dict(data or {})
    sources = chosen.pop("sources", (source or SourcePlan("train", "train.jsonl"),))
    mixture = chosen.pop("mixture", {})
    data_plan = DataPlan(
        sources=sources,
        eval_sources=eval_sources,
        **{
            "max_length": 64,
            "packing": False,
            "packing_strategy": "bfd",
            "loss_on": "auto",
            "on_bad_row": "stop",
            "max_bad_fraction": 0.01,
            "mixture": MixturePlan(**mixture),
            **chosen,
        },
    )
    evaluation = EvaluationPlan(eval_steps, 8, generate, generate_steps)
    training = {
        "learning_rate": 1e-2 if peft else 1e-3,
        "num_train_epochs": epochs,
        "max_steps": max_steps,
        "seed": 42,
        "logging_steps": 1,
        "optim": "adamw_torch",
        **(trainer or {}),
    }
    return Plan(
        schema=SCHEMA,
        launcher_version="0.1.0",
        name="tiny",
        task="sft",
        method=_method(peft, quantization),
        device="cpu",
        hardware="cpu",
        model=ModelPlan(
            **{
                "name": "tiny",
                "revision": "main",
                "tokenizer": None,
                "adapter": None,
                "dtype": "float32",
                "attn_implementation": "sdpa",
                "trust_remote_code": False,
                "chat_template": None,
                **(model_plan or {}),
            }
        ),
        quantization=quantization,
        peft=peft,
        data=data_plan,
        batch=batch,
        estimate=Estimate(None, None, None, exact=False),
        trainer=trainer_args(
            training,
            device="cpu",
            precision="float32",
            batch=batch,
            data=data_plan,
            checkpoint=checkpoint,
            evaluation=evaluation,
            sharding=Sharding(Preset("ddp"), "none", None, world_size, "cpu", checkpointing=False, loads_once=False),
        ),
        strategy="ddp",
        checkpoint=checkpoint,
        evaluation=evaluation,
        tracking=TrackingPlan(report_to, "launcher", None, ()),
        jobs=(),
        decisions=(),
        warnings=(),
        recipe={},
        identity={},
    )


def _method(peft: dict[str, Any] | None, quantization: dict[str, Any] | None) -> Method:
    if peft is None:
        return "full"
    return "lora" if quantization is None else "int8" if quantization.get("load_in_8bit") else "qlora"


def run_dir(root: Path, made: Plan, placement: Mapping[str, str | list[str]]) -> RunDir:
    """A run directory as `launcher run` would make it, before its first stage."""
    from launcher.plan import codec

    run = RunDir(root)
    root.mkdir(parents=True, exist_ok=True)
    run.plan.write_text(codec.dumps(made), encoding="utf-8")
    run.placement.write_text(json.dumps(dict(placement), indent=1))
    run.record.write_text(
        json.dumps({"id": f"{root.name}-0001", "name": root.name, "created": time.time(), "identity": {}})
    )
    return run


def changed(made: Plan, **fields: Any) -> Plan:
    """A copy of a plan with other top-level fields."""
    return replace(made, **fields)
