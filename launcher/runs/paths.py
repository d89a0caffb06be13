"""The layout of a run directory. The only code that joins a path under a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunDir:
    """Every path under one run. A run directory can be moved; only `placement` holds absolute paths."""

    root: Path

    @property
    def name(self) -> str:
        """The run's name: the directory's."""
        return self.root.name

    @property
    def record(self) -> Path:
        """`run.json`: id, name, creation time, identity."""
        return self.root / "run.json"

    @property
    def plan(self) -> Path:
        """`plan.json`: what was decided; all that the worker reads beside `data.json` and the placement."""
        return self.root / "plan.json"

    @property
    def plan_text(self) -> Path:
        """`plan.md`: the plan, to read."""
        return self.root / "plan.md"

    @property
    def plan_page(self) -> Path:
        """`plan.html`: the same as a page, with drawings of memory and time."""
        return self.root / "plan.html"

    @property
    def recipe(self) -> Path:
        """`recipe.yaml`: the resolved recipe, to read and to start from."""
        return self.root / "recipe.yaml"

    @property
    def placement(self) -> Path:
        """`placement.json`: the absolute paths (`model`, `tokenizer`, `adapter`, `data.LABEL`) on this machine."""
        return self.root / "placement.json"

    @property
    def hub(self) -> Path:
        """`hub.json`: the hub's files that the plan takes, with sizes and hashes, in the form of a lock file."""
        return self.root / "hub.json"

    @property
    def commands(self) -> Path:
        """`commands.sh`: the stages as commands, to read or to type."""
        return self.root / "commands.sh"

    @property
    def accelerate(self) -> Path:
        """`accelerate.yaml`: the sharding for `accelerate launch`."""
        return self.root / "accelerate.yaml"

    @property
    def deepspeed(self) -> Path:
        """`deepspeed.json`: DeepSpeed's configuration, under its strategies."""
        return self.root / "deepspeed.json"

    @property
    def data_facts(self) -> Path:
        """`data.json`: what `prepare` made, committed last."""
        return self.root / "data.json"

    @property
    def data(self) -> Path:
        """Prepared rows."""
        return self.root / "data"

    def prepared(self, label: str) -> Path:
        """Prepared rows of one set: `train` or `eval-LABEL`, a `datasets` folder."""
        return self.data / label

    @property
    def bad_rows(self) -> Path:
        """`bad_rows.jsonl`: rows that could not be used, with source, line and reason."""
        return self.root / "bad_rows.jsonl"

    @property
    def removed_rows(self) -> Path:
        """`removed_rows.jsonl`: rows that repeat another or stand in an eval set, with both places."""
        return self.root / "removed_rows.jsonl"

    @property
    def tokenizer(self) -> Path:
        """The final tokenizer (template, added tokens, pad); the worker loads only this one."""
        return self.root / "tokenizer"

    @property
    def base(self) -> Path:
        """The random model of a `from_config` recipe, written once by `prepare`."""
        return self.root / "base"

    @property
    def adapter_start(self) -> Path:
        """What an adapter began with that took its start out of the base (`pissa`, `olora`); written once."""
        return self.root / "adapter_start.safetensors"

    @property
    def events(self) -> Path:
        """`events.jsonl`: append-only, one event per line."""
        return self.root / "events.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Complete checkpoints, `checkpoint-N`."""
        return self.root / "checkpoints"

    @property
    def staging(self) -> Path:
        """Checkpoints being written; swept at the next start."""
        return self.checkpoints / ".staging"

    def staged(self, attempt: int) -> Path:
        """What one attempt is writing."""
        return self.staging / f"attempt-{attempt}"

    @property
    def trash(self) -> Path:
        """Checkpoints being deleted; swept with the staging folder."""
        return self.checkpoints / ".trash"

    @property
    def quarantine(self) -> Path:
        """Damaged checkpoints, each with the reason beside it; nothing deletes them."""
        return self.checkpoints / ".quarantine"

    @property
    def probe(self) -> RunDir:
        """What looks like a run while `launch.probe` tries some steps; removed when it is over."""
        return RunDir(self.root / "probe")

    def attempt(self, number: int) -> Path:
        """Facts of one attempt: `attempt.json`, `exit-R.json`, its `plan.json`."""
        return self.root / "attempts" / str(number)

    def attempt_plan(self, number: int) -> Path:
        """The plan that an attempt ran."""
        return self.attempt(number) / "plan.json"

    def rank_exit(self, attempt: int, rank: int) -> Path:
        """`exit-R.json`: code, cause and time, written by rank R."""
        return self.attempt(attempt) / f"exit-{rank}.json"

    def rank_process(self, attempt: int, rank: int) -> Path:
        """`rank-R.json`: host and pid of rank R, and where the monitor of its machine finds its beats."""
        return self.attempt(attempt) / f"rank-{rank}.json"

    def node_report(self, attempt: int, node: int) -> Path:
        """`node-I.json`: what node I found about itself before its ranks started."""
        return self.attempt(attempt) / f"node-{node}.json"

    @property
    def submitted_versions(self) -> Path:
        """`slurm/versions.json`: the versions with which the run was submitted."""
        return self.root / "slurm" / "versions.json"

    def logs(self, attempt: int) -> Path:
        """Log files of one attempt."""
        return self.root / "logs" / f"attempt-{attempt}"

    def rank_log(self, attempt: int, rank: int) -> Path:
        """Standard output and error of rank R."""
        return self.logs(attempt) / f"rank-{rank}.log"

    def rank_stack(self, attempt: int, rank: int) -> Path:
        """Stacks of all threads of rank R, when the run hung."""
        return self.logs(attempt) / f"rank-{rank}.stack"

    def stage_log(self, attempt: int, stage: str) -> Path:
        """Standard output and error of a stage's outer process (prepare; torchrun's agent for train)."""
        return self.logs(attempt) / f"{stage}.log"

    @property
    def launcher_log(self) -> Path:
        """Output of `launcher run --detach`, all attempts."""
        return self.root / "logs" / "launcher.log"

    @property
    def slurm(self) -> Path:
        """What SLURM needs: scripts, the site, submissions, logs of jobs."""
        return self.root / "slurm"

    def script(self, name: str) -> Path:
        """`train.sbatch`, the batch script, or `node.sh`, what each of its nodes does."""
        return self.slurm / name

    @property
    def site(self) -> Path:
        """`site.json`: the cluster profile and the queue, as they were when the run was submitted."""
        return self.slurm / "site.json"

    @property
    def submissions(self) -> Path:
        """`jobs.json`: what was submitted, and when."""
        return self.slurm / "jobs.json"

    @property
    def submission_lock(self) -> Path:
        """Held by who submits this run."""
        return self.slurm / "lock"

    @property
    def excluded(self) -> Path:
        """`excluded.json`: nodes that failed this run, and why."""
        return self.slurm / "excluded.json"

    @property
    def job_logs(self) -> Path:
        """Output of batch scripts, one file per job."""
        return self.slurm / "logs"

    def job_log(self, stage: str, job_id: str) -> tuple[Path, ...]:
        """Where SLURM writes what a job prints: by our script, by submitit."""
        return (self.job_logs / f"{stage}-{job_id}.log", self.slurm / "submitit" / f"{job_id}_0_log.out")

    @property
    def evals(self) -> Path:
        """Scores and generations: `base.json`, `step-N.json`, `final.json`."""
        return self.root / "eval"

    def evaluation(self, name: str) -> Path:
        """One of them: `base`, `step-N` or `final`."""
        return self.evals / f"{name}.json"

    @property
    def tracking(self) -> Path:
        """Files of the experiment trackers."""
        return self.root / "tracking"

    @property
    def unsent(self) -> tuple[Path, ...]:
        """W&B's runs that were kept on disk and that `wandb sync` has not sent yet."""
        found = sorted((self.tracking / "wandb").glob("offline-run-*"))
        return tuple(folder for folder in found if not any(folder.glob("*.synced")))

    @property
    def model(self) -> Path:
        """The result: a model or an adapter with its tokenizer."""
        return self.root / "model"

    def model_draft(self, attempt: int) -> Path:
        """The result while an attempt writes it; swept at the next start."""
        return self.root / f".model-{attempt}"

    @property
    def model_drafts(self) -> tuple[Path, ...]:
        """All of those."""
        return tuple(self.root.glob(".model-*"))

    @property
    def merged(self) -> Path:
        """The adapter merged into its base: a plain model with its tokenizer."""
        return self.root / "merged"

    def merged_draft(self, attempt: int) -> Path:
        """That, while it is written and checked; swept at the next start."""
        return self.root / f".merged-{attempt}"

    @property
    def merged_drafts(self) -> tuple[Path, ...]:
        """All of those."""
        return tuple(self.root.glob(".merged-*"))

    @property
    def report(self) -> Path:
        """`report.html`."""
        return self.root / "report.html"

    @property
    def inspect_page(self) -> Path:
        """`inspect.html`: some rows and the figures of the data."""
        return self.root / "inspect.html"

    @property
    def stop_request(self) -> Path:
        """While this file exists, the run saves at the next step boundary and leaves."""
        return self.root / "stop"

    @property
    def lock(self) -> Path:
        """Held by the process that runs this directory."""
        return self.root / "lock"

    @property
    def done(self) -> Path:
        """Written last, when every stage has ended well."""
        return self.root / "DONE"
