"""A chat template: its text, its syntax by the parser that will run it, and whether TRL trains with a copy of it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from launcher.catalog.templates import training_templates

_CONFIG_BYTES = 2**24


def text_beside(folder: Path) -> str | None:
    """The chat template of the tokenizer in a folder; None where it has none that can be read."""
    try:
        file = folder / "chat_template.jinja"
        if file.is_file():
            return file.read_text(encoding="utf-8")
        config = folder / "tokenizer_config.json"
        found = json.loads(config.read_text(encoding="utf-8")) if config.stat().st_size < _CONFIG_BYTES else {}
    except (OSError, ValueError):
        return None
    template = found.get("chat_template") if isinstance(found, dict) else None
    return template if isinstance(template, str) else None


def training_copy(text: str | None) -> str | None:
    """TRL's name of a template that it trains with a copy of, because the text marks no answers; None for any other."""
    return None if text is None else training_templates().get(hashlib.sha256(text.encode()).hexdigest())


def template_fault(text: str) -> tuple[int, str] | None:
    """Line and message of what is not Jinja in a chat template, or None. Nothing of it is run."""
    from jinja2 import TemplateSyntaxError, nodes
    from jinja2.ext import Extension, loopcontrols
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %} … {% endgeneration %}` around what the assistant says."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Parser) -> list[nodes.Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    try:
        environment.compile(text)
    except TemplateSyntaxError as fault:
        return fault.lineno, fault.message or "is not Jinja"
    except (RecursionError, SyntaxError, MemoryError):
        return 1, "nested too deeply"
    return None
