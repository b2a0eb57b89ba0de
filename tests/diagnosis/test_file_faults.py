"""Faults put on purpose into YOLO, VOC and masks are found, nothing else is called one, and the repaired copy is sound;
and a sound dataset of any format has no finding at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from diagnosis_file_faults import (
    MASK_FILES,
    VOC_FILES,
    VOC_OBJECTS,
    YOLO_FILES,
    YOLO_LINES,
    Fault,
    Line,
    Way,
    damage,
    score,
)
from diagnosis_files import (
    PLACES,
    Splits,
    scene,
    splits,
    write_masks,
    write_text,
    write_voc,
    write_voc_masks,
    write_yolo,
)
from reference_data import reference_data

from visionkit.api.convert import convert
from visionkit.api.doctor import doctor
from visionkit.api.undo_repair import undo_repair
from visionkit.diagnosis.findings import Finding
from visionkit.diagnosis.splits import examine_split
from visionkit.formats.layout import find_layout

EACH = 10
"""Faults of a kind."""

Damage = Callable[[Path, Splits, int], list[Fault]]
FORMATS: dict[str, tuple[Callable[..., Path], Damage]] = {
    "YOLO": (write_yolo, lambda root, data, each: damage(root, data["train"], YOLO_LINES, YOLO_FILES, each=each)),
    "VOC": (
        write_voc,
        lambda root, data, each: damage(
            root, data["train"], VOC_OBJECTS, VOC_FILES, each=each, item="object", suffix=".xml"
        ),
    ),
    "masks": (write_masks, lambda root, data, each: damage(root, data["train"], {}, MASK_FILES, each=each)),
}
ROWS: dict[str, dict[str, tuple[str, Way]]] = {"YOLO": YOLO_LINES, "VOC": VOC_OBJECTS, "masks": {}}
FILES = {"YOLO": YOLO_FILES, "VOC": VOC_FILES, "masks": MASK_FILES}


def pictures_needed(name: str, each: int) -> int:
    """Faults in rows lie two to a picture, others one; and a few pictures stay sound."""
    return each * len(ROWS[name]) // 2 + each * len(FILES[name]) + 5


def examined(root: Path, split: str = "train") -> list[Finding]:
    return examine_split(find_layout(root).splits[split]).findings


@pytest.mark.parametrize("name", FORMATS)
def test_faults_of_every_kind(name: str, tmp_path: Path) -> None:
    write, spoil = FORMATS[name]
    data = {"train": scene(pictures_needed(name, EACH), "t")}
    root = write(tmp_path / "data", data)
    assert examined(root) == []
    faults = spoil(root, data, EACH)
    kinds, recall, precision = score(faults, examined(root))
    for kind, (count, found) in kinds.items():
        print(f"{name:6} {kind:24} {found:>3} of {count:>3}")
    print(f"{name}: recall {recall:.3f}, precision {precision:.3f} over {len(faults)} faults")
    assert recall >= 0.95
    assert precision >= 0.98


UNMENDED = {
    "YOLO": set(),
    "VOC": set(),
    "masks": {"VK305", "VK311"},  # only their author knows what the pixels are
}
NO_ERRORS = {"VK006", "VK220", "VK312"}
"""What is odd, and may be meant."""


@pytest.mark.parametrize("name", FORMATS)
def test_the_repaired_copy_is_sound_and_can_be_taken_back(name: str, tmp_path: Path) -> None:
    write, spoil = FORMATS[name]
    data = {"train": scene(pictures_needed(name, 2), "t"), "val": scene(3, "v")}
    root = write(tmp_path / "data", data)
    spoil(root, data, 2)
    before = {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    found = doctor(root, fix=tmp_path / "copy", look_at_images=False)
    assert {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()} == before

    left = {finding.code for split in ("train", "val") for finding in examined(tmp_path / "copy", split)}
    assert left == {f.code for f in found.findings if not f.repaired and f.code < "VK5"}
    assert left <= UNMENDED[name] | NO_ERRORS
    read = find_layout(tmp_path / "copy").splits["train"].read(skip_bad=bool(UNMENDED[name]))
    # Every sound object is kept: two faults of each kind, and those of these kinds take an object, an image, with them.
    if name != "masks":
        gone = {"VK105", "VK201", "VK202", "VK204", "VK205"}
        lines = sum(2 for code, _ in ROWS[name].values() if code in gone) + 2 * (name == "YOLO")  # and a value lost
        images = {"VK001", "VK005", "VK402", "VK403", "VK404"}
        lost = sum(2 for code, *_ in FILES[name].values() if code in images)
        unlabelled = 2 * PLACES * (name == "YOLO")  # of labels that were lost
        assert len(read.images) == len(data["train"]) - lost
        assert read.object_count == PLACES * len(read.images) - lines - unlabelled

    undone = undo_repair(tmp_path / "copy", tmp_path / "copy/repairs/train.json", tmp_path / "old")
    old = {path.relative_to(tmp_path / "old") for path in (tmp_path / "old").rglob("*") if path.is_file()}
    assert undone.same_bytes
    assert old
    for path in old:
        assert (tmp_path / "old" / path).read_bytes() == before[path]


def test_objects_and_masks_of_one_folder(tmp_path: Path) -> None:
    data = {"train": scene(3, "t")}
    root = write_voc_masks(write_voc(tmp_path / "data", data), data)
    VOC_OBJECTS["far outside"][1](Line(root, "train", data["train"][0], 1))
    (root / "SegmentationClass/t001.png").write_bytes(b"nothing")
    found = doctor(root, fix=tmp_path / "copy", look_at_images=False)
    told = [(f.code, f.file.name, f.repaired) for f in found.findings if f.code < "VK5"]
    assert told == [("VK205", "t000.xml", True), ("VK306", "t001.png", True)]
    copy = find_layout(tmp_path / "copy")
    assert copy.masks is not None
    assert [len(layout.splits["train"].read().images) for layout in (copy, copy.masks)] == [3, 2]
    assert {file.name for file in (tmp_path / "copy/repairs").iterdir()} == {"train.json", "masks-train.json"}


WRITERS = {"YOLO": write_yolo, "VOC": write_voc, "masks": write_masks, "VOC masks": write_voc_masks}


@pytest.mark.parametrize("name", WRITERS)
def test_a_sound_dataset_has_no_finding(name: str, tmp_path: Path) -> None:
    root = WRITERS[name](tmp_path / "data", splits(12, 4), real=True)
    assert doctor(root).findings == ()


@pytest.mark.parametrize("to", ["coco", "yolo", "voc", "labelme", "cvat"])
def test_what_convert_writes_has_no_finding(to: str, sound: Path, tmp_path: Path) -> None:
    convert(sound, tmp_path / "out", to=to)
    assert doctor(tmp_path / "out").findings == ()


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_voc(tmp_path_factory.mktemp("sound") / "data", splits(12, 4), real=True)


def errors(found: Sequence[Finding]) -> list[tuple[str, str]]:
    return [(finding.code, finding.fact) for finding in found if finding.severity == "error"]


@pytest.mark.parametrize("to", ["yolo", "voc"])
def test_real_boxes_have_no_false_errors(to: str, tmp_path: Path) -> None:
    root = reference_data("blood-cells")
    val = f"{{images: {root / 'images'}, annotations: {root / 'annotations/val.json'}}}"
    convert(write_text(tmp_path / "val.yaml", f"train: {val}\n"), tmp_path / "out", to=to)
    assert errors(examined(tmp_path / "out")) == []


def test_real_masks_have_no_false_errors() -> None:
    root = reference_data("camvid")
    assert errors(examined(root, "val")) == []
