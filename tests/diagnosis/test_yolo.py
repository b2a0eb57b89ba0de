"""What the doctor says of YOLO's lines, lists and files: by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from diagnosis_files import HEIGHT, WIDTH, scene, write_text, write_yolo
from PIL import Image

from visionkit.api.doctor import doctor
from visionkit.diagnosis.findings import Examination
from visionkit.diagnosis.splits import examine_split
from visionkit.errors import UsageError
from visionkit.formats.layout import find_layout

NAMES = "train: images\nnames: [cat, dog]\n"


def dataset(root: Path, *lines: str, size: tuple[int, int] = (WIDTH, HEIGHT), yaml: str = NAMES) -> Path:
    """One picture with these lines."""
    write_text(root / "data.yaml", yaml)
    write_text(root / "labels/a.txt", "".join(f"{line}\n" for line in lines))
    (root / "images").mkdir(exist_ok=True)
    Image.new("RGB", size).save(root / "images/a.png")
    return root


def examined(root: Path) -> Examination:
    return examine_split(find_layout(root).splits["train"])


def repaired(found: Examination, name: str = "a.txt") -> str | None:
    """The label file as the repair leaves it; None where it stays as it is."""
    assert found.copy is not None
    of_file = [repair.after for repair in found.copy.repairs if repair.file.name == name]
    return of_file[0].decode() if of_file and of_file[0] is not None else None


# Of 160 x 120 px: 40 px of 160 are 0.25, 30 px of 120 are 0.25.
@pytest.mark.parametrize(
    ("line", "code", "after"),
    [
        ("1 80 60 40 30", "VK216", "1 0.5 0.5 0.25 0.25\n"),
        ("1 20 30 80 30 80 90", "VK216", "1 0.125 0.25 0.5 0.25 0.5 0.75\n"),
        ("1 1.05 0.5 0.25 0.25", "VK217", "1 0.9625 0.5 0.075 0.25\n"),  # 0.925 .. 1.175, of which 0.925 .. 1 is left
        ("0 0.5 0.5 1.5 0.5 0.5 0.9", "VK217", "0 0.5 0.5 1 0.5 0.5 0.9\n"),
        ("1 0.5 0.5 0.25 0.25 0.9", "VK218", "1 0.5 0.5 0.25 0.25\n"),
        ("1 0.5 0.5 0.25 0.25 7", "VK218", ""),
        ("1 0.5 0.5 0.25", "VK218", ""),
        ("dog 0.5 0.5 0.25 0.25", "VK103", "1 0.5 0.5 0.25 0.25\n"),
        ("cow 0.5 0.5 0.25 0.25", "VK105", ""),
        ("2 0.5 0.5 0.25 0.25", "VK105", ""),
        ("1.5 0.5 0.5 0.25 0.25", "VK105", ""),
        ("1 0.5 0.5 -0.25 0.25", "VK203", "1 0.5 0.5 0.25 0.25\n"),
        ("1 0.5 inf 0.25 0.25", "VK202", ""),
        ("1 0.5 here 0.25 0.25", "VK201", ""),
        ("1 0.1 0.1 0.5 nan 0.5 0.9", "VK303", ""),
        ("1 0.5 0.5 0.25 0", "VK204", ""),
        ("1 1.5 0.5 0.25 0.25", "VK205", ""),
        ("1 0.9 0.5 0.4 0.25", "VK206", "1 0.85 0.5 0.3 0.25\n"),  # 0.7 .. 1.1
    ],
)  # fmt: skip
def test_a_line(tmp_path: Path, line: str, code: str, after: str) -> None:
    sound = "0 0.2 0.2 0.1 0.1"
    found = examined(dataset(tmp_path, sound, line))
    (finding,) = [finding for finding in found.findings if finding.severity != "note"]
    assert (finding.code, finding.item, finding.repaired) == (code, "line 2", True)
    assert finding.file == tmp_path / "labels/a.txt"
    assert repaired(found) == f"{sound}\n{after}"


def test_scores_behind_polygons_go_where_all_have_one(tmp_path: Path) -> None:
    """A line that lost one of its values looks as if it had a score."""
    polygons = [f"1 0.1 0.1 0.5 0.1 0.5 0.{number}" for number in range(2, 10)]
    found = examined(dataset(tmp_path / "scored", *(f"{line} 0.75" for line in polygons)))
    assert {finding.code for finding in found.findings if finding.severity != "note"} == {"VK218"}
    assert repaired(found) == "".join(f"{line}\n" for line in polygons)
    lost = f"{polygons[0]} 0.5"
    found = examined(dataset(tmp_path / "lost", *polygons, lost))
    assert repaired(found) == "".join(f"{line}\n" for line in polygons)


def test_a_sound_line_stays_as_it_is_written(tmp_path: Path) -> None:
    odd = "1.0\t0.50  .5 2.5e-1 0.25"
    found = examined(dataset(tmp_path, odd, "0 0.5 0.5 0.2 0", "0 0.2 0.2 0.1 0.1"))
    assert repaired(found) == f"{odd}\n0 0.2 0.2 0.1 0.1\n"


def test_the_same_line_twice(tmp_path: Path) -> None:
    found = examined(dataset(tmp_path, *["0 0.2 0.2 0.1 0.1"] * 2, "1 0.5 0.5 0.2 0.2"))
    (finding,) = found.findings
    assert (finding.code, finding.item, finding.fact) == ("VK213", "line 2", "lies on line 1")


@pytest.mark.parametrize(
    ("lines", "read_as"),
    [
        # Of left, top, width and height 100 .. 150 as a centre reaches beyond 160; as corners they are inverted.
        ([f"0 {x} {x} 50 40" for x in (0, 10, 20, 30, 40, 50, 60, 70, 100)], "left, top, width and height"),
        ([f"0 {x} {x} {x + 40} {x + 30}" for x in range(0, 90, 10)], "corners"),
    ],
)
def test_how_pixels_are_meant_all_lines_tell(tmp_path: Path, lines: list[str], read_as: str) -> None:
    found = examined(dataset(tmp_path, *lines, size=(160, 160)))
    told = [finding for finding in found.findings if finding.code == "VK216"]
    assert len(told) == 9
    assert all(finding.fact.endswith(f"read as {read_as}") and finding.repaired for finding in told)
    assert not [finding for finding in found.findings if finding.severity == "error" and finding.code != "VK216"]


def test_pixels_that_fit_no_reading_stay_and_so_does_the_error(tmp_path: Path) -> None:
    found = examined(dataset(tmp_path, "0 500 500 600 20", "1 0.5 0.5 0.2 0.2"))
    told = [(finding.code, finding.repaired) for finding in found.findings if finding.severity == "error"]
    assert told == [("VK216", False)]
    assert repaired(found) is None


def test_corners_in_place_of_width_and_height(tmp_path: Path) -> None:
    # As a centre and sides half of them leave the image: of the first 0 - 0.2 / 2 lies left of it.
    lines = [f"{i % 2} {0.05 * i:.2f} {0.05 * i:.2f} {0.05 * i + 0.2:.2f} {0.05 * i + 0.3:.2f}" for i in range(12)]
    found = examined(dataset(tmp_path, *lines))
    assert {finding.code for finding in found.findings} == {"VK208"}
    # 0.10 .. 0.30 and 0.10 .. 0.40: centre 0.2 and 0.25, sides 0.2 and 0.3.
    assert (repaired(found) or "").splitlines()[2] == "0 0.2 0.25 0.2 0.3"


def test_images_and_label_files_that_lack_each_other(tmp_path: Path) -> None:
    root = dataset(tmp_path, "0 0.2 0.2 0.1 0.1", "1 0.5 0.5 0.2 0.2")
    Image.new("RGB", (WIDTH, HEIGHT)).save(root / "images/b.png")
    write_text(root / "labels/c.txt", "0 0.2 0.2 0.1 0.1\n")
    found = examined(root)
    assert [(f.code, f.file.name, f.repaired) for f in found.findings] == [
        ("VK006", "b.png", False),
        ("VK007", "c.txt", True),
    ]
    (root / "labels/a.txt").unlink()
    assert [f.code for f in examined(root).findings if f.severity == "error"] == ["VK005"]


def test_lists(tmp_path: Path) -> None:
    root = dataset(tmp_path, "0 0.2 0.2 0.1 0.1", "1 0.5 0.5 0.2 0.2", yaml="train: train.txt\nnames: [cat, dog]\n")
    lines = ["./images/a.png", "../outside.png", "images/gone.png", str(root / "images/a.png")]
    write_text(root / "train.txt", "\n".join(lines))
    found = examined(root)
    assert [(f.code, f.file.name, f.item) for f in found.findings] == [
        ("VK403", "train.txt", "line 2"),
        ("VK402", "train.txt", "line 3"),
    ]
    # The whole path would lead the copy back to the old picture.
    assert repaired(found, "train.txt") == "./images/a.png\nimages/a.png"


def test_a_copy_of_a_dataset_whose_yaml_names_its_folder(tmp_path: Path) -> None:
    root = dataset(tmp_path / "data", "0 0.2 0.2 0.1 0.1", "1 0.5 0.5 0.2 0")
    yaml = write_text(tmp_path / "mine.yaml", "path: data\ntrain: images\nnames: {0: cat, 1: dog}\n")
    found = doctor(yaml, fix=tmp_path / "copy", look_at_images=False)
    assert found.changed == 1
    copy = find_layout(tmp_path / "copy/mine.yaml").splits["train"].read()
    assert [image.path for image in copy.images] == [tmp_path / "copy/images/a.png"]
    assert copy.object_count == 1
    assert copy.classes.names == ("cat", "dog")
    assert (root / "labels/a.txt").read_text().count("\n") == 2


def test_images_elsewhere_cannot_be_mirrored(tmp_path: Path) -> None:
    dataset(tmp_path / "elsewhere", "0 0.2 0.2 0.1 0.1")
    yaml = write_text(tmp_path / "data/mine.yaml", f"train: {tmp_path / 'elsewhere/images'}\nnames: [cat]\n")
    with pytest.raises(UsageError, match=r"lies outside of .*, and a repaired copy mirrors that folder") as caught:
        doctor(yaml, fix=tmp_path / "copy", look_at_images=False)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "copy").exists()


def test_names_that_are_nearly_alike(tmp_path: Path) -> None:
    root = write_yolo(tmp_path, {"train": scene(6, "t"), "val": scene(2, "v")})
    write_text(root / "data.yaml", "train: images/train\nval: images/val\nnames: [Traffic light, traffic  light]\n")
    told = [(f.code, f.item, f.fact) for f in doctor(root, look_at_images=False).findings if f.code == "VK110"]
    assert told == [("VK110", "class traffic  light", "is named nearly as Traffic light")]
