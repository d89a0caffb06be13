"""Functions that tests of `look` run where TRL is loaded (see `tests.support.warm`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def compared(run_dir: str) -> dict[str, Any]:
    """Each training row as the trainer's collator hands it over, beside what `look` shows of it."""
    import torch
    from datasets import load_from_disk
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    from launcher.worker.data.look import PreparedSet, decoder, trained_tokens
    from launcher.worker.job import load

    job = load(Path(run_dir))
    free = job.plan.trainer["packing"] and job.plan.trainer["packing_strategy"] in ("bfd", "bfd_split")  # as SFTTrainer
    collate = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=free)
    rows = load_from_disk(job.run_dir.prepared("train"))
    facts = job.data_facts()["sets"]["train"]
    decode = decoder(job.run_dir.tokenizer)
    ours = PreparedSet(job.run_dir.prepared("train"), facts["rows"])
    differing, texts, examples = [], [], 0
    for number in range(facts["rows"]):
        batch = collate([rows[number]])
        labels = batch["labels"][0].clone()
        if not free:
            labels[0] = -100  # the loss shifts labels by one: nothing predicts the first token
        shown = torch.tensor(trained_tokens(rows[number]))
        look = ours.row(number, decode)
        if not torch.equal(labels != -100, shown) or int(shown.sum()) != look["trained"]:
            differing.append(number)
        if free and not torch.equal(
            batch["cu_seq_lens_q"], torch.tensor([0, *(each["length"] for each in look["examples"])]).cumsum(0)
        ):
            differing.append(number)
        text = "".join(part for each in look["examples"] for _, part in each["segments"])
        texts.append(_plain(text) == _plain(decode(batch["input_ids"][0].tolist())))
        examples += len(look["examples"])
    trained = sum(ours.row(number, decode)["trained"] for number in range(facts["rows"]))
    return {
        "differing": differing,
        "texts": all(texts),
        "rows": facts["rows"],
        "examples": examples,
        "trained": [trained, facts["trained_tokens"]],
    }


def _plain(text: str) -> str:
    """Only letters of one byte: a border may go through a longer one."""
    return "".join(letter for letter in text if letter < "\x80")
