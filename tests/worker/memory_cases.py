"""Functions that tests run in forked ranks: training that runs out of memory."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def rank(run_dir: str, failing: int, step: int, where: str) -> None:
    """A training rank; rank `failing` asks for more memory than there is, in the pass or the update after `step` steps."""
    import torch

    from launcher.worker import main
    from launcher.worker.trainer import Trainer

    mine = int(os.environ["RANK"])  # a single rank forgets torchrun's variables
    name = {"pass": "training_step", "update": "_get_grad_norm"}[where]
    real = getattr(Trainer, name)

    def broken(self: Trainer, *args: Any, **kwargs: Any) -> Any:
        if mine == failing and self.state.global_step == step:
            if where == "pass":
                (Path(run_dir) / "batch.json").write_text(json.dumps(args[1]["input_ids"].tolist()))
            torch.empty(1 << 50)
        return real(self, *args, **kwargs)

    setattr(Trainer, name, broken)
    raise SystemExit(main.main(run_dir, os.getppid()))
