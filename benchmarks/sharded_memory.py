"""Host memory of a rank while a model is loaded, shared out and put together again, by strategy; `python -m benchmarks.sharded_memory`."""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.page import write
from launcher.plan.compatibility import Cell
from launcher.runs.paths import RunDir

RESULTS = Path(__file__).parent / "results"
RANKS = 2
SHAPE = {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12, "num_key_value_heads": 12,
    "head_dim": 64,
}  # fmt: skip
CASES = {
    "ddp": (Cell("ddp", "none", "full"), None),
    "fsdp2": (Cell("fsdp2", "none", "full"), None),
    "fsdp2, each rank reads": (Cell("fsdp2", "none", "full"), False),
    "zero3": (Cell("zero3", "none", "full"), None),
}
PHASES = ("load", "share out", "result")


def main() -> None:
    """Train one step of each case and write the page."""
    from tests.sharding import cells
    from tests.support import tiny, warm

    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        tiny.model(base / "model", **SHAPE)
        size = 2 * _halved(base / "model")
        tiny.jsonl(base / "train.jsonl", tiny.messages(16))
        tiny.jsonl(base / "held.jsonl", tiny.messages(4, seed=3))
        lines = [
            f"A model of {size / 2**20:,.0f} MiB in float32, stored in bfloat16, on {RANKS} CPU ranks, three steps of full fine-tuning. Peak of each rank's own memory",
            "(RssAnon, sampled each 2 ms; mapped files are the page cache's and count for nobody), less what it held before, as a share",
            "of the model's size. `share out` holds the optimizer's making too. `result`: the model is put together and written.",
            "",
            f"| strategy | rank | {' | '.join(PHASES)} |",
            "|---|---|" + "---|" * len(PHASES),
        ]
        for name, (cell, loads_once) in CASES.items():
            run = cells.make(
                base / name.replace(" ", "-").replace(",", ""),
                cell,
                ranks=RANKS,
                steps=3,
                sets=["evaluation.generate=[]"],
            )
            if loads_once is not None:
                _set(run, cpu_ram_efficient_loading=loads_once)
            warm.stop()  # a fresh server: what an earlier case left in its memory is none of this one's
            env = json.loads(run.plan.read_text())["jobs"][1]["env"] | {"LAUNCHER_ATTEMPT": "1"}
            result = warm.run(
                "benchmarks.sharded_memory:rank", {"run_dir": str(run.root)}, ranks=RANKS, env=env, timeout=400
            )
            assert set(result.codes) == {0}, result.codes
            for rank in range(RANKS):
                peaks = json.loads((run.root / f"peaks-{rank}.json").read_text())
                lines.append(f"| {name} | {rank} | {' | '.join(f'{peaks[phase] / size:.2f}' for phase in PHASES)} |")
        write(RESULTS, "sharded-memory", lines)


def _halved(model: Path) -> int:
    """Store the model in bfloat16, as models are published; its size in bytes then."""
    import torch
    from safetensors.torch import load_file, save_file

    file = model / "model.safetensors"
    save_file({name: weight.to(torch.bfloat16) for name, weight in load_file(file).items()}, file, {"format": "pt"})
    return file.stat().st_size


def _set(run: RunDir, **changes: Any) -> None:
    plan = json.loads(run.plan.read_text())
    plan["trainer"]["fsdp_config"] |= changes
    run.plan.write_text(json.dumps(plan))


class Sampler(threading.Thread):
    """Largest own memory of this process since the phase began, less what it held when the first one did."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.phase = "before"
        self.base = _own()
        self.peaks: dict[str, int] = {}

    def run(self) -> None:
        """Look until the process ends."""
        while True:
            self.peaks[self.phase] = max(self.peaks.get(self.phase, 0), _own() - self.base)
            time.sleep(0.002)


def _own() -> int:
    """RssAnon in bytes."""
    with open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123 - read five hundred times a second
        line = next(line for line in status if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


def rank(run_dir: str) -> None:
    """One rank, whose phases are marked."""
    from launcher.worker.tasks import sft
    from launcher.worker.trainer import Trainer
    from tests.sharding import cells

    sampler = Sampler()
    load, save, step = sft.load_model, sft.save_result, Trainer.training_step

    def loading(*args: Any) -> Any:
        sampler.base = _own()
        sampler.start()
        sampler.phase = "load"
        model = load(*args)
        sampler.phase = "share out"
        return model

    def stepping(*args: Any, **kwargs: Any) -> Any:
        sampler.phase = "train"
        return step(*args, **kwargs)

    def saving(job: Any, trainer: Any, number: int) -> None:
        before = _own() - sampler.base
        sampler.phase = "result"
        save(job, trainer, number)
        sampler.phase = "after"
        peaks = {**sampler.peaks, "result": max(0, sampler.peaks.get("result", 0) - before)}
        (Path(run_dir) / f"peaks-{os.environ['RANK']}.json").write_text(json.dumps(peaks))

    sft.load_model, sft.save_result, Trainer.training_step = loading, saving, stepping
    cells.rank(run_dir)


if __name__ == "__main__":
    main()
