# ruff: noqa: FBT003
"""Names that other tools use for model, quantization, adapters and data."""

from launcher.recipe.dialect import AXOLOTL, FACTORY, OLD, TRL, UNSLOTH, Row

_MODEL_NAME = "model: {model_name_or_path: VALUE}"
_FLASH = {"true": "model: {attn_implementation: flash_attention_2}", "false": "model: {attn_implementation: auto}"}
_DTYPE = "model: {dtype: VALUE}"
_TRAIN_SET = "data: {datasets: [{label: train, path: VALUE}]}"
_EVAL_SET = "data: {eval_datasets: [{label: held_out, path: VALUE}]}"
_HELD_OUT = "data: {eval_datasets: [{label: held_out, from: all, fraction: VALUE}]}"
_PACKED = {"true": "data: {packing: true}", "false": "data: {packing: false}"}
_COMPLETION = {"true": "data: {loss_on: completion}", "false": "data: {loss_on: all}"}
_ON_PROMPT = {"true": "data: {loss_on: all}", "false": "data: {loss_on: auto}"}
_NESTED_QUANT = "quantization: {bnb_4bit_use_double_quant: VALUE}"
_MAX_LENGTH = "data: {max_length: VALUE}"
_CACHED = "remove it: prepared data is kept in the run directory and reused when nothing changed"
_TEMPLATE = "write `model.chat_template_path`, a .jinja file; left out, the tokenizer's own template is used"
_PLANNED = "remove it: the plan decides this from the hardware and prints its choice"
_CREDENTIAL = "set HF_TOKEN in the environment"

