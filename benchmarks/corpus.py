"""The corpus of bad input (`tests/corpus`) through plain TRL and through `launcher prepare`: who says what is wrong, and where.

    python -m benchmarks.corpus [--only D05 T04 …] [--out benchmarks/results]

By hand means: `datasets.load_dataset` of the same file, `SFTTrainer` on the same tiny model, two steps on the CPU. Each
case runs in a process forked from one that has imported TRL, with a time limit.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks import page
from benchmarks.startup import ROOT
from tests.corpus.case import Case, Plain, Refused
from tests.corpus.cases import ALL
from tests.corpus.driving import drive
from tests.support import warm

LIMIT_S = 20
ROW = re.compile(r"(?:\b(?:row|line|example|index|record)\W{0,3}#?\d+)|\.\w+:\d+: ", re.IGNORECASE)
WARNED = re.compile(r"^(?!.*(?:warnings\.warn\(|FutureWarning|DeprecationWarning)).*warn", re.IGNORECASE)
FAILED = re.compile(r"\b(?:error|failed)\b", re.IGNORECASE)
FIX = re.compile(r"\b(?:please|should|try|set|use|pass|provide|specify|make sure|consider|must|hint)\b", re.IGNORECASE)


# ── by hand, in a forked process ──────────────────────────────────────────────────────────────────────────────────


def by_hand(name: str) -> dict[str, Any]:
    """Train two steps on a case, in the current folder; what came of it."""
    case = next(case for case in ALL if case.name == name)
    try:
        return _trained(case.plain)
    except Exception as fault:  # noqa: BLE001 - whatever a person would see
        chain = [fault]
        while inner := (chain[-1].__cause__ or chain[-1].__context__):
            chain.append(inner)
        return {"error": type(fault).__name__, "text": str(fault), "chain": "\n".join(str(each) for each in chain)}


def _trained(plain: Plain) -> dict[str, Any]:
    import datasets
    from trl import SFTConfig, SFTTrainer

    datasets.disable_progress_bars()
    settings = {"max_length": 128, "assistant_only_loss": True, "max_steps": 2, "per_device_train_batch_size": 4}
    always = {"output_dir": "out", "use_cpu": True, "bf16": False, "report_to": "none", "logging_steps": 1}
    saved = {"save_steps": 1} if plain.then else {"save_strategy": "no"}
    held = {"eval_strategy": "steps", "eval_steps": 2} if plain.eval_files else {}

    def trainer() -> Any:
        args = SFTConfig(**{**always, **settings, **saved, **held, **plain.config})
        rows = _rows(plain)
        extra = {"eval_dataset": _load(plain, plain.eval_files)} if plain.eval_files else {}
        made = SFTTrainer(args=args, train_dataset=rows, **_model(plain), **extra)
        made.read = rows
        return made

    made = trainer()
    made.train()
    if plain.then:
        plain.then(Path())
        made = trainer()
        made.train(resume_from_checkpoint="out/checkpoint-1")
    losses = [entry["loss"] for entry in made.state.log_history if "loss" in entry]
    counts = {} if plain.streaming else {"rows": len(made.train_dataset), "of": len(made.read)}
    return {"loss": losses[-1] if losses else None, "steps": made.state.global_step, **counts}


def _load(plain: Plain, files: Any) -> Any:
    import datasets

    return datasets.load_dataset(plain.builder, data_files=files, split="train", cache_dir="cache")


def _rows(plain: Plain) -> Any:
    import datasets

    if plain.mixture:
        parts = [_load(plain, file) for file in plain.mixture]
        return datasets.interleave_datasets(parts, probabilities=list(plain.mixture.values()), seed=42)
    rows = _load(plain, plain.files)
    return rows.to_iterable_dataset() if plain.streaming else rows


def _model(plain: Plain) -> dict[str, Any]:
    from peft import LoraConfig, PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    tokenizer = AutoTokenizer.from_pretrained(plain.tokenizer or plain.model)
    if plain.template:
        tokenizer.chat_template = Path(plain.template).read_text(encoding="utf-8")
    given: dict[str, Any] = {"model": plain.model, "processing_class": tokenizer}
    if plain.peft:
        given["peft_config"] = LoraConfig(task_type="CAUSAL_LM", **plain.peft)
    if plain.four_bit:
        given["quantization_config"] = BitsAndBytesConfig(load_in_4bit=True)
    if plain.adapter:
        base = AutoModelForCausalLM.from_pretrained(plain.model)
        given["model"] = PeftModel.from_pretrained(base, plain.adapter, is_trainable=True)
    if plain.add_tokens:
        tokenizer.add_tokens(list(plain.add_tokens))
        given["model"] = AutoModelForCausalLM.from_pretrained(plain.model)
        given["model"].resize_token_embeddings(len(tokenizer))
    return given


# ── the comparison ────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Outcome:
    """What one program made of one case."""

    kind: str
    """`error`, `trains`, `hangs`, or `-` where the case was not tried."""
    text: str = ""
    """First line, for the table."""
    whole: str = ""
    """All that was said."""
    log: tuple[str, ...] = ()

    @property
    def refused(self) -> bool:
        """It ended with an error."""
        return self.kind == "error"


@dataclass
class Line:
    """One case, what both made of it, and our exit code."""

    case: Case
    trl: Outcome
    launcher: Outcome
    code: int
    files: set[str] = field(default_factory=set)
    """Names of the files that the recipe and the case are made of."""

    @property
    def wrong(self) -> bool:
        """Nothing should be trained."""
        return isinstance(self.case.expect, Refused)

    @property
    def row(self) -> bool:
        """Whether a row is at fault."""
        return self.wrong and any(re.search(r"train\.\w+:\d+$", name) for name in self.case.expect.names)

    def names_file(self, outcome: Outcome) -> bool:
        """The error holds the name of a file of the case."""
        return outcome.refused and any(name in outcome.whole for name in self.files)

    def names_row(self, outcome: Outcome) -> bool:
        """The error holds the number of a row."""
        return outcome.refused and bool(ROW.search(outcome.whole))

    def names_fix(self, outcome: Outcome) -> bool:
        """The error says what to do."""
        return outcome.refused and bool(FIX.search(outcome.whole))


def trl(case: Case) -> Outcome:
    """The case by hand."""
    if case.plain.untried:
        return Outcome("-", f"not tried: {case.plain.untried}")
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        case.make(Path(name))
        environment = {"CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        call = {"name": case.name}
        ran = warm.run("benchmarks.corpus:by_hand", call, ranks=case.plain.ranks, env=environment, timeout=LIMIT_S)
        log = tuple(line.replace(name, "DIR") for line in ran.logs[0].splitlines() if line.strip())
    if ran.timed_out:
        return Outcome("hangs", f"no end within {LIMIT_S} s")
    found = ran.values[0]
    if found is None:
        return Outcome("error", f"the process ended with {ran.codes[0]}", "\n".join(log))
    if "error" in found:
        first = next(iter(found["text"].splitlines()), "") or "(no text)"
        whole = "\n".join([found["chain"].replace(name, "DIR"), *filter(FAILED.search, log)])
        return Outcome("error", f"{found['error']}: {first}".replace(name, "DIR"), whole, log)
    return Outcome("trains", _trains(found), "", log)


def _trains(found: dict[str, Any]) -> str:
    loss = "no loss" if found["loss"] is None else f"loss {found['loss']:.3g}"
    rows = f"{found['rows']} of {found['of']} rows, " if "rows" in found else ""
    return f"{rows}{found['steps']} steps, {loss}"


def launcher(case: Case) -> tuple[Outcome, int]:
    """The case through `launcher prepare`, and its exit code."""
    with tempfile.TemporaryDirectory() as name:
        said = drive(case, Path(name))
        if said.code:
            first = said.text.splitlines()[0].removeprefix("error: ")
            return Outcome("error", first, said.text), said.code
        train = said.facts["sets"]["train"]
        left_out = sum(
            each["bad"] + each["duplicates"] + each["contaminated"] for each in said.facts["sources"].values()
        )
        noted = f", {left_out} left out and listed" if left_out else ""
        return Outcome("trains", f"{train['rows']} rows{noted}"), 0


def files(case: Case) -> set[str]:
    """Names of the files that the recipe and the case are made of, and of what is not there."""
    with tempfile.TemporaryDirectory() as name:
        case.make(Path(name))
        found = {path.name for path in Path(name).rglob("*") if path.suffix}
    return found | {"DIR/model", "DIR/adapter", "me/unknown", "data/*.jsonl"}


def main() -> int:
    """Run every case through both, print the page, write it to a dated file."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--only", nargs="+", metavar="ID", help="these cases (D58, T04 …)")
    arguments.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="folder of the result")
    args = arguments.parse_args()
    os.environ["HF_HUB_OFFLINE"] = (
        "1"  # read when TRL is imported: without a network, by hand too, it should say so at once
    )
    warm.server()
    lines: list[Line] = []
    started = time.monotonic()
    for case in [case for case in ALL if not args.only or case.id in args.only or case.name in args.only]:
        line = Line(case, trl(case), *launcher(case), files(case))
        lines.append(line)
        print(f"{case.name}: {line.trl.text[:90]} | {line.code} {line.launcher.text[:90]}", file=sys.stderr)
    text = result(lines, time.monotonic() - started)
    if args.only:
        print("\n".join(text))
    else:
        page.write(args.out, "corpus", text)
    return 0


