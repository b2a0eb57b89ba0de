"""Classes, sizes and splits of a whole dataset: by hand."""

from pathlib import Path

from coco_referee import truth_of, truth_with

from visionkit.diagnosis.balance import compare_categories, weigh_classes
from visionkit.diagnosis.findings import Examination
from visionkit.formats.records import AnnotatedImages

CATEGORIES = ((1, "cell"), (2, "rare"))
SOURCE = Path("data")


def images(cells: int, rare: int, side: int = 50) -> AnnotatedImages:
    rows = [{"bbox": [0, 0, side, side], "category_id": 1}] * cells + [
        {"bbox": [0, 0, side, side], "category_id": 2}
    ] * rare
    return truth_of(truth_with(*rows, categories=CATEGORIES))


def told(**splits: AnnotatedImages) -> list[tuple[str, str, str]]:
    return [(f.code, f.item, f.fact) for f in weigh_classes(splits, SOURCE, image_size=640)]


def test_a_balanced_dataset_has_no_finding() -> None:
    assert told(train=images(50, 40), val=images(20, 10)) == []


def test_a_class_with_few_objects() -> None:
    assert told(train=images(50, 9)) == [("VK501", "class rare", "has 9 objects in train")]
    assert told(train=images(50, 1))[0] == ("VK501", "class rare", "has 1 object in train")


def test_a_class_that_a_split_lacks() -> None:
    assert told(train=images(50, 40), val=images(20, 0)) == [
        ("VK502", "class rare", "has no object in val, 40 elsewhere")
    ]


def test_unbalanced_classes() -> None:
    # 1000 / 10 = 100 to 1.
    assert told(train=images(1000, 10)) == [("VK503", "class cell", "has 1000 objects in train, rare has 10")]
    assert told(train=images(999, 10)) == []


def test_tiny_objects() -> None:
    # The images are 640 px wide: at 640 px nothing is scaled. At 320 px sides of 15 px become 7.5.
    train = images(30, 20, side=15)
    assert weigh_classes({"train": train}, SOURCE, 640) == []
    (finding,) = weigh_classes({"train": train}, SOURCE, 320)
    assert (finding.code, finding.fact) == ("VK504", "50 of 50 objects have a side below 8 px at 320 px")


def examination(name: str, *categories: tuple[int, str]) -> Examination:
    rows = [{"id": category_id, "name": category} for category_id, category in categories]
    return Examination(Path(f"{name}.json"), repaired={"categories": rows})


def test_categories_that_differ_between_splits() -> None:
    train = examination("train", (1, "cat"), (2, "dog"))
    val = examination("val", (1, "dog"), (2, "cat"), (3, "cow"))
    assert [(f.code, f.item, f.fact) for f in compare_categories({"train": train, "val": val})] == [
        ("VK107", "category 1", "is 'dog' in val and 'cat' in train"),
        ("VK107", "category 2", "is 'cat' in val and 'dog' in train"),
        ("VK107", "category 3", "is 'cow' in val and not listed in train"),
    ]
    assert compare_categories({"train": train, "val": examination("val", (2, "dog"), (1, "cat"))}) == []
