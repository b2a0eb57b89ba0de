"""The one command that was asked for, ready sooner than Typer would have it.

Typer makes every command ready, of which one runs, and from 0.29 on it converts each option's value by pydantic, whose
import takes longer than reading an image and finding what is in it. Values of the plain types that our options have
are converted here, to what Typer makes of them; any other value, and every one that is wrong, is left to Typer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from copy import copy
from pathlib import Path
from typing import Any, get_args, get_origin

import typer
from typer.main import get_command

WHOLE = re.compile(r"[+-]?[0-9]+")
DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)")


def quick_command(app: typer.Typer, words: Sequence[str]) -> Callable[[], Any]:
    """The command of an app, that reads its words from `sys.argv`.

    Args:
        words: of the command line, without the program's name; where the first one names a command, the others are left
            out.
    """
    asked = [info for info in app.registered_commands if info.callback and words and _name(info) == words[0]]
    if asked:
        app = copy(app)
        app.registered_commands = asked
    command: Any = get_command(app)
    for one in (command, *getattr(command, "commands", {}).values()):
        for parameter in one.params:
            convert_plainly(parameter)
        one.get_help_option = _converting_plainly(one.get_help_option)
        one.help = flowing(one.help)
    return command  # type: ignore[no-any-return]


def flowing(text: str | None) -> str | None:
    """A docstring whose paragraphs are a line each: Rich keeps the ends of lines, which a narrower terminal would show
    in the middle of sentences.

    >>> flowing("Find cats\\nand dogs.\\n\\nExample: find .")
    'Find cats and dogs.\\n\\nExample: find .'
    """
    return text and "\n\n".join(paragraph.replace("\n", " ") for paragraph in text.split("\n\n"))


def _converting_plainly(help_option: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Typer makes the option `--help` only when a command runs."""

    def get_help_option(context: Any) -> Any:
        option = help_option(context)
        convert_plainly(option)
        return option

    return get_help_option


def _name(info: Any) -> str:
    return info.name or str(info.callback.__name__).lower().replace("_", "-")


def convert_plainly(parameter: Any) -> None:
    """Let a parameter of Typer's convert plain values without pydantic, where it is of a Typer that uses it."""
    described = getattr(parameter, "type_descriptor", None)
    if described is None or parameter.required or "process_value" in vars(parameter):
        return
    by_typer = parameter.process_value
    is_list = parameter.multiple or parameter.nargs == -1
    kind = get_args(described.annotation)[0] if get_origin(described.annotation) is list else described.annotation

    def process_value(context: Any, value: Any) -> Any:
        if value is None:
            converted: Any = () if is_list else None
        else:
            values = value if is_list else [value]
            plain = [plain_value(kind, one, described.parameter_info) for one in values]
            if None in plain or (is_list and isinstance(value, str)):
                return by_typer(context, value)
            converted = tuple(plain) if is_list else plain[0]
        return converted if parameter.callback is None else parameter.callback(context, parameter, converted)

    parameter.process_value = process_value


def plain_value(kind: Any, value: Any, limits: Any) -> Any:
    """A value of a plain type, or None where this is not for here to say.

    Args:
        kind: str, bool, int, float or Path.
        value: as typed, or the default.
        limits: Typer's record of what else was said of the option.
    """
    if kind in (str, bool) and isinstance(value, kind):
        return value
    if kind in (int, float) and not limits.clamp:
        number = _number(kind, value)
        in_range = number is not None and (
            (limits.min is None or number >= limits.min) and (limits.max is None or number <= limits.max)
        )
        return number if in_range else None
    # Of one that exists, Typer asks more.
    if kind is Path and isinstance(value, str) and not (limits.exists or limits.resolve_path or limits.path_type):
        path = Path(value)
        return None if path.exists() else path
    return None


def _number(kind: type[int] | type[float], value: Any) -> int | float | None:
    if type(value) is kind:
        return value
    if isinstance(value, str) and (WHOLE if kind is int else DECIMAL).fullmatch(value):
        return kind(value)
    return None