def result(lines: list[Line], seconds: float) -> list[str]:
    """The lines of the page."""
    common = Counter(_shape(said) for line in lines for said in set(line.trl.log))
    return [
        f"`python -m benchmarks.corpus`: the corpus of `tests/corpus` ({len(lines)} inputs) through plain TRL {version('trl')} and through",
        "`launcher prepare`, in turn. By hand: `load_dataset` of the same file, `SFTTrainer` on the same tiny model with",
        f"`max_length=128`, two steps of four rows on the CPU; loss on the answers of conversations; at most {LIMIT_S} s. {seconds:.0f} s in all.",
        "",
        "## Summary",
        "",
        *_summary([line for line in lines if line.trl.kind != "-"]),
        "",
        "An error names the file if it holds its name; the row, if it holds a number behind `row`, `line`, `index`,",
        "`example` or a file's name (a right one or not: pyarrow counts from 0 and from the block's start); something to",
        "do, if it holds a word such as *use*, *set*, *try*, *should*, *hint*. What the libraries logged counts as said.",
        "",
        "## Wrong input",
        "",
        "Behind each: file · row · fix, named or not.",
        "",
        "| id | input | TRL | | launcher | |",
        "| --- | --- | --- | --- | --- | --- |",
        *(
            f"| {line.case.name} | {line.case.title} | {_cell(line.trl, common)} | {_marks(line, line.trl)} | {_code(line)} | {_marks(line, line.launcher)} |"
            for line in lines
            if line.wrong
        ),
        "",
        "## Input that can be used",
        "",
        "| id | input | TRL | launcher |",
        "| --- | --- | --- | --- |",
        *(
            f"| {line.case.name} | {line.case.title} | {_cell(line.trl, common)} | {_code(line)} |"
            for line in lines
            if not line.wrong
        ),
    ]


