"""Datasets of masks, by number or colour: the project's own folders, and Pascal VOC's for segmentation."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from visionkit.classes import ClassTable
from visionkit.formats.dataset_files import entries, files_below, read_bytes, read_lines
from visionkit.formats.dataset_layout import SPLITS, DatasetLayout, Split
from visionkit.formats.findings import Findings, shown
from visionkit.formats.mask_images import MaskClasses, MaskedImage, read_mask_classes, read_masked_images
from visionkit.formats.records import AnnotatedImages
from visionkit.formats.voc import may_name, name_in
from visionkit.imaging.header import IMAGE_SUFFIXES

LONELY_REMARK = "masks without an image, not read"

CLASSES = "classes.json"
_MASK = "a mask"
_LIST = "a list of image names"
_NAME_RULE = "a list has one image name a line, without folders; correct it"
_IMAGE_RULE = "every listed image must lie in JPEGImages; add the file or remove the line"

# The 20 classes of the challenge after background, in the order of the palette of its masks.
VOC_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


class MaskFolders(NamedTuple):
    """The images of a split, their masks, and the file that names the classes."""

    images: Path
    masks: Path
    classes: Path

    def read(self, *, skip_bad: bool = False) -> AnnotatedImages:
        """Every image of the folder and those below it, with the mask of the same path, whatever its suffix."""
        findings = Findings(self.images, skip_bad)
        classes = read_mask_classes(self.classes)
        return read_masked_images(self.pairs(findings), classes, self.images, findings=findings)

    def content(self) -> Iterator[bytes]:
        yield read_bytes(self.classes, "a list of classes")
        yield from _content(self.pairs(Findings(self.images)))

    def pairs(self, findings: Findings) -> list[MaskedImage]:
        """Every image with its mask; masks without an image are remarked."""
        pairs, lonely = self.pairs_and_lonely()
        if lonely:
            findings.remark(LONELY_REMARK, len(lonely))
        return pairs

    def pairs_and_lonely(self) -> tuple[list[MaskedImage], list[Path]]:
        """Every image with its mask, and the masks without an image."""
        masks = {path.relative_to(self.masks).with_suffix(""): path for path in _pictures_below(self.masks)}
        names = [path.relative_to(self.images) for path in _pictures_below(self.images)]
        lonely = masks.keys() - {name.with_suffix("") for name in names}
        pairs = [MaskedImage(name.as_posix(), self.images / name, masks.get(name.with_suffix(""))) for name in names]
        return pairs, sorted(masks[name] for name in lonely)


def mask_folders(root: Path) -> DatasetLayout | None:
    """`images/{train,val,test}/`, `masks/{train,val,test}/` and `classes.json`."""
    folders = {split: (root / "images" / split, root / "masks" / split) for split in SPLITS}
    splits: dict[str, Split] = {
        split: MaskFolders(images, masks, root / CLASSES)
        for split, (images, masks) in folders.items()
        if images.is_dir() and masks.is_dir()
    }
    if not splits or not (root / CLASSES).is_file():
        return None
    return DatasetLayout(root, root, f"Masks: {', '.join(splits)} of images/ and masks/", splits)


class VocMasks(NamedTuple):
    """A list of Pascal VOC's images for segmentation; None for all that have a mask."""

    root: Path
    names: Path | None

    @property
    def source(self) -> Path:
        return self.names or self.root

    def read(self, *, skip_bad: bool = False) -> AnnotatedImages:
        """The listed images with the indices of their palette masks. The classes are those of a `classes.json`, where
        there is one, and else the challenge's, background first."""
        findings = Findings(self.source, skip_bad)
        return read_masked_images(self.pairs(findings), self.mask_classes(), self.source, findings=findings)

    def content(self) -> Iterator[bytes]:
        yield repr(self.mask_classes()).encode()
        yield from _content(self.pairs(Findings(self.source)))

    def mask_classes(self) -> MaskClasses:
        """Those of a `classes.json`, or the challenge's."""
        if (self.root / CLASSES).is_file():
            return read_mask_classes(self.root / CLASSES)
        return MaskClasses(ClassTable(tuple(range(len(VOC_CLASSES))), VOC_CLASSES))

    def files(self) -> tuple[dict[str, Path], dict[str, Path]]:
        """Name -> image file, and name -> mask."""
        folders = self.root / "JPEGImages", self.root / "SegmentationClass"
        images, masks = ({path.stem: path for path in _pictures_in(folder)} for folder in folders)
        return images, masks

    def pairs(self, findings: Findings) -> list[MaskedImage]:
        """The images that are meant, with their masks."""
        images, masks = self.files()
        pairs = []
        for name in self._listed(findings) if self.names else sorted(masks):
            if name in images:
                pairs.append(MaskedImage(images[name].name, images[name], masks.get(name)))
            else:
                findings.error(f"image {shown(name)} has no file", _IMAGE_RULE)
        return pairs

    def _listed(self, findings: Findings) -> Iterable[str]:
        assert self.names is not None
        names = []
        for number, line in enumerate(read_lines(self.names, _LIST), 1):
            if not may_name(line):
                findings.error(f"line {number} of {self.names.name} is {shown(line)}", _NAME_RULE)
            elif line:
                names.append(name_in(line))
        return dict.fromkeys(names)


def voc_masks(root: Path) -> DatasetLayout | None:
    """`JPEGImages/`, `SegmentationClass/*.png`, `ImageSets/Segmentation/{train,val,test}.txt`; where there are no lists
    all images with masks are train."""
    if not ((root / "JPEGImages").is_dir() and (root / "SegmentationClass").is_dir()):
        return None
    lists = {split: root / "ImageSets" / "Segmentation" / f"{split}.txt" for split in SPLITS}
    splits: dict[str, Split] = {split: VocMasks(root, file) for split, file in lists.items() if file.is_file()}
    splits = splits or {"train": VocMasks(root, None)}
    return DatasetLayout(root, root, f"Pascal VOC masks: {', '.join(splits)} of SegmentationClass/", splits)


def _content(pairs: Iterable[MaskedImage]) -> Iterator[bytes]:
    for pair in pairs:
        yield f"\n{pair.file_name}\n".encode("utf-8", "surrogateescape")
        yield read_bytes(pair.mask, _MASK) if pair.mask is not None and os.path.isfile(pair.mask) else b""


def _pictures_below(folder: Path) -> list[Path]:
    return _pictures(files_below(folder))


def _pictures_in(folder: Path) -> list[Path]:
    return _pictures(entries(folder))


def _pictures(paths: Iterable[Path]) -> list[Path]:
    """Of files those that are pictures and not hidden ones, such as macOS writes."""
    return [path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")]
