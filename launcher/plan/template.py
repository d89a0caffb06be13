"""A chat template's syntax, by the parser that will run it and the tags that transformers adds."""

from __future__ import annotations


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
