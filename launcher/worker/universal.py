"""A ZeRO-1 or ZeRO-2 checkpoint for another number of ranks, by DeepSpeed's universal checkpoint."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from accelerate.utils import broadcast_object_list

from launcher.errors import RunFailed


def convert(trainer: Any, checkpoint: Path, scratch: Path, rank: int) -> Path:
    """Copy a checkpoint as one that any number of ranks can read, and have DeepSpeed read it so. Call it on every rank.

    Args:
        trainer: its engine is not made yet.
        checkpoint: as it was saved; it stays untouched.
        scratch: a folder to write to, on storage that all ranks share.
        rank: rank 0 converts.

    Returns:
        The copy.

    Raises:
        RunFailed: DeepSpeed cannot convert it.
    """
    error = _convert(checkpoint, scratch) if rank == 0 else None
    error = broadcast_object_list([error])[0]
    if error is not None:
        raise RunFailed(
            f"{checkpoint.name} cannot be converted to another number of ranks: {error}",
            hint="go on with as many ranks as before",
        )
    plugin = trainer.accelerator.state.deepspeed_plugin
    plugin.deepspeed_config["checkpoint"] = {"load_universal": True}
    return scratch


def _convert(checkpoint: Path, scratch: Path) -> str | None:
    """What went wrong, or None."""
    from deepspeed.checkpoint import ds_to_universal

    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    tag = (checkpoint / "latest").read_text().strip()
    for file in checkpoint.iterdir():
        if file.is_file() and file.name not in ("latest", "MANIFEST.json"):
            shutil.copy2(file, scratch / file.name)
    try:
        ds_to_universal.main(
            SimpleNamespace(
                input_folder=str(checkpoint / tag),
                output_folder=str(scratch / f"{tag}_universal"),
                num_extract_workers=1,
                num_merge_workers=1,
                keep_temp_folder=False,
                strict=True,
                inject_missing_state=True,
            )
        )
    except Exception as fault:  # noqa: BLE001 - told to all ranks
        return f"{type(fault).__name__}: {fault}"
    (scratch / "latest").write_text(f"{tag}_universal")
    return None
