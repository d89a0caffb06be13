"""Adapters that begin with a part of the base (PiSSA, OLoRA): what they began with, and the result without it.

Such a start takes s·B₀A₀ out of the base's weights, so that the trained adapter fits only a base that nobody has. The
result is therefore written as the plain adapter of twice the rank that means the same on the base as it is published:
B·A − B₀·A₀ = [B, −B₀]·[A; A₀]. Checkpoints hold A and B as they are, from which training goes on.

Source: PiSSA, Meng et al., 2024, arXiv:2404.02948; peft's `subtract_mutated_init`, which does the same and leaves out
all that is no A or B.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from launcher.errors import RunFailed
from launcher.runs import checkpoints
from launcher.worker.job import Job

_FORMAT = {"format": "pt"}
_CLOSE = 1e-3
"""Largest difference, as a share of the largest number, that another machine's rounding makes of the same start."""


def changes_the_base(job: Job) -> bool:
    """Whether the adapter takes its start out of the base's weights."""
    start = str((job.plan.peft or {}).get("init_lora_weights", ""))
    return start.startswith(("pissa", "olora"))


def remember(job: Job, model: Any, rank: int) -> None:
    """Write what the adapter begins with into the run, once; when a run goes on, compare.

    Raises:
        RunFailed: it begins otherwise here than when the run was started, so its checkpoints fit another base.
    """
    if not changes_the_base(job):
        return
    file, now = job.run_dir.adapter_start, _sides(model)
    if file.exists() and checkpoints.newest(job.run_dir, contents=False).checkpoint is not None:
        then = load_file(file)
        if then.keys() != now.keys() or any(_apart(then[name], now[name]) for name in then):
            raise RunFailed(
                f"`{(job.plan.peft or {})['init_lora_weights']}` starts from other numbers here than when this run"
                " began, so its checkpoints do not fit",
                hint="go on where it was started, with the same libraries, or start a new run",
            )
    elif rank == 0:
        save_file(now, file, metadata=_FORMAT)


def take_out(job: Job, folder: Path) -> None:
    """Rewrite the adapter in `folder` so that it fits the base as it is published."""
    if not changes_the_base(job):
        return
    file, settings = folder / "adapter_model.safetensors", folder / "adapter_config.json"
    trained, start = load_file(file), load_file(job.run_dir.adapter_start)
    for name, first in start.items():
        axis, sign = (0, 1) if ".lora_A." in name else (1, -1)
        trained[name] = torch.cat([trained[name], sign * first.to(trained[name].dtype)], dim=axis).contiguous()
    save_file(trained, file, metadata=_FORMAT)
    settings.write_text(json.dumps(_doubled(json.loads(settings.read_text())), indent=2, sort_keys=True))


def _sides(model: Any) -> dict[str, torch.Tensor]:
    """A and B of every layer, by the names under which peft saves them."""
    return {
        name.replace(".default.", "."): weight.detach().cpu().clone().contiguous()
        for name, weight in model.named_parameters()
        if ".lora_A." in name or ".lora_B." in name
    }


def _apart(then: torch.Tensor, now: torch.Tensor) -> bool:
    return then.shape != now.shape or bool((then - now).abs().max() > _CLOSE * then.abs().max())


def _doubled(config: dict[str, Any]) -> dict[str, Any]:
    """Twice the rank at the same scale, alpha / r or alpha / sqrt(r)."""
    factor = 2**0.5 if config["use_rslora"] else 2
    return {
        **config,
        "init_lora_weights": True,
        "r": config["r"] * 2,
        "lora_alpha": config["lora_alpha"] * factor,
        "rank_pattern": {name: rank * 2 for name, rank in config["rank_pattern"].items()},
        "alpha_pattern": {name: alpha * factor for name, alpha in config["alpha_pattern"].items()},
    }
