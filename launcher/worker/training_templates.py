"""Write `catalog/training_templates.json` from the installed TRL: `python -m launcher.worker.training_templates`.

It holds the sha256 of each chat template that TRL has a training copy of, so that the plan can say so without TRL.
A test regenerates it and compares.
"""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace

PATH = Path(__file__).parent.parent / "catalog" / "training_templates.json"


def text() -> str:
    """The table as JSON: sha256 of a template → TRL's name for it."""
    from unittest.mock import patch

    from trl import chat_template_utils as trl

    table = {}
    # Whether a template calls tools is found by rendering it with a tokenizer; only its text matters here.
    with patch.object(trl, "supports_tool_calling", lambda _: False):
        for file in sorted((files("trl") / "chat_templates").iterdir(), key=lambda each: each.name):
            template = file.read_text(encoding="utf-8")
            if not file.name.endswith(".jinja") or file.name.endswith("_training.jinja"):
                continue
            try:
                copy = trl.get_training_chat_template(SimpleNamespace(chat_template=template))
            except ValueError:
                continue  # TRL knows this template and has no copy of it
            if copy is not None:
                table[hashlib.sha256(template.encode()).hexdigest()] = file.name.removesuffix(".jinja")
    return json.dumps(table, indent=1) + "\n"


if __name__ == "__main__":
    PATH.write_text(text(), encoding="utf-8")
