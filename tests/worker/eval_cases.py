"""What the forked ranks of `test_evaluate.py` and `test_tracking.py` run: real trainers on prepared rows written by hand."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from launcher.plan.types import GeneratePlan, Plan, SourcePlan
from launcher.runs import events
from launcher.runs.paths import RunDir
from tests.support import tiny

METRICS = ("exact_match", "numeric_match")
SAMPLING = {"do_sample": True, "temperature": 0.6, "top_p": 0.9, "repetition_penalty": 3.0, "max_length": 5}


def made_plan(*, method: str = "full", sets: tuple[str, ...] = ("sums",), ranks: int = 1, **fields: Any) -> Plan:
    """Six steps of four rows; evaluation every two steps, generation every four."""
    peft = None if method == "full" else {**tiny.LORA, "lora_dropout": 0.2}
    generate = tuple(GeneratePlan(label, METRICS, 6, None, 3) for label in sets)
    return tiny.plan(
        peft=peft,
        quantization=tiny.NF4 if method == "qlora" else None,
        eval_sources=tuple(SourcePlan(label, f"{label}.jsonl") for label in sets),
        generate=generate,
        world_size=ranks,
        **{"max_steps": 6, "eval_steps": 2, "generate_steps": 4, **fields},
    )


def rows(tokenizer: Any, number: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """Sums as token ids: prompt, answer, labels on the answer."""
    made = []
    for row in tiny.words(number, seed=seed):
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": row["question"]}], tokenize=True, return_dict=False, add_generation_prompt=True
        )
        answer = tokenizer(row["answer"])["input_ids"] + [tokenizer.eos_token_id]
        made.append(
            {
                "input_ids": prompt + answer,
                "labels": [-100] * len(prompt) + answer,
                "prompt": row["question"],
                "prompt_ids": prompt,
                "reference": row["answer"],
            }
        )
    return made


def prepare(root: Path, plan: Plan, *, eval_rows: int = 7, broken: str | None = None) -> RunDir:
    """A run directory with model, tokenizer and prepared sets. The set `broken` holds a token that does not exist."""
    from datasets import Dataset
    from transformers import AutoTokenizer

    tiny.model(root / "model-in", attention_dropout=0.2)
    run = tiny.run_dir(root / "run", plan, {})
    tokenizer = AutoTokenizer.from_pretrained(root / "model-in")
    columns = ("input_ids", "labels")
    train = rows(tokenizer, 24)
    packed = [{**{c: row[c] for c in columns}, "seq_lengths": [len(row["input_ids"])]} for row in train]
    Dataset.from_list(packed).save_to_disk(run.prepared("train"))
    for seed, source in enumerate(plan.data.eval_sources, 1):
        made = rows(tokenizer, eval_rows, seed=seed)
        Dataset.from_list([{c: row[c] for c in columns} for row in made]).save_to_disk(
            run.prepared(f"eval-{source.label}")
        )
        if source.label == broken:
            made[0]["prompt_ids"] = [10**6]
        keys = ("prompt", "prompt_ids", "reference")
        tiny.jsonl(run.data / f"generate-{source.label}.jsonl", ({k: row[k] for k in keys} for row in made))
    return run


def trainer_for(root: str, plan: Plan, output: str) -> tuple[Any, Any]:
    """The trainer of a plan on CPU, and its tokenizer."""
    import torch
    from datasets import load_from_disk
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
    from trl import SFTConfig, SFTTrainer

    folder = Path(root)
    tokenizer = AutoTokenizer.from_pretrained(folder / "model-in")
    quantization = BitsAndBytesConfig(**plan.quantization) if plan.quantization else None
    torch.manual_seed(7)
    model = AutoModelForCausalLM.from_pretrained(folder / "model-in", quantization_config=quantization)
    data = load_from_disk(str(folder / "run" / "data" / "train"))
    args = SFTConfig(output_dir=str(folder / output), **{**plan.trainer, "save_strategy": "no"})
    peft = LoraConfig(**plan.peft) if plan.peft else None
    columns = data if plan.data.packing else data.remove_columns("seq_lengths")
    trainer = SFTTrainer(model, args, train_dataset=columns, processing_class=tokenizer, peft_config=peft)
    return trainer, tokenizer


def boundary(plan: Plan, run: RunDir, trainer: Any) -> Any:
    """What lets ranks abandon a measurement; here nobody asks them to."""
    from launcher.worker.boundary import Boundary
    from launcher.worker.finite import Finite
    from launcher.worker.job import Job
    from launcher.worker.stop import StopRequest

    job = Job(run, plan, {})
    return Boundary(job, StopRequest(), Finite(job, trainer))


def train(root: str, fields: dict[str, Any], evals: bool = True) -> dict[str, Any]:
    """Train; what was logged with all its digits, the weights' digest and the settings that the model is left with."""
    from launcher.worker import evaluate

    plan = made_plan(**fields)
    trainer, tokenizer = trainer_for(root, plan, f"out-{evals}")
    if evals:
        run = RunDir(Path(root) / "run")
        for callback in evaluate.callbacks(plan, run, trainer, tokenizer, boundary(plan, run, trainer)):
            trainer.add_callback(callback)
    trainer.train()
    history = trainer.state.log_history
    return {
        "losses": [row["loss"] for row in history if "loss" in row],
        "norms": [row["grad_norm"] for row in history if "loss" in row],
        "accuracies": [row["mean_token_accuracy"] for row in history if "loss" in row],
        "evals": [row for row in history if "eval_sums_loss" in row],
        "weights": _digest(trainer.model),
        "settings": _settings(trainer, tokenizer),
        "world_size": trainer.args.world_size,
    }


