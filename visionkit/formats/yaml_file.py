"""YAML files, read strictly: plain data only, no key twice."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from visionkit.errors import DataError
from visionkit.formats.dataset_files import read_bytes

# Beside YAMLError, what PyYAML's constructors let through: a date of month 13 (ValueError), `!!bool maybe` (KeyError),
# `!!timestamp x` (AttributeError), `!!int ""` (IndexError), and endless nesting.
_MALFORMED = (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, RecursionError)


class BrokenYamlError(DataError):
    """A file that is no YAML, or none that is safe to read.

    Args:
        file: its path.
        fact: what is wrong with it, to stand behind its path.
    """

    def __init__(self, file: Path, fact: str) -> None:
        super().__init__(f"{file} {fact}")
        self.file = file
        self.fact = fact


class StrictLoader(yaml.SafeLoader):
    """YAML's safe loader, but a key that stands twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                continue  # the safe loader refuses it
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


class _PlainLoader(StrictLoader):
    """Refuses references too: a few lines of them stand for gigabytes."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "references (*name) are not read", event.start_mark)
        return super().compose_node(parent, index)


def yaml_problem(error: Exception) -> str:
    """What is wrong and where, on one line, to stand behind `is not valid YAML`."""
    mark = getattr(error, "problem_mark", None)
    where = f" at line {mark.line + 1}" if mark else ""
    problem = (str(getattr(error, "problem", None) or error) or type(error).__name__).splitlines()[0]
    return f"{where}: {problem}"


def read_yaml(file: Path) -> Any:
    """The content of a UTF-8 YAML file that comes with a dataset.

    Raises:
        DataError: there is no such regular file, or it cannot be read.
        BrokenYamlError: it is not YAML that is safe to read.
    """
    data = read_bytes(file, "a YAML file")
    try:
        return yaml.load(data.decode("utf-8-sig"), Loader=_PlainLoader)
    except UnicodeDecodeError as error:
        raise BrokenYamlError(file, "is not text in UTF-8; give a YAML file") from error
    except _MALFORMED as error:
        raise BrokenYamlError(file, f"is not valid YAML{yaml_problem(error)}; correct it") from error
