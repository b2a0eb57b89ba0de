"""What VOC's `<object>` says beside name, difficult and box, as JSON has it: `{"pose": "Left", "part": {...}}`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.etree.ElementTree import Element

from visionkit.formats.object_fields import whole_or_text
from visionkit.formats.xml_file import as_read

FIELD_DEFAULTS: Mapping[str, Any] = {"pose": "Unspecified", "truncated": 0, "occluded": 0}
"""What an object is where it does not say otherwise."""

_READ = ("name", "difficult", "bndbox")
_DEEPEST = 8
"""Elements in elements: VOC has three, parts with boxes; a file made to harm may have thousands."""


def read_fields(element: Element) -> dict[str, Any]:
    """What is neither read as the object itself, nor empty, nor VOC's default."""
    said = _content(element, _DEEPEST)
    if not isinstance(said, dict):
        return {}
    return {tag: v for tag, v in said.items() if tag not in _READ and v not in ("", FIELD_DEFAULTS.get(tag))}


def field_elements(tag: str, value: Any) -> list[Element]:
    """The elements of a field: several of that name for a list."""
    if isinstance(value, list):
        return [each for one in value for each in field_elements(tag, one)]
    element = Element(tag)
    if isinstance(value, dict):
        for inner, said in value.items():
            element.extend(field_elements(inner, said))
    else:
        element.text = str(value)
    return [element]


def holds_field(tag: str, value: Any) -> bool:
    """Whether an object can say that: what is read again is the same."""
    written = Element("object")
    written.extend(field_elements(tag, value))
    read = as_read(written)
    return read is not None and read_fields(read) == {tag: value}


def _content(element: Element, deepest: int) -> Any:
    """The text of an element, or by tag what its children say, a list where several have one tag."""
    if not len(element) or not deepest:
        return whole_or_text((element.text or "").strip())
    content: dict[str, list[Any]] = {}
    for child in element:
        content.setdefault(child.tag, []).append(_content(child, deepest - 1))
    return {tag: values if len(values) > 1 else values[0] for tag, values in content.items()}
