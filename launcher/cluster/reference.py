"""The page and the template of cluster profiles: `python -m launcher.cluster.reference` writes them, a test keeps them current."""

from __future__ import annotations

import textwrap
from pathlib import Path

from launcher.cluster.profile import Profile
from launcher.recipe import docs
from launcher.recipe.describe import entry_of, keys_of, section_of
from launcher.recipe.reference import inner, section_table
from launcher.recipe.section import Section
from launcher.recipe.shipped import shipped

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "reference" / "clusters.md"
TEMPLATE = shipped("slurm") / "clusters" / "template.yaml"
_MADE = "Made by `python -m launcher.cluster.reference` from the schema; edit the docstrings and examples there."
_WIDTH = 118

EXAMPLES = {
    "description": "The group's share of the big machine",
    "gpu": "A100-40GB",
    "gpus_per_node": "4",
    "gres": "a100",
    "cpus_per_node": "64",
    "memory_gib_per_node": "480",
    "queues.NAME.partition": "gpu",
    "queues.NAME.account": "project42",
    "queues.NAME.qos": "normal",
    "queues.NAME.reservation": "workshop",
    "queues.NAME.constraint": "nvlink&ib",
    "queues.NAME.max_time": '"24:00:00"',
    "queues.NAME.max_nodes": "16",
    "queues.NAME.preemptible": "true",
    "queues.NAME.debug": "true",
    "queues.NAME.gpu": "A40",
    "queues.NAME.gpus_per_node": "8",
    "queues.NAME.gres": "a40",
    "queues.NAME.cpus_per_node": "32",
    "queues.NAME.memory_gib_per_node": "240",
    "queues.NAME.directives": "[--exclusive]",
    "account": "project42",
    "paths.data": "/project/data",
    "paths.models": "/project/models",
    "paths.cache": "/scratch/$USER/cache",
    "paths.runs": "/scratch/$USER/runs",
    "scratch": "$TMPDIR",
    "python": "~/venvs/launcher/bin/python",
    "modules": "[cuda/12.8, python/3.12]",
    "setup": '["ulimit -n 65536"]',
    "env": '{NCCL_DEBUG: "WARN"}',
    "secrets": "~/.config/launcher/secrets.env",
    "container.runtime": "apptainer",
    "container.image": "/project/images/launcher.sif",
    "container.binds": "[/project/shared]",
    "container.python": "python3",
    "network.interface": "ib0",
    "network.env": "{NCCL_IB_HCA: mlx5}",
    "stages.prepare": "job",
    "stages.evaluate": "auto",
    "stages.export": "job",
    "stages.queue": "gpu",
    "internet": "true",
    "requeue": "true",
    "stop_lead_s": "120",
    "exclude": '"node[013-014]"',
    "directives": "[--mail-type=END]",
    "price_per_gpu_hour": "1.2",
    "currency": "EUR",
}
"""Dotted key → value in the template."""
_ACTIVE = (
    "gpu",
    "gpus_per_node",
    "cpus_per_node",
    "memory_gib_per_node",
    "queues.NAME.partition",
    "queues.NAME.max_time",
)
"""What nearly every site has to say; the rest stands in the template as comments."""


def page() -> str:
    """Every key of a profile, for docs/reference."""
    parts = [
        "# Every key of a cluster profile",
        f"<!-- {_MADE} -->",
        "How to write one: [clusters.md](../clusters.md). The same keys to fill in: [template](../../slurm/clusters/template.yaml).",
        section_table("The top", Profile, ""),
        *inner(Profile, ""),
    ]
    return "\n\n".join(parts) + "\n"


def template() -> str:
    """Every key of a profile with its docstring and an example, as a file to fill in."""
    return "\n".join(
        [
            f"# {_MADE}",
            "# A profile to fill in: copy it to ~/.config/launcher/clusters/NAME.yaml, change the values, and remove the `#`",
            "# in front of the keys you need (`#key: value`). Then `launcher doctor --cluster NAME` compares it with the site.",
            *_section(Profile, "", 0, active=True),
            "",
        ]
    )


def _section(section: type[Section], prefix: str, depth: int, *, active: bool) -> list[str]:
    lines: list[str] = []
    texts = docs.field_docs(section)
    for key, field in keys_of(section).items():
        dotted, pad = f"{prefix}{key}", "  " * depth
        entry = entry_of(field.annotation)
        named = section_of(entry.annotation) if entry else None
        below = section_of(field.annotation)
        lines += ["", *_comment(texts[key], pad)]
        if named:
            lines += [f"{pad}{key}:", f"{pad}  gpu:", *_section(named, f"{dotted}.NAME.", depth + 2, active=True)]
        elif below:
            lines += [f"{pad}#{key}:", *_section(below, f"{dotted}.", depth + 1, active=False)]
        else:
            mark = "" if active and dotted in _ACTIVE else "#"
            lines.append(f"{pad}{mark}{key}: {EXAMPLES[dotted]}")
    return lines


def _comment(text: str, pad: str) -> list[str]:
    lead = f"{pad}# "
    return textwrap.wrap(text, _WIDTH, initial_indent=lead, subsequent_indent=lead, break_on_hyphens=False)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    TEMPLATE.write_text(template(), encoding="utf-8")
