"""How much data there is."""

from pathlib import Path

import pytest

from visionkit.advice.size import ClassCount, Size, size_of
from visionkit.classes import ClassTable
from visionkit.formats.records import AnnotatedImages, Annotation, ImageRecord, MaskFile


def image(number: int, *categories: int, crowd: int | None = None, pixels: tuple[int, ...] = ()) -> ImageRecord:
    objects = [Annotation(i, category, (0, 0, 4, 4), 16) for i, category in enumerate(categories)]
    if crowd is not None:
        objects.append(Annotation(99, crowd, (0, 0, 4, 4), 16, iscrowd=True))
    mask = MaskFile(Path("m.png"), pixels) if pixels else None
    return ImageRecord(number, f"{number}.png", None, 8, 8, tuple(objects), mask)


def annotated(*images: ImageRecord, names: tuple[str, ...] = ("cat", "dog", "owl")) -> AnnotatedImages:
    return AnnotatedImages(ClassTable(tuple(range(1, len(names) + 1)), names), images, Path("a.json"))


def test_objects_and_images_of_each_class_without_crowds() -> None:
    size = size_of(annotated(image(1, 1, 1, 2), image(2, 1, crowd=3), image(3)))
    assert size == Size(3, (ClassCount("cat", 3, 2), ClassCount("dog", 1, 1), ClassCount("owl", 0, 0)))
    assert size.rarest.name == "owl"


def test_of_equals_the_first_is_the_rarest() -> None:
    assert size_of(annotated(image(1, 1, 2, 2, 3))).rarest.name == "cat"


def test_of_masks_images_count_because_objects_are_not_told_apart() -> None:
    masks = annotated(image(1, pixels=(60, 4, 0)), image(2, pixels=(64, 0, 0)), names=("background", "road", "car"))
    size = size_of(masks, background=True)
    # Background is everywhere and says nothing.
    assert size.classes == (ClassCount("road", None, 1), ClassCount("car", None, 0))
    assert size.rarest.examples == 0


def test_an_empty_split_has_nothing() -> None:
    size = size_of(annotated())
    assert (size.images, size.rarest) == (0, ClassCount("cat", 0, 0))


@pytest.mark.parametrize("background", [False, True])
def test_a_single_class_is_never_left_out(background: bool) -> None:
    assert len(size_of(annotated(image(1, 1), names=("cat",)), background=background).classes) == 1


def test_json() -> None:
    assert size_of(annotated(image(1, 1), names=("cat", "dog"))).to_json() == {
        "images": 1,
        "rarest": "dog",
        "classes": {"cat": {"objects": 1, "images": 1}, "dog": {"objects": 0, "images": 0}},
    }
