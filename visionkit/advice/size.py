"""How much data there is: the rarest class decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from visionkit.formats.records import AnnotatedImages


@dataclass(frozen=True, slots=True)
class ClassCount:
    """What one class has in a split.

    Args:
        objects: without crowd regions; None where pixels have classes and objects are not told apart.
        images: with at least one of them.
    """

    name: str
    objects: int | None
    images: int

    @property
    def examples(self) -> int:
        """Objects, or where these are not told apart images."""
        return self.images if self.objects is None else self.objects


@dataclass(frozen=True, slots=True)
class Size:
    """How much data a split has.

    Args:
        classes: in the order of labels.
    """

    images: int
    classes: tuple[ClassCount, ...]

    @property
    def rarest(self) -> ClassCount:
        """The class with the fewest examples, the first of equals."""
        return min(self.classes, key=lambda count: count.examples)

    def to_json(self) -> dict[str, Any]:
        rows = {count.name: {"objects": count.objects, "images": count.images} for count in self.classes}
        return {"images": self.images, "rarest": self.rarest.name, "classes": rows}


def size_of(annotated: AnnotatedImages, background: bool = False) -> Size:
    """Counts of a split.

    Args:
        background: the first class is what belongs to no other; it is everywhere and does not count.
    """
    table = annotated.classes
    objects = [0] * len(table)
    images = [0] * len(table)
    for record in annotated.images:
        if record.mask is not None:
            present = {label for label, pixels in enumerate(record.mask.pixels[: len(table)]) if pixels}
        else:
            labels = [table.label(each.category_id) for each in record.annotations if not each.iscrowd]
            present = set(labels)
            for label in labels:
                objects[label] += 1
        for label in present:
            images[label] += 1
    masks = any(record.mask is not None for record in annotated.images)
    counts = [
        ClassCount(name, None if masks else objects[label], images[label]) for label, name in enumerate(table.names)
    ]
    return Size(len(annotated.images), tuple(counts[1:] if background and len(counts) > 1 else counts))
