"""What the forked processes of `test_attention.py` run: small models, rows of documents, losses and gradients."""

from __future__ import annotations

import logging
import tempfile
import warnings
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

from tests.support import tiny

LENGTHS = (7, 1, 12, 3, 9)


def network(implementation: str, family: str = "qwen3", dtype: str = "float64", **changes: Any) -> Any:
    """A model of two layers with the same random weights each time, four heads and two of keys."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from launcher.worker import attention

    attention.register()
    config = AutoConfig.for_model(
        family,
        **{
            "vocab_size": 96,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "max_position_embeddings": 128,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            **changes,
        },
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=implementation)
    return model.to(getattr(torch, dtype))


def packed(lengths: tuple[int, ...] | list[int] = LENGTHS) -> dict[str, Any]:
    """A row of documents of these lengths, as TRL's collator lays out two rows that hold them."""
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    tokens = [[3 + (31 * place + 7 * n * n) % 90 for n in range(length)] for place, length in enumerate(lengths)]
    middle = len(lengths) // 2
    rows = [
        {"input_ids": list(chain.from_iterable(half)), "seq_lengths": [len(each) for each in half]}
        for half in (tokens[:middle], tokens[middle:])
        if half
    ]
    return dict(DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)(rows))


def loss_and_gradient(model: Any, batch: dict[str, Any]) -> tuple[float, Any]:
    """The mean loss of a batch, and all gradients as one vector."""
    import torch

    loss = model(**batch, use_cache=False).loss
    loss.backward()
    return loss.item(), torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])


def against_sdpa(family: str, lengths: list[int], dtype: str, changes: dict[str, Any]) -> dict[str, Any]:
    """Loss and gradients of a packed row with both implementations, and how many masks ours built."""
    import torch

    from launcher.worker import attention

    made = []
    dense = attention.sdpa_mask

    def counted(**arguments: Any) -> Any:
        mask = dense(**arguments)
        made.append(mask is not None)
        return mask

    attention.sdpa_mask = counted
    batch = packed(lengths)
    theirs, their_gradient = loss_and_gradient(network("sdpa", family, dtype, **changes), batch)
    ours, our_gradient = loss_and_gradient(network(attention.SDPA_DOCUMENTS, family, dtype, **changes), batch)
    return {
        "losses": [theirs, ours],
        "difference": float((their_gradient - our_gradient).abs().max() / their_gradient.abs().max()),
        "finite": bool(torch.isfinite(our_gradient).all()),
        "masks": sum(made),
    }


def leaks(lengths: list[int], boundaries: list[int] | None) -> list[list[float]]:
    """[i][j]: the largest derivative of document j's outputs by document i's input embeddings, in float64.

    The documents are told by their position ids, and by `boundaries` too where given.
    """
    import torch

    model = network("sdpa_documents")
    batch = packed(lengths)
    ids, positions = batch["input_ids"], batch["position_ids"]
    starts = {} if boundaries is None else {"cu_seq_lens_q": torch.tensor(boundaries, dtype=torch.int32)}
    ends = torch.tensor([0, *lengths]).cumsum(0).tolist()
    parts = [slice(a, b) for a, b in pairwise(ends)]
    table = []
    for reader in parts:
        embedded = model.get_input_embeddings()(ids).detach().requires_grad_()
        logits = model(inputs_embeds=embedded, position_ids=positions, use_cache=False, **starts).logits
        logits[0, reader].square().sum().backward()
        table.append([float(embedded.grad[0, part].abs().max()) for part in parts])
    return [list(column) for column in zip(*table, strict=True)]


