"""Tools and tool calls of a conversation: JSON in strings becomes objects, one shape for all."""

from __future__ import annotations

from typing import Any

from launcher.worker.data.schema import BadRowError, parsed, without_nulls, wrong_type


def tools(value: Any, name: str) -> tuple[dict[str, Any], ...] | None:
    """Descriptions of tools, from a list or from JSON in a string; None where there are none.

    Raises:
        BadRowError: anything else.
    """
    value = _read(value, name)
    if not value and not isinstance(value, bool | int | float):
        return None
    if not isinstance(value, list):
        raise wrong_type(name, value, "a list")
    for number, each in enumerate(value):
        if not isinstance(each, dict):
            raise wrong_type(
                f"{name}[{number}]", each, "an object {type: function, function: {name: …, parameters: …}}"
            )
    return tuple(value)


def tool_calls(value: Any, name: str) -> list[dict[str, Any]]:
    """A message's tool calls, each as `{type: function, function: {name: …, arguments: {…}}}`.

    Raises:
        BadRowError: no list of calls, a call without name, or arguments that are no object.
    """
    if isinstance(value, str) and value.strip():
        value = parsed(value, name)
    if not isinstance(value, list):
        raise wrong_type(name, value, "a list of calls")
    return [_call(each, f"{name}[{number}]") for number, each in enumerate(value)]


def spoken_calls(value: Any, name: str) -> list[dict[str, Any]]:
    """The calls in the value of a ShareGPT `function_call`: `{"name": …, "arguments": {…}}` as JSON, or a list of them.

    Raises:
        BadRowError: it is not that.
    """
    if isinstance(value, str):
        value = parsed(value, name)
    calls = value if isinstance(value, list) else [value]
    if not calls or not all(isinstance(each, dict) and "name" in each for each in calls):
        raise BadRowError(f"`{name}` is no function call such as {{name: …, arguments: …}}")
    return [_call(each, name) for each in calls]


def _call(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise wrong_type(name, value, "an object {function: {name: …, arguments: …}}")
    called, at = value.get("function"), f"{name}.function"
    if called is None and "name" in value:
        called, at = {"name": value["name"], "arguments": value.get("arguments")}, name
    if not isinstance(called, dict) or not isinstance(called.get("name"), str) or not called["name"].strip():
        raise BadRowError(f"`{at}` has no `name`; a call is {{function: {{name: …, arguments: …}}}}")
    rest = {key: each for key, each in value.items() if each is not None and key not in ("name", "arguments")}
    function = {**without_nulls(called), "arguments": _arguments(called.get("arguments"), f"{at}.arguments")}
    return {**rest, "type": value.get("type") or "function", "function": function}


def _arguments(value: Any, name: str) -> dict[str, Any]:
    """Arguments as an object. A call without any has none, an empty string, or an empty object."""
    value = _read(value, name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise wrong_type(name, value, "an object")
    return value


def _read(value: Any, name: str) -> Any:
    """What a string of JSON holds, its nulls included; another value without the nulls that a table filled in."""
    if isinstance(value, str):
        return parsed(value, name) if value.strip() else None
    return without_nulls(value)