ROWS: dict[str, Row] = {
    # model
    "base_model": Row(AXOLOTL, "Qwen/Qwen3-0.6B", _MODEL_NAME),
    "model_name": Row(UNSLOTH, "Qwen/Qwen3-0.6B", _MODEL_NAME),
    "model_id": Row(f"{OLD} examples", "Qwen/Qwen3-0.6B", _MODEL_NAME),
    "pretrained_model_name_or_path": Row("transformers", "Qwen/Qwen3-0.6B", _MODEL_NAME),
    "model_path": Row("scripts", "Qwen/Qwen3-0.6B", _MODEL_NAME),
    "model_revision": Row(TRL, "main", "model: {revision: VALUE}"),
    "revision_of_model": Row(AXOLOTL, "main", "model: {revision: VALUE}"),
    "tokenizer_config": Row(AXOLOTL, "Qwen/Qwen3-0.6B", "model: {tokenizer_name_or_path: VALUE}"),
    "tokenizer_name": Row(f"{OLD} examples", "Qwen/Qwen3-0.6B", "model: {tokenizer_name_or_path: VALUE}"),
    "tokenizer_path": Row("scripts", "Qwen/Qwen3-0.6B", "model: {tokenizer_name_or_path: VALUE}"),
    "torch_dtype": Row(f"{OLD}, TRL", "bfloat16", _DTYPE),
    "model_dtype": Row("scripts", "bfloat16", _DTYPE),
    "compute_dtype": Row("scripts", "bfloat16", "quantization: {bnb_4bit_compute_dtype: VALUE}"),
    "use_flash_attention_2": Row(OLD, True, _FLASH),
    "use_flash_attn": Row("scripts", True, _FLASH),
    "flash_attention": Row(AXOLOTL, True, _FLASH),
    "flash_attn": Row(
        FACTORY,
        "fa2",
        {
            "fa2": "model: {attn_implementation: flash_attention_2}",
            "fa3": "model: {attn_implementation: flash_attention_3}",
            "sdpa": "model: {attn_implementation: sdpa}",
            "disabled": "model: {attn_implementation: eager}",
            "auto": "model: {attn_implementation: auto}",
        },
    ),
    "sdp_attention": Row(AXOLOTL, True, {"true": "model: {attn_implementation: sdpa}"}),
    "eager_attention": Row(AXOLOTL, True, {"true": "model: {attn_implementation: eager}"}),
    "flex_attention": Row(AXOLOTL, True, {"true": "model: {attn_implementation: flex_attention}"}),
    "xformers_attention": Row(AXOLOTL, True, {"true": "model: {attn_implementation: sdpa}"}),
    "bf16": Row(
        f"transformers, {AXOLOTL}",
        False,
        {"false": "model: {dtype: float32}"},
        note="remove it: the plan uses bf16 autocast where the hardware has it; `model.dtype` is the type of the weights",
    ),
    "fp16": Row(f"transformers, {AXOLOTL}", True, note="remove it: the plan chooses the precision from the hardware"),
    "pure_bf16": Row(FACTORY, True, {"true": "model: {dtype: bfloat16}"}),
    "float16": Row(AXOLOTL, True, {"true": "model: {dtype: float16}"}),
    "bfloat16": Row(AXOLOTL, True, {"true": "model: {dtype: bfloat16}"}),
    "chat_template": Row(f"{AXOLOTL}, {UNSLOTH}", "chatml", note=_TEMPLATE),
    "chat_template_jinja": Row(AXOLOTL, "template.jinja", note=_TEMPLATE),
    "template": Row(FACTORY, "qwen", note=_TEMPLATE),
    "tokens": Row(AXOLOTL, ["<a>", "<b>"], "model: {add_tokens: VALUE}"),
    "new_special_tokens": Row(FACTORY, ["<a>", "<b>"], "model: {add_tokens: VALUE}"),
    "add_special_tokens": Row(FACTORY, ["<a>", "<b>"], "model: {add_tokens: VALUE}"),
    "special_tokens": Row(AXOLOTL, {"pad_token": "<pad>"}, note="remove it: the tokenizer's own are used"),
    "resize_vocab": Row(FACTORY, True, note="remove it: the embeddings grow by the rows that `model.add_tokens` needs"),
    "model_type": Row(AXOLOTL, "AutoModelForCausalLM", note="remove it: the model's own configuration says it"),
    "tokenizer_type": Row(AXOLOTL, "AutoTokenizer", note="remove it: the tokenizer's own configuration says it"),
    "device_map": Row("transformers", "auto", note=_PLANNED),
    "low_cpu_mem_usage": Row(OLD, True, note=_PLANNED),
    "use_cache": Row("transformers", False, note="remove it: attention caches are off while training"),
    "use_auth_token": Row(OLD, True, note=_CREDENTIAL),
    "hf_token": Row("scripts", "x", note=_CREDENTIAL),
    "hf_hub_token": Row(FACTORY, "x", note=_CREDENTIAL),
    "cache_dir": Row("transformers", "cache", note="set HF_HOME in the environment"),
    # quantization and adapters
    "adapter": Row(AXOLOTL, "qlora", {"lora": "peft: {}", "qlora": "quantization: {load_in_4bit: true}, peft: {}"}),
    "finetuning_type": Row(
        FACTORY, "lora", {"lora": "peft: {}"}, note="remove it: without `peft` all weights are trained"
    ),
    "full_finetuning": Row(
        UNSLOTH, False, {"false": "peft: {}"}, note="remove it: without `peft` all weights are trained"
    ),
    "use_peft": Row(TRL, True, {"true": "peft: {}"}, note="remove it: without `peft` all weights are trained"),
    "use_lora": Row("scripts", True, {"true": "peft: {}"}, note="remove it: without `peft` all weights are trained"),
    "use_qlora": Row("scripts", True, {"true": "quantization: {load_in_4bit: true}, peft: {}"}),
    "quantization_bit": Row(
        FACTORY,
        4,
        {
            "4": "quantization: {load_in_4bit: true}, peft: {}",
            "8": "quantization: {load_in_8bit: true}, peft: {}",
        },
    ),
    "quantization_type": Row(FACTORY, "nf4", "quantization: {bnb_4bit_quant_type: VALUE}"),
    "quantization_method": Row(FACTORY, "bnb", note="remove it: `quantization:` is bitsandbytes"),
    "double_quantization": Row(FACTORY, True, _NESTED_QUANT),
    "use_bnb_nested_quant": Row(TRL, True, _NESTED_QUANT),
    "use_nested_quant": Row("scripts", True, _NESTED_QUANT),
    "bnb_4bit_use_nested_quant": Row("scripts", True, _NESTED_QUANT),
    "lora_r": Row(f"{AXOLOTL}, {TRL}", 16, "peft: {r: VALUE}"),
    "lora_rank": Row(FACTORY, 16, "peft: {r: VALUE}"),
    "rank": Row("scripts", 16, "peft: {r: VALUE}"),
    "alpha": Row("scripts", 32, "peft: {lora_alpha: VALUE}"),
    "lora_target": Row(
        FACTORY, "all", {"all": "peft: {target_modules: all-linear}", "*": "peft: {target_modules: VALUE}"}
    ),
    "lora_target_modules": Row(f"{AXOLOTL}, {TRL}", ["q_proj", "v_proj"], "peft: {target_modules: VALUE}"),
    "lora_target_linear": Row(AXOLOTL, True, {"true": "peft: {target_modules: all-linear}"}),
    "lora_modules_to_save": Row(f"{AXOLOTL}, {TRL}", ["lm_head"], "peft: {modules_to_save: VALUE}"),
    "additional_target": Row(FACTORY, ["lm_head"], "peft: {modules_to_save: VALUE}"),
    "lora_task_type": Row(TRL, "CAUSAL_LM", note="remove it: `task` says what is trained"),
    "task_type": Row("peft", "CAUSAL_LM", note="remove it: `task` says what is trained"),
    "peft_type": Row("peft", "LORA", note="remove it: `peft:` is LoRA"),
    "peft_use_rslora": Row(AXOLOTL, True, "peft: {use_rslora: VALUE}"),
    "peft_use_dora": Row(AXOLOTL, True, "peft: {use_dora: VALUE}"),
    "peft_init_lora_weights": Row(AXOLOTL, True, "peft: {init_lora_weights: VALUE}"),
    "pissa_init": Row(FACTORY, True, {"true": "peft: {init_lora_weights: pissa}"}),
    "lora_model_dir": Row(AXOLOTL, "adapter", "model: {adapter_name_or_path: VALUE}"),
    "resume_adapter": Row("scripts", "adapter", "model: {adapter_name_or_path: VALUE}"),
    # data
    "dataset": Row(FACTORY, "data/train.jsonl", _TRAIN_SET),
    "dataset_name": Row(TRL, "trl-lib/Capybara", _TRAIN_SET),
    "dataset_path": Row("scripts", "data/train.jsonl", _TRAIN_SET),
    "train_file": Row(f"{OLD} examples", "data/train.jsonl", _TRAIN_SET),
    "train_data": Row("scripts", "data/train.jsonl", _TRAIN_SET),
    "train_dataset": Row("scripts", "data/train.jsonl", _TRAIN_SET),
    "data_path": Row("scripts", "data/train.jsonl", _TRAIN_SET),
    "eval_dataset": Row(FACTORY, "data/eval.jsonl", _EVAL_SET),
    "validation_file": Row(f"{OLD} examples", "data/eval.jsonl", _EVAL_SET),
    "eval_file": Row("scripts", "data/eval.jsonl", _EVAL_SET),
    "val_data": Row("scripts", "data/eval.jsonl", _EVAL_SET),
    "test_datasets": Row(AXOLOTL, [{"path": "x"}], note="write `data.eval_datasets`, each with a `label`"),
    "val_set_size": Row(AXOLOTL, 0.05, _HELD_OUT),
    "val_size": Row(FACTORY, 0.05, _HELD_OUT),
    "test_size": Row("datasets", 0.05, _HELD_OUT),
    "test_split_size": Row(TRL, 0.05, _HELD_OUT),
    "validation_split_percentage": Row(
        f"{OLD} examples", 5, note="write `eval_datasets: [{label: held_out, from: all, fraction: 0.05}]` in `data`"
    ),
    "dataset_config": Row(TRL, "main", item="name: VALUE"),
    "dataset_config_name": Row(f"{OLD} examples", "main", item="name: VALUE"),
    "dataset_train_split": Row(TRL, "train", item="split: VALUE"),
    "dataset_test_split": Row(TRL, "test", note="write `data.eval_datasets: [{label: test, path: …, split: test}]`"),
    "dataset_streaming": Row(TRL, True, note="remove it: `prepare` reads the data once, before training"),
    "streaming": Row(FACTORY, True, note="remove it: `prepare` reads the data once, before training"),
    "dataset_text_field": Row(f"{TRL}, {UNSLOTH}", "content", item="columns: {text: VALUE}"),
    "text_column": Row("scripts", "content", item="columns: {text: VALUE}"),
    "prompt_column": Row("scripts", "question", item="columns: {prompt: VALUE}"),
    "max_samples": Row(FACTORY, 1000, item="max_rows: VALUE"),
    "max_train_samples": Row(f"{OLD} examples", 1000, item="max_rows: VALUE"),
    "dataset_dir": Row(FACTORY, "data", note="write the whole path in `path`, relative to the recipe"),
    "dataset_prepared_path": Row(AXOLOTL, "prepared", note=_CACHED),
    "tokenized_path": Row(FACTORY, "prepared", note=_CACHED),
    "overwrite_cache": Row(FACTORY, True, note=_CACHED),
    "preprocessing_num_workers": Row(FACTORY, 8, note="remove it: `prepare` uses the cores it finds"),
    "dataset_processes": Row(AXOLOTL, 8, note="remove it: `prepare` uses the cores it finds"),
    "dataset_num_proc": Row(TRL, 8, note="remove it: `prepare` uses the cores it finds"),
    "sequence_len": Row(AXOLOTL, 2048, _MAX_LENGTH),
    "cutoff_len": Row(FACTORY, 2048, _MAX_LENGTH),
    "max_seq_length": Row(f"{UNSLOTH}, older TRL", 2048, _MAX_LENGTH),
    "max_seq_len": Row("torchtune", 2048, _MAX_LENGTH),
    "model_max_length": Row("scripts", 2048, _MAX_LENGTH),
    "block_size": Row(f"{OLD} examples", 2048, _MAX_LENGTH),
    "context_length": Row("scripts", 2048, _MAX_LENGTH),
    "sample_packing": Row(AXOLOTL, True, _PACKED),
    "neat_packing": Row(FACTORY, True, _PACKED),
    "padding_free": Row(TRL, True, _PACKED),
    "eval_sample_packing": Row(AXOLOTL, False, note="remove it: eval sets are not packed"),
    "eval_packing": Row(TRL, False, note="remove it: eval sets are not packed"),
    "pad_to_sequence_len": Row(AXOLOTL, True, note="remove it: packed rows are full, others are padded per batch"),
    "pad_to_max_length": Row(f"{OLD} examples", True, note="remove it: rows are padded per batch"),
    "train_on_inputs": Row(AXOLOTL, False, _ON_PROMPT),
    "train_on_prompt": Row(FACTORY, False, _ON_PROMPT),
    "train_on_responses_only": Row(UNSLOTH, True, {"true": "data: {loss_on: assistant}"}),
    "completion_only_loss": Row(TRL, True, _COMPLETION),
    "assistant_only_loss": Row(TRL, True, {"true": "data: {loss_on: assistant}", "false": "data: {loss_on: all}"}),
    "shuffle_merged_datasets": Row(AXOLOTL, True, note="remove it: rows are shuffled each epoch by `training.seed`"),
    "shuffle_dataset": Row(TRL, True, note="remove it: rows are shuffled each epoch by `training.seed`"),
    "interleave_probs": Row(FACTORY, "0.7,0.3", note="write `weight` in each item of `data.datasets`"),
    "mix_strategy": Row(
        FACTORY,
        "interleave_over",
        {
            "interleave_over": "data: {mixture: {stopping_strategy: all_exhausted}}",
            "interleave_under": "data: {mixture: {stopping_strategy: first_exhausted}}",
        },
        note="remove it: without weights every row of every source is used",
    ),
    "data_seed": Row(
        "transformers", 42, note="write `training.seed` for row order, `data.mixture.seed` for mixture and splits"
    ),
    "enable_thinking": Row(FACTORY, False, "data: {template_kwargs: {enable_thinking: VALUE}}"),
}
