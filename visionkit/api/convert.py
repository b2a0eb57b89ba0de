"""A dataset of objects written in another format, ids and names kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from visionkit.api.datasets import say_split
from visionkit.errors import DataError
from visionkit.formats.dataset_formats import chosen_writer, format_of
from visionkit.formats.dataset_layout import DatasetLayout
from visionkit.formats.extras import About, read_with_extras
from visionkit.formats.layout import check_same_classes, find_layout
from visionkit.formats.new_dataset import Contents, new_dataset
from visionkit.formats.records import AnnotatedImages


@dataclass(frozen=True, slots=True)
class Written:
    """A dataset that was written.

    Args:
        source: what was read.
        out: the new folder.
        format: its format.
        splits: split name -> its images, as they were read and divided.
        not_held: what the format cannot hold and so is not in the new dataset, counted.
        remarks: what else was changed, counted.
        linked, copied: pictures that are hard links, and those that are copies.
        left_out: items in error that were skipped, a line each.
    """

    source: str
    out: Path
    format: str
    splits: Mapping[str, AnnotatedImages]
    not_held: Counter[str]
    remarks: Counter[str]
    linked: int
    copied: int
    left_out: tuple[str, ...] = field(default=())

    def objects_per_class(self) -> dict[str, dict[str, int]]:
        """Class name -> split name -> objects, crowd regions not counted."""
        table: dict[str, dict[str, int]] = {}
        for split, images in self.splits.items():
            name_of = dict(zip(images.classes.category_ids, images.classes.names, strict=True))
            counts = Counter(a.category_id for image in images.images for a in image.annotations if not a.iscrowd)
            for category_id, name in name_of.items():
                table.setdefault(name, {})[split] = counts[category_id]
        return table

    def to_json(self) -> dict[str, Any]:
        """The object that `visionkit convert --json` and `visionkit split --json` print."""
        splits = {name: {"images": len(s.images), "objects": s.object_count} for name, s in self.splits.items()}
        return {
            "source": self.source,
            "out": str(self.out),
            "format": self.format,
            "splits": splits,
            "per_class": self.objects_per_class(),
            "not_held": dict(self.not_held),
            "remarks": dict(self.remarks),
            "pictures": {"linked": self.linked, "copied": self.copied},
            "left_out": list(self.left_out),
        }


def convert(
    data: str | Path,
    out: str | Path,
    *,
    to: str = "coco",
    skip_bad: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Written:
    """Write a dataset in another format; the dataset itself is only read.

    Ids of categories, images and objects, names, boxes and areas are kept: in the format where it has a place for them,
    or else in `visionkit_ids.json` beside it, from which they are restored when the dataset is read again, to be
    converted back, trained on or judged by. Pictures become hard links where the file system has them, and copies
    elsewhere. What the format cannot hold is left out and counted in `not_held`.

    Args:
        data: dataset folder or YAML file, in any format with boxes or outlines of objects.
        out: the new folder.
        to: coco, yolo, voc, labelme or cvat.
        skip_bad: leave items in error out, by name, instead of refusing the dataset.

    Raises:
        UsageError: `out` exists, or there is no such format.
        DataError: there is no such dataset, it is in error, or it has no objects that these formats hold.
        VisionkitError: it cannot be written. Nothing is left of `out` then.
    """
    chosen_writer(to)
    layout = find_layout(Path(data))
    format_of(layout)
    contents = read_contents(layout, skip_bad=skip_bad, say=say)
    return write_contents(layout, contents, Path(out), to)


def read_contents(layout: DatasetLayout, *, skip_bad: bool, say: Callable[[str], None]) -> Contents:
    """All splits of a dataset with all that their files say.

    Raises:
        DataError: a file is in error, or the splits differ in their classes.
    """
    say(f"Data: {layout.describe()}")
    if layout.masks is not None:
        say(f"Not read, as it has no objects: {layout.masks.describe()}")
    splits: dict[str, AnnotatedImages] = {}
    about: dict[str, About] = {}
    for name, files in layout.splits.items():
        splits[name], about[name] = read_with_extras(files, skip_bad=skip_bad)
        say_split(name, splits[name], say)
    check_same_classes(splits)
    return Contents(splits, about)


def write_contents(layout: DatasetLayout, contents: Contents, out: Path, to: str) -> Written:
    """Write a dataset into a new folder. Raises as `convert`."""
    write = chosen_writer(to)
    names = next(iter(contents.splits.values())).classes.names
    if to != "coco" and len({name.strip() for name in names}) < len(names):
        raise DataError(f"{layout.root} has classes that differ only in blanks, which {to} loses; rename them")
    with new_dataset(out) as new:
        write(contents, new)
    return Written(
        source=layout.describe(),
        out=out,
        format=to,
        splits=contents.splits,
        not_held=+new.not_held,
        remarks=+new.remarks,
        linked=new.linked,
        copied=new.copied,
        left_out=tuple(line for split in contents.splits.values() for line in split.left_out),
    )
