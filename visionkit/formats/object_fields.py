"""What files of VOC, CVAT and LabelMe say of an object beside its class and shape, such as `truncated`.

Their readers put it into the object's `extra`, under the name of the format and without the format's defaults:
`{"voc": {"truncated": 1}}`. The writer of the same format writes it again, COCO's writes all of it; others leave it to
the side file and count it as not held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from visionkit.formats.findings import Findings, shown
from visionkit.formats.records import Annotation

FORMATS = ("voc", "cvat", "labelme")
SHAPES_DIFFER_REMARK = "objects of several shapes that say different things of them, read as the first shape says"


def as_extra(name: str, fields: Mapping[str, Any]) -> dict[str, Any] | None:
    """The `extra` of an object of which a file of that format says this."""
    return {name: fields} if fields else None


def fields_of_shapes(shapes: Sequence[Mapping[str, Any]], findings: Findings) -> Mapping[str, Any]:
    """The fields of an object from those of its shapes; a group of several shapes is the object itself, no field."""
    if any(fields != shapes[0] for fields in shapes):
        findings.remark(SHAPES_DIFFER_REMARK)
    return {key: value for key, value in shapes[0].items() if key != "group_id" or len(shapes) == 1}


def fields_to_write(annotation: Annotation, name: str, holds: Callable[[str, Any], bool]) -> dict[str, Any]:
    """The fields that an object has of a format, but for those that its files cannot hold."""
    return {key: value for key, value in _fields(annotation, name).items() if holds(key, value)}


def without_fields(annotation: Annotation, name: str, written: Mapping[str, Any]) -> Annotation:
    """The object as the side file keeps it, where its own file says the rest."""
    if not written:
        return annotation
    left = {key: value for key, value in _fields(annotation, name).items() if key not in written}
    others = {key: value for key, value in (annotation.extra or {}).items() if key != name}
    return replace(annotation, extra={**others, **(as_extra(name, left) or {})})


def fields_left(annotation: Annotation) -> Iterator[str]:
    """What of an object stands in no file but the side file, in words: `'truncated' (voc)`."""
    for name in FORMATS:
        for key in _fields(annotation, name):
            yield f"{shown(key)} ({name})"


def merged_extras(kept: Mapping[str, Any] | None, found: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What the side file kept of an object and what its own file says now, which counts where both say it."""
    extra = dict(kept or {})
    for name, fields in (found or {}).items():
        before = extra.get(name)
        extra[name] = {**before, **fields} if isinstance(before, dict) else fields
    return extra or None


def whole_or_text(text: str) -> int | str:
    """A whole number that is written as numbers are, or the text.

    >>> whole_or_text("1"), whole_or_text("01"), whole_or_text("Left")
    (1, '01', 'Left')
    """
    digits = text.removeprefix("-")
    return int(text) if digits.isdecimal() and len(digits) < 16 and str(int(text)) == text else text


def _fields(annotation: Annotation, name: str) -> Mapping[str, Any]:
    fields = (annotation.extra or {}).get(name)
    return fields if isinstance(fields, dict) else {}