def tracked(
    root: str,
    fields: dict[str, Any],
    *,
    also: tuple[str, ...] = (),
    most_waiting: int = 1000,
    seconds_to_finish: float = 30.0,
) -> dict[str, Any]:
    """Train with evaluation and trackers in the order of the task; `also` names integrations of this file to add."""
    import time

    from launcher.worker import evaluate, tracking

    tracking.MOST_WAITING, tracking.SECONDS_TO_FINISH = most_waiting, seconds_to_finish
    plan = made_plan(**fields)
    run = RunDir(Path(root) / "run")
    trainer, tokenizer = trainer_for(root, plan, "out")
    between = boundary(plan, run, trainer)
    callbacks = [*evaluate.callbacks(plan, run, trainer, tokenizer, between), *tracking.callbacks(plan, run)]
    if also:
        callbacks.append(
            tracking.Tracking(tracking.tracked(plan, run), run, {name: _misbehaving(name) for name in also})
        )
    for callback in callbacks:
        trainer.add_callback(callback)
    started = time.monotonic()
    trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return {"losses": losses, "seconds": time.monotonic() - started, "weights": _digest(trainer.model)}


def _misbehaving(name: str) -> Any:
    """An integration that fails or hangs where its name says."""
    import contextlib
    import threading

    from transformers import TrainerCallback

    class Misbehaving(TrainerCallback):
        def _act(self, where: str) -> None:
            if name == f"raises at {where}":
                raise SystemExit("no server")
            if name == f"hangs at {where}":
                threading.Event().wait()

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self._act("begin")

        def on_log(self, *_: Any, **__: Any) -> None:
            self._act("log")

        def on_train_end(self, *_: Any, **__: Any) -> None:
            self._act("end")

    @contextlib.contextmanager
    def opened(run: Any, state: Any) -> Any:
        yield Misbehaving(), run.config

    return opened


def on_and_off(root: str, fields: dict[str, Any]) -> dict[str, Any]:
    """The same training with and without evaluation."""
    return {"on": train(root, fields), "off": train(root, fields, evals=False)}


def drawn_within_undisturbed() -> list[str]:
    """States of all generators and modes of a half-frozen model, before and after a block that fails."""
    import contextlib
    import random

    import numpy as np
    import torch

    from launcher.worker.random_state import undisturbed

    model = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Dropout()).train()
    model[1].eval()

    def state() -> str:
        return repr(
            [
                random.getstate(),
                np.random.get_state(),
                torch.get_rng_state().tolist(),
                [m.training for m in model.modules()],
            ]
        )

    before = state()
    with contextlib.suppress(ZeroDivisionError), undisturbed(model):
        assert not any(module.training for module in model.modules())
        random.random(), np.random.rand(), torch.rand(1)
        raise ZeroDivisionError
    return [before, state()]