def without_packing(side: str) -> dict[str, Any]:
    """Logits of a padded batch, and what is generated from it with a cache, with both implementations."""
    import torch

    ids = torch.tensor([[5, 6, 7, 8, 9], [11, 12, 13, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    if side == "left":
        ids[1], mask[1] = ids[1].roll(2), mask[1].roll(2)
    outputs = {}
    for name in ("sdpa", "sdpa_documents", "sdpa_varlen"):
        model = network(name).eval()
        with torch.no_grad():
            logits = model(input_ids=ids, attention_mask=mask).logits
        answer = model.generate(ids, attention_mask=mask, max_new_tokens=12, min_new_tokens=12, do_sample=False)
        outputs[name] = {"logits": logits[mask.bool()].tolist(), "answer": answer.tolist()}
    return outputs


def one_sequence() -> bool:
    """Whether the logits of one unpacked sequence without a mask are the same with both implementations."""
    import torch

    ids = torch.arange(5, 25)[None]
    theirs, ours = (network(name)(input_ids=ids, use_cache=False).logits for name in ("sdpa", "sdpa_documents"))
    return bool(torch.equal(theirs, ours))


def trained(method: str, checkpointing: bool, strategy: str) -> dict[str, Any]:
    """Losses of three steps of TRL's trainer with both implementations, what was warned of, and the saved config."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
    from trl import SFTConfig, SFTTrainer

    from launcher.worker import attention
    from launcher.worker.data.packing import pack

    attention.register()
    folder = Path(tempfile.mkdtemp(prefix="attention-"))
    tiny.model(folder / "model")
    said: list[str] = []
    listener = logging.Handler(logging.WARNING)
    listener.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    for name in ("transformers", "trl"):
        logging.getLogger(name).addHandler(listener)
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    sums = [tokenizer(f"{row['question']} {row['answer']}")["input_ids"] for row in tiny.words(48)]
    plan = pack([len(each) for each in sums], 96, strategy)  # type: ignore[arg-type]
    rows, first = [], 0
    for end in plan.ends.tolist():
        pieces = [sums[plan.sequence[piece]][plan.start[piece] : plan.stop[piece]] for piece in range(first, end)]
        rows.append({"input_ids": list(chain.from_iterable(pieces)), "seq_lengths": [len(piece) for piece in pieces]})
        first = end
    losses = {}
    for implementation in ("sdpa", attention.SDPA_DOCUMENTS):
        args = SFTConfig(
            output_dir=str(folder / implementation), use_cpu=True, bf16=False, report_to="none", packing=True,
            max_length=96, dataset_kwargs={"skip_prepare_dataset": True}, activation_checkpointing=checkpointing,
            max_steps=3, logging_steps=1, per_device_train_batch_size=2, learning_rate=1e-2, eval_strategy="steps",
            eval_steps=3, save_strategy="no", seed=1, disable_tqdm=True,
        )  # fmt: skip
        model = AutoModelForCausalLM.from_pretrained(
            folder / "model",
            dtype=torch.float32,
            attn_implementation=implementation,
            quantization_config=BitsAndBytesConfig(**tiny.NF4) if method == "qlora" else None,
        )
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            trainer = SFTTrainer(
                model,
                args,
                train_dataset=Dataset.from_list(rows),
                eval_dataset=Dataset.from_list([{"input_ids": ids} for ids in sums[:5]]),
                processing_class=tokenizer,
                peft_config=None if method == "full" else LoraConfig(**tiny.LORA),
            )
            trainer.train()
        said += [str(each.message) for each in caught]
        history = trainer.state.log_history
        losses[implementation] = [entry[name] for entry in history for name in ("loss", "eval_loss") if name in entry]
        trainer.save_model()
    saved = [path.read_text() for path in (folder / attention.SDPA_DOCUMENTS).glob("*.json") if "config" in path.name]
    return {"losses": losses, "said": said, "named in what is saved": sum("sdpa_documents" in text for text in saved)}


def kernel_stand_in(
    query: Any, key: Any, value: Any, starts: Any, starts_k: Any, longest: int, longest_k: int, **more: Any
) -> Any:
    """What torch's `varlen_attn` is documented to compute, on a CPU: each document alone, in float32. Heads are [T, H, D]."""
    import torch

    back, ahead = more["window_size"]
    assert ahead == 0
    assert torch.equal(starts, starts_k)
    assert starts.dtype == torch.int32
    assert longest == longest_k == int(starts.diff().max())
    assert query.dtype in (torch.bfloat16, torch.float16)
    group = query.shape[1] // key.shape[1]
    assert more["enable_gqa"] is (group > 1)
    parts = []
    for first, last in pairwise(starts.tolist()):
        q, k, v = (each[first:last].transpose(0, 1).float() for each in (query, key, value))
        place = torch.arange(last - first)
        distance = place[:, None] - place[None]
        seen = (distance >= 0) & (torch.tensor(back < 0) | (distance <= back))
        scores = q @ k.repeat_interleave(group, 0).transpose(1, 2) * more["scale"]
        weights = scores.masked_fill(~seen, float("-inf")).softmax(-1)
        parts.append((weights @ v.repeat_interleave(group, 0)).transpose(0, 1))
    return torch.cat(parts).to(query.dtype)


def varlen(family: str, autocast: bool, changes: dict[str, Any]) -> dict[str, Any]:
    """Losses and gradients of `sdpa` and `sdpa_varlen` (its kernel replaced as above), and how often it was called."""
    import torch

    from launcher.worker import attention

    calls = []

    def kernel(*heads: Any, **more: Any) -> Any:
        calls.append(list(more["window_size"]))
        return kernel_stand_in(*heads, **more)

    attention.varlen_attn = kernel
    found = []
    for name in ("sdpa", attention.SDPA_VARLEN):
        model = network(name, family, "float32" if autocast else "bfloat16", **changes)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss, gradient = loss_and_gradient(model, packed())
        found.append((loss, gradient.float()))
    (theirs, their_gradient), (ours, our_gradient) = found
    difference = float((their_gradient - our_gradient).norm() / their_gradient.norm())
    return {"losses": [theirs, ours], "difference": difference, "calls": calls}


def varlen_refusal(dtype: str, changes: dict[str, Any]) -> str:
    """What `sdpa_varlen` says of a packed row that its kernel cannot compute."""
    model = network("sdpa_varlen", dtype=dtype, **changes)
    try:
        model(**packed(), use_cache=False)
    except ValueError as error:
        return str(error)
    return ""