def _summary(lines: list[Line]) -> list[str]:
    wrong, usable = [line for line in lines if line.wrong], [line for line in lines if not line.wrong]
    rows = [line for line in wrong if line.row]
    table: list[tuple[str, list[Line], Callable[[Line, Outcome], bool]]] = [
        ("wrong input is refused", wrong, lambda _, said: said.refused),
        ("… and the file is named", wrong, Line.names_file),
        ("… and the row, where a row is at fault", rows, Line.names_row),
        ("… and something to do", wrong, Line.names_fix),
        ("wrong input is trained on", wrong, lambda _, said: said.kind == "trains"),
        ("wrong input, and no end", wrong, lambda _, said: said.kind == "hangs"),
        ("usable input is used", usable, lambda _, said: said.kind == "trains"),
    ]
    made = ["| | TRL | launcher |", "| --- | ---: | ---: |"]
    for name, part, test in table:
        theirs, ours = (sum(test(line, said(line)) for line in part) for said in (_theirs, _ours))
        made.append(f"| {name} | {theirs} of {len(part)} | {ours} of {len(part)} |")
    return made


def _theirs(line: Line) -> Outcome:
    return line.trl


def _ours(line: Line) -> Outcome:
    return line.launcher


def _marks(line: Line, said: Outcome) -> str:
    if not said.refused:
        return ""
    named = (line.names_file(said), line.names_row(said) if line.row else None, line.names_fix(said))
    return " · ".join("–" if each is None else "yes" if each else "no" for each in named)


def _cell(said: Outcome, common: Counter[str]) -> str:
    if said.kind != "trains":
        return _escaped(said.text) if said.refused else said.text
    warned = next((each for each in said.log if common[_shape(each)] <= 3 and WARNED.search(each)), None)
    return f"trains: {said.text}" + (f"; warns: {_escaped(warned)}" if warned else "")


def _shape(line: str) -> str:
    return re.sub(r"\d+", "#", line)


def _code(line: Line) -> str:
    return f"exit {line.code}: {_escaped(line.launcher.text)}"


def _escaped(text: str) -> str:
    shown = "".join(character if character.isprintable() else " " for character in text)
    shown = shown if len(shown) <= 160 else shown[:159] + "…"
    return f"`{shown}`".replace("|", "\\|") if "`" not in shown else f"`` {shown} ``".replace("|", "\\|")


if __name__ == "__main__":
    raise SystemExit(main())