def train_with_other_dropout(root: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Two trainings that differ in nothing but the random state at their start."""
    import torch

    plan = made_plan(**fields)
    losses = []
    for seed in (1, 2):
        trainer, _ = trainer_for(root, plan, f"out-{seed}")
        torch.manual_seed(seed)
        trainer.train()
        losses.append([row["loss"] for row in trainer.state.log_history if "loss" in row])
    return {"losses": losses[0], "other_losses": losses[1]}


def stopped(root: str, fields: dict[str, Any]) -> None:
    """Train, and ask for a stop after the third step."""
    from transformers import TrainerCallback

    from launcher.worker import evaluate

    class Stop(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_training_stop = state.global_step == 3

    plan = made_plan(**fields)
    trainer, tokenizer = trainer_for(root, plan, "out")
    run = RunDir(Path(root) / "run")
    for callback in [Stop(), *evaluate.callbacks(plan, run, trainer, tokenizer, boundary(plan, run, trainer))]:
        trainer.add_callback(callback)
    trainer.train()
    assert trainer.state.global_step == 3


def stops(root: str, fields: dict[str, Any]) -> dict[str, list[int]]:
    """Stop tokens with the tokenizer as it is, with another end of text, and without a chat template."""
    from launcher.worker.generate import stop_tokens

    trainer, tokenizer = trainer_for(root, made_plan(**fields), "out")
    usual = stop_tokens(trainer.model, tokenizer)
    tokenizer.eos_token = "<|endoftext|>"
    trainer.model.generation_config.eos_token_id = None
    other = stop_tokens(trainer.model, tokenizer)
    tokenizer.chat_template = None
    return {"usual": usual, "other_end_of_text": other, "no_template": stop_tokens(trainer.model, tokenizer)}


def losses_of_sets(root: str, fields: dict[str, Any], sizes: list[int]) -> dict[str, Any]:
    """Eval loss after some training, by `mean_loss` at several batch sizes, by plain logits, and by the Trainer's evaluate."""
    import torch
    from datasets import load_from_disk

    from launcher.worker.measure import mean_loss

    plan = made_plan(**fields)
    trainer, _ = trainer_for(root, plan, "out")
    data = load_from_disk(str(Path(root) / "run" / "data" / "eval-sums"))
    trainer.train()
    trainer.model.eval()
    data = data.map(lambda row, i: {"labels": row["input_ids"] if i < 3 else row["labels"]}, with_indices=True)
    total, tokens = 0.0, 0
    for row in data:
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor(row["labels"])[1:]
        with torch.no_grad():
            logits = trainer.model(input_ids=ids, use_cache=False).logits[0, :-1].double()
        kept = labels != -100
        total -= logits.log_softmax(-1)[kept, labels[kept]].sum().item()
        tokens += int(kept.sum())
    return {
        "ours": [mean_loss(trainer, data, batch_size=size) for size in sizes],
        "by_hand": total / tokens,
        "trainer": trainer.evaluate(data)["eval_loss"],
    }


def generated(root: str, fields: dict[str, Any], sizes: list[int]) -> dict[str, Any]:
    """Answers to prompts of 3 to 27 tokens at several batch sizes, by weights so large that any disturbance shows."""
    import warnings

    import torch

    from launcher.worker.measure import generate_all

    plan = made_plan(**fields)
    trainer, tokenizer = trainer_for(root, plan, "out")
    model = trainer.model.eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(8 if weight.dim() > 1 else 1)
    text = tokenizer(tiny.TEXT)["input_ids"]
    prompts = [text[i : i + 3 + 4 * i] for i in range(7)]
    spec = dataclasses.replace(plan.evaluation.generate[0], max_new_tokens=12)

    def answers(size: int) -> list[str]:
        return generate_all(trainer, tokenizer, prompts, dataclasses.replace(spec, batch_size=size))

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        texts = [answers(size) for size in sizes]
        for key, value in SAMPLING.items():
            setattr(model.generation_config, key, value)
        settings = _settings(trainer, tokenizer)
        with_sampling_settings = answers(sizes[0])
    return {
        "texts": texts,
        "with_sampling_settings": with_sampling_settings,
        "warnings": [str(w.message) for w in caught],
        "unchanged": settings == _settings(trainer, tokenizer),
    }


def _settings(trainer: Any, tokenizer: Any) -> str:
    model = trainer.model
    values = {
        "modes": [module.training for module in model.modules()],
        "config": model.config.to_dict(),
        "generation": model.generation_config.to_dict(),
        "tokenizer": [tokenizer.padding_side, tokenizer.pad_token, tokenizer.truncation_side],
    }
    return json.dumps(values, default=str, sort_keys=True)


def _digest(model: Any) -> str:
    import hashlib

    total = hashlib.sha256()
    for name, tensor in sorted(model.named_parameters()):
        total.update(name.encode() + tensor.detach().float().numpy().tobytes())
    return total.hexdigest()


def recorded(run: RunDir) -> list[dict[str, Any]]:
    """The run's evaluation events, without their times."""
    return [{k: v for k, v in event.items() if k != "time"} for event in events.read(run.events)]
