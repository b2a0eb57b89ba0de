"""A folder per class -> records: `train/CLASS/*.jpg`, `val/CLASS/*.jpg`, `test/CLASS/*.jpg`.

A folder's name is its class. Ids are made: images count from 1 in the order of their classes and paths, categories from
1 in the order of their names, those of all splits together. An image's one annotation has the image's id and covers it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from visionkit.classes import ClassTable
from visionkit.errors import DataError
from visionkit.formats.dataset_files import entries, files_below, is_one_line
from visionkit.formats.dataset_layout import DatasetLayout, Split, split_folders
from visionkit.formats.findings import Findings, shown
from visionkit.formats.image_files import upright_size
from visionkit.formats.records import AnnotatedImages, Annotation, ImageRecord
from visionkit.imaging.header import IMAGE_SUFFIXES

OTHER_FILES_REMARK = "files in class folders that are no images, not read"
EMPTY_CLASSES_REMARK = "classes without an image"

_NOT_CLASSES = {"images", "labels", "annotations", "masks"}
"""Folders that belong to other layouts."""


class ClassFolders(NamedTuple):
    """The folder of one split, and those of all splits, whose folders make the class table."""

    folder: Path
    all_folders: tuple[Path, ...]

    def read(self, *, skip_bad: bool = False) -> AnnotatedImages:
        """The split by the rules above; images may also lie in folders below that of their class."""
        findings = Findings(self.folder, skip_bad)
        classes = _class_table(self.all_folders)
        images: list[ImageRecord] = []
        empty = set(classes.names)
        for image_id, (name, path) in enumerate(self._images(findings), 1):
            file_name = path.relative_to(self.folder).as_posix()
            mark = findings.mark()
            size = upright_size(path, f"image {shown(file_name)}", findings)
            if findings.is_bad(mark) or size is None:
                continue
            empty.discard(name)
            category_id = classes.category_ids[classes.names.index(name)]
            box = (0.0, 0.0, float(size[0]), float(size[1]))
            whole = Annotation(image_id, category_id, box, box[2] * box[3])
            images.append(ImageRecord(image_id, file_name, path, *size, (whole,)))
        findings.refuse_errors()
        if findings.errors and not images:
            findings.refuse_nothing_left("images")
        if not images:
            raise DataError(f"{self.folder} holds no images, at least one is needed; add them or remove the folder")
        if empty:
            findings.remark(EMPTY_CLASSES_REMARK, len(empty))
        return AnnotatedImages(
            classes, tuple(images), self.folder, findings.remarks, tuple(findings.left_out), whole_images=True
        )

    def content(self) -> Iterator[bytes]:
        yield repr(_class_table(self.all_folders).names).encode("utf-8", "surrogateescape")
        for _, path in self._images(Findings(self.folder)):
            yield f"\n{path.relative_to(self.folder).as_posix()}\n".encode("utf-8", "surrogateescape")

    def _images(self, findings: Findings) -> Iterator[tuple[str, Path]]:
        """(class name, image file), class by class; hidden files, such as macOS writes, are passed over."""
        for folder in _class_folders(self.folder):
            for path in files_below(folder):
                if path.name.startswith("."):
                    continue
                if path.suffix.lower() in IMAGE_SUFFIXES:
                    yield folder.name, path
                else:
                    findings.remark(OTHER_FILES_REMARK)


def class_folders(root: Path) -> DatasetLayout | None:
    """`train/`, `val/` or `valid/`, and `test/`, each with a folder per class; at least one of them with an image."""
    found = split_folders(root, _has_class_folders)
    if not found:
        return None
    folders = tuple(found.values())
    splits: dict[str, Split] = {split: ClassFolders(folder, folders) for split, folder in found.items()}
    named = ", ".join(f"{folder.name}/" for folder in folders)
    return DatasetLayout(root, root, f"Folder-per-class layout: {named}", splits)


def _has_class_folders(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    classes = _class_folders(folder)
    return not any(path.name in _NOT_CLASSES for path in classes) and any(
        file.suffix.lower() in IMAGE_SUFFIXES for path in classes for file in entries(path)
    )


def _class_folders(folder: Path) -> list[Path]:
    return [path for path in entries(folder) if path.is_dir() and not path.name.startswith(".")]


def _class_table(folders: Iterable[Path]) -> ClassTable:
    names = sorted({path.name for folder in folders for path in _class_folders(folder)})
    for name in names:
        if not is_one_line(name):
            raise DataError(f"the class folder {shown(name)} has no name that is text on one line; rename it")
    return ClassTable.of_categories(enumerate(names, 1))
