"""Annotation files with something wrong or unusual: a correct result, or one clear line, and with `skip_bad` the rest.

Every case meets the table twice: as a file of the reference data `awkward`, where that is here, and as made by
`tests/awkward_annotations.py`.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from awkward_annotations import CHANGES, TEXTS, sound, write_awkward
from coco_referee import own_boxes, pycocotools_scores, twelve
from command_line import CommandLine
from reference_data import reference_data
from tiny import tiny_flags, tiny_settings, write_blocks

import visionkit
from visionkit.errors import DataError
from visionkit.formats.boxes import OVERHANG_REMARK
from visionkit.formats.coco import read_coco
from visionkit.formats.records import AnnotatedImages
from visionkit.metrics.coco_map import coco_scores
from visionkit.metrics.referee import coco_file

SKIP = " | --skip-bad leaves them out"
NOTHING_LEFT = "no {} would be left without those in error: "


@dataclass(frozen=True)
class Sound:
    """Is read, with these remarks."""

    remarks: dict[str, int] = field(default_factory=dict)
    objects: int = 19
    AP: float | None = 1.0


@dataclass(frozen=True)
class Bad:
    """Is refused by a line that begins so; where bad items are skipped, this many images and objects stay.

    Args:
        lines: items left out.
        of_files: only who looks at the image files sees it.
    """

    error: str
    images: int
    objects: int
    lines: int = 1
    of_files: bool = False


@dataclass(frozen=True)
class Hopeless:
    """Is refused whether bad items are skipped or not: nothing would be left, of these items; or it is no COCO."""

    error: str
    nothing_left: str = ""
    of_files: bool = False


CASES: dict[str, Sound | Bad | Hopeless] = {
    "annotation_without_bbox": Bad("annotation 2 of image 1 has no bbox, ", 3, 18),
    "annotation_without_category": Bad("annotation 2 has no category_id, ", 3, 18),
    "annotation_without_id": Bad("annotations[1] has no id, ", 3, 18),
    "annotation_without_image": Bad("annotation 2 has no image_id, ", 3, 18),
    "box_outside": Bad("annotation 1 of image 1 has bbox [1000, 1000, 50, 50] outside its 320x212 pixels, ", 3, 18),
    "box_partly_outside": Sound({OVERHANG_REMARK: 1}),
    "broken_files": Hopeless("image 1 ('truncated.jpg') cannot be read (", "images", of_files=True),
    "category_gaps": Sound(),
    "category_ids_from_zero": Sound(),
    "crowd_rle": Sound(objects=20),
    "crowd_rle_compressed": Sound(objects=20),
    "crowd_without_mask": Sound(),
    "duplicate_annotation_ids": Bad("annotations[1] has annotation id 1 again, ", 3, 18),
    # Nobody knows which of the two classes annotations of id 1 mean (1), and no class has id 2 (3 annotations).
    "duplicate_category_ids": Bad("categories[1] has category id 1 again, ", 3, 15, lines=2 + 3),
    # The same for images: 6 annotations are of id 1, which two images share, and 4 of id 2, which none has.
    "duplicate_image_ids": Bad("images[1] has image id 1 again, ", 1, 9, lines=2 + 4),
    "duplicate_image_names": Sound({"images that name the same file as another": 1}),
    "empty_annotations": Sound(objects=0, AP=None),
    "empty_file": Hopeless("is empty, "),
    "empty_images": Hopeless("lists no images, "),
    "exif_size": Sound(),
    "extra_keys": Sound(),
    "good": Sound(),
    "image_ids_from_zero": Sound(),
    "image_without_file_name": Bad("image 2 has no file_name, ", 2, 15),
    "image_without_size": Sound({"images without width and height, read from the files": 3}),
    "missing_files": Bad(
        "image 1 names 'nowhere_1.jpg', which does not exist (and 1 more like it), ", 1, 9, lines=2, of_files=True
    ),
    "nan_box": Bad("annotation 1 of image 1 has bbox [nan, 46.4, 139.6, 135.0], ", 3, 18),
    "negative_box": Bad("annotation 1 of image 1 has bbox [120, 110, -60, -50], ", 3, 18),
    "negative_category_id": Sound(),
    "no_annotations": Hopeless("has no annotations, "),
    "no_categories": Hopeless("has no categories, "),
    "no_images": Hopeless("has no images, "),
    "no_iscrowd_no_area": Sound(
        {"annotations without area, taken from mask or box": 19, "annotations without iscrowd, taken as 0": 19}
    ),
    "null_box": Bad("annotation 1 of image 1 has bbox None, ", 3, 18),
    "one_empty_image": Sound(objects=10),
    "path_traversal": Bad("image 1 has file_name '../../../../../../etc/hostname', ", 2, 13, of_files=True),
    "paths_in_names": Sound(),
    "polygon_empty": Sound({"polygons of fewer than three points left out": 1}),
    "polygon_outside": Sound(),
    "polygon_two_points": Sound({"polygons of fewer than three points left out": 1}),
    "short_box": Bad("annotation 1 of image 1 has bbox [10, 20, 30], ", 3, 18),
    "string_ids": Hopeless("categories[0] has id '1' (and 29 more like it), ", "categories"),
    "truncated": Hopeless("is not whole, valid JSON ("),
    "unknown_category": Bad("annotation 1 has the unlisted category_id 77, ", 3, 18),
    "unknown_image": Bad("annotation 1 has the unlisted image_id 77, ", 3, 18),
    "unused_category": Sound(),
    "utf8_names": Sound(),
    "wrong_size": Hopeless(
        "image 1 ('ok_1.jpg') is declared 212x320 and the upright picture is 320x212 (and 2 more like it), ",
        "images",
        of_files=True,
    ),
    "zero_area_box": Bad("annotation 1 of image 1 has bbox [50, 50, 0, 30] (and 1 more like it), ", 3, 17, lines=2),
}
# Name, and whether it takes `skip_bad`.
READABLE = [(name, isinstance(case, Bad)) for name, case in CASES.items() if not isinstance(case, Hopeless)]
# In every run of the tests one of each kind is trained on: a pass over 3 pictures takes a second.
TRAINED_EVERYWHERE = [
    ("empty_annotations", False),
    ("negative_category_id", False),
    ("utf8_names", False),
    ("crowd_rle", True),
    ("duplicate_image_ids", True),
    ("zero_area_box", True),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_awkward(tmp_path_factory.mktemp("awkward") / "made")


@pytest.fixture(params=["made", "reference"])
def awkward(request: pytest.FixtureRequest, made: Path) -> Path:
    """The folder with `images` and `annotations`."""
    return made if request.param == "made" else reference_data("awkward")


def test_no_awkward_file_is_forgotten(awkward: Path) -> None:
    assert {file.stem for file in (awkward / "annotations").glob("*.json")} == set(CASES)


def test_what_is_made_covers_the_table() -> None:
    assert set(CHANGES) | set(TEXTS) == set(CASES)
    assert len(CASES) == 49


# --- reading for training --------------------------------------------------------------------------------------------


def refusal(file: Path, images: Path | None, skip_bad: bool) -> str:
    """What a refusal says after the file's name; one line it is."""
    with pytest.raises(DataError) as caught:
        read_coco(file, images, skip_bad=skip_bad)
    message = str(caught.value)
    assert message.startswith(str(file))
    assert message.isprintable()
    return message.removeprefix(str(file)).lstrip(": ")


@pytest.mark.parametrize("name", CASES)
def test_a_file_is_read_or_refused_by_name(name: str, awkward: Path) -> None:
    file, images, case = awkward / "annotations" / f"{name}.json", awkward / "images", CASES[name]
    if isinstance(case, Sound):
        data = read_coco(file, images)
        assert (len(data.images), data.object_count, data.remarks) == (3, case.objects, case.remarks)
        assert data.left_out == ()
    else:
        message = refusal(file, images, skip_bad=False)
        assert message.startswith(case.error)
        assert message.endswith(SKIP) == (isinstance(case, Bad) or bool(case.nothing_left)), "only where it may help"


@pytest.mark.parametrize("name", CASES)
def test_bad_items_are_skipped_by_name(name: str, awkward: Path) -> None:
    file, images, case = awkward / "annotations" / f"{name}.json", awkward / "images", CASES[name]
    if isinstance(case, Sound):
        assert read_coco(file, images, skip_bad=True) == read_coco(file, images)
    elif isinstance(case, Bad):
        data = read_coco(file, images, skip_bad=True)
        assert (len(data.images), data.object_count, len(data.left_out)) == (case.images, case.objects, case.lines)
        assert all(line.startswith(f"{file}: ") and line.isprintable() for line in data.left_out)
        fact = case.error.partition(" (and ")[0].removesuffix(", ")
        assert any(line.startswith(f"{file}: {fact}, ") for line in data.left_out)
        assert data.remarks == {}
    else:
        nothing_left = NOTHING_LEFT.format(case.nothing_left) if case.nothing_left else ""
        assert refusal(file, images, skip_bad=True).startswith(nothing_left + case.error)


# --- evaluate --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("skip_bad", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_own_boxes_are_perfect_for_us_and_for_pycocotools(
    name: str, skip_bad: bool, awkward: Path, tmp_path: Path
) -> None:
    """`evaluate --predictions --annotations` looks at no image, so what is wrong with those is none of its business."""
    file, case = awkward / "annotations" / f"{name}.json", CASES[name]
    predictions = tmp_path / "own.json"
    if not isinstance(case, Sound) and not case.of_files and not (isinstance(case, Bad) and skip_bad):
        predictions.write_text("[]")
        with pytest.raises(DataError) as caught:
            visionkit.evaluate_predictions(predictions, file, skip_bad=skip_bad)
        assert case.error in str(caught.value)
        return
    truth = read_coco(file, skip_bad=skip_bad)
    predictions.write_text(json.dumps(own_boxes(truth)))
    told: list[str] = []
    scores = visionkit.evaluate_predictions(predictions, file, skip_bad=skip_bad, on_skip=told.append)
    assert (scores.AP, tuple(told)) == (case.AP if isinstance(case, Sound) else 1.0, truth.left_out)
    assert len(told) == (case.lines if isinstance(case, Bad) and not case.of_files else 0)
    if truth.object_count:  # an empty list of predictions crashes pycocotools
        assert twelve(scores) == pycocotools_scores(coco_file(truth), own_boxes(truth), "bbox")[0]


def test_predictions_on_what_was_left_out_are_left_out_too(made: Path, tmp_path: Path) -> None:
    annotations = made / "annotations" / "duplicate_image_ids.json"
    predictions = tmp_path / "own.json"
    predictions.write_text(json.dumps(own_boxes(read_coco(made / "annotations" / "good.json"))))
    with pytest.raises(DataError, match="has image id 1 again"):
        visionkit.evaluate_predictions(predictions, annotations)
    told: list[str] = []
    scores = visionkit.evaluate_predictions(predictions, annotations, skip_bad=True, on_skip=told.append)
    assert (scores.images, scores.AP) == (1, 1.0)
    # 2 images and 4 annotations of the truth; then the 6 + 4 predictions on images 1 and 2.
    assert [line.startswith(str(annotations)) for line in told] == [True] * 6 + [False] * 10
    assert told[-1].startswith(f"{predictions}: [9] has image_id 2, image ids must be among those of ")


def test_predictions_of_which_none_is_left_are_refused(made: Path, tmp_path: Path) -> None:
    predictions = tmp_path / "own.json"
    predictions.write_text('[{"image_id": 77}, 5]')
    with pytest.raises(DataError, match=r"no detections would be left without those in error: \[0\] has image_id 77"):
        visionkit.evaluate_predictions(predictions, made / "annotations" / "good.json", skip_bad=True)


# --- what is left out with what --------------------------------------------------------------------------------------


def skipped(tmp_path: Path, coco: dict[str, object]) -> tuple[AnnotatedImages, list[str]]:
    """Records, and the lines without the file's name."""
    file = tmp_path / "train.json"
    file.write_text(json.dumps(coco))
    data = read_coco(file, skip_bad=True)
    return data, [line.removeprefix(f"{file}: ") for line in data.left_out]


def test_an_item_with_several_errors_is_one_line_and_leaves_no_remark(tmp_path: Path) -> None:
    coco = sound()
    coco["annotations"][3] |= {"iscrowd": None, "area": -1, "segmentation": 7}
    data, lines = skipped(tmp_path, coco)
    assert lines == [
        "annotation 4 of image 1 has segmentation 7, polygons must be lists of finite x, y pairs within 1000000 px, "
        "with outlines of at most 4000000 px; correct or leave out the segmentation"
    ]
    assert (data.object_count, data.remarks) == (18, {})


def test_an_image_goes_with_its_annotations_and_says_how_many(tmp_path: Path) -> None:
    coco = sound()
    coco["images"][1]["width"] = "320"
    data, lines = skipped(tmp_path, coco)
    assert [image.id for image in data.images] == [1, 3]
    assert lines == [
        "image 2 has width '320' and has height 212, width and height must be whole numbers of pixels, 1 or more; "
        "correct them; left out with its 4 annotations"
    ]


def test_a_category_goes_with_its_annotations(tmp_path: Path) -> None:
    coco = sound()
    coco["categories"][3]["name"] = "cell\x1b[31mphone"
    data, lines = skipped(tmp_path, coco)
    assert data.classes.category_ids == (1, 2, 3, 5, 6, 7, 8)
    assert lines == [
        "category 4 has name 'cell\\x1b[31mphone', the name of a category must be one line of text without control "
        "characters; correct it; left out with its 1 annotation"
    ]


def test_rows_that_say_the_same_twice_leave_one(tmp_path: Path) -> None:
    coco = sound()
    coco["images"].append(coco["images"][0])
    coco["categories"].append(coco["categories"][0])
    data, lines = skipped(tmp_path, coco)
    assert (len(data.images), data.object_count) == (3, 19)
    assert [line.partition(",")[0] for line in lines] == [
        "categories[8] has category id 1 again",
        "images[3] has image id 1 again",
    ]


def test_a_file_of_which_no_annotation_would_be_left_is_refused(tmp_path: Path) -> None:
    coco = sound()
    for row in coco["annotations"]:
        row["bbox"] = None
    with pytest.raises(DataError, match="no annotations would be left without those in error: annotation 1 of image 1"):
        skipped(tmp_path, coco)


def test_with_skip_bad_damage_inside_a_picture_is_found_before_training(made: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for number in (1, 2, 3):
        whole = (made / "images" / f"ok_{number}.jpg").read_bytes()
        (tmp_path / "images" / f"ok_{number}.jpg").write_bytes(whole)
    # Its header and its end mark are whole; the tables that decoding needs are not.
    broken = bytearray((tmp_path / "images" / "ok_2.jpg").read_bytes())
    table = broken.index(b"\xff\xc4")
    broken[table + 2 : table + 40] = b"\0" * 38
    (tmp_path / "images" / "ok_2.jpg").write_bytes(broken)
    data = read_coco(made / "annotations" / "good.json", tmp_path / "images", skip_bad=True)
    assert [image.id for image in data.images] == [1, 3]
    assert "image 2 ('ok_2.jpg') cannot be read (" in data.left_out[0]
    assert data.left_out[0].endswith("; left out with its 4 annotations")


def test_annotation_id_0_counts(tmp_path: Path) -> None:
    """pycocotools takes the id for "no match" and loses the object."""
    coco = sound()
    coco["annotations"][0]["id"] = 0
    data, _ = skipped(tmp_path, coco)
    assert coco_scores(data, own_boxes(data)).AP == 1.0


def test_masks_are_not_compared_on_images_of_unknown_size(made: Path, tmp_path: Path) -> None:
    annotations, predictions = made / "annotations" / "image_without_size.json", tmp_path / "own.json"
    rows = json.loads(annotations.read_text())["annotations"]
    predictions.write_text(json.dumps([{**row, "score": 1} for row in rows]))
    with pytest.raises(DataError, match="annotation 1 of image 1 is of an image without width and height, which "):
        visionkit.evaluate_predictions(predictions, annotations, task="segm")
    assert visionkit.evaluate_predictions(predictions, annotations).AP == 1.0, "boxes need no size"


# --- training --------------------------------------------------------------------------------------------------------


def train_on(awkward: Path, name: str, skip_bad: bool, root: Path) -> None:
    """One epoch, one step, through the front door."""
    data = root / "data"
    (data / "annotations").mkdir(parents=True)
    (data / "images").symlink_to(awkward / "images", target_is_directory=True)
    for split in ("train", "val"):
        (data / "annotations" / f"{split}.json").write_bytes((awkward / "annotations" / f"{name}.json").read_bytes())
    told: list[str] = []
    result = visionkit.finetune(
        data, out=root / "run", skip_bad=skip_bad, on_skip=told.append, **tiny_settings(epochs=1)
    )
    case = CASES[name]
    lines = case.lines if isinstance(case, Bad) else 0
    assert result is not None
    assert result.epochs == 1
    assert result.left_out == len(told) == 2 * lines
    assert (result.scores["AP"] is None) == (name == "empty_annotations")
    history = [json.loads(line) for line in (root / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(math.isfinite(value) for value in history[0].values() if isinstance(value, float))
    log = (root / "run" / "log.txt").read_text()
    assert all(f"left out: {line}\n" in log for line in told)


@pytest.mark.parametrize(("name", "skip_bad"), TRAINED_EVERYWHERE)
def test_an_epoch_of_training_on_what_is_read(name: str, skip_bad: bool, made: Path, tmp_path: Path) -> None:
    train_on(made, name, skip_bad, tmp_path)


@pytest.mark.parametrize(("name", "skip_bad"), READABLE)
def test_an_epoch_of_training_on_the_reference_files(name: str, skip_bad: bool, tmp_path: Path) -> None:
    train_on(reference_data("awkward"), name, skip_bad, tmp_path)


# --- the command line and runs that go on ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset with 25 annotations too many in train, of a category nobody lists, and one image that is not there."""
    root = write_blocks(tmp_path_factory.mktemp("blocks") / "data", {"train": 4, "val": 3})
    file = root / "annotations" / "train.json"
    coco = json.loads(file.read_text())
    usual = coco["annotations"][0]
    coco["annotations"] += [{**usual, "id": 100 + n, "category_id": 77} for n in range(25)]
    coco["images"].append({"id": 999, "file_name": "gone.png"})
    file.write_text(json.dumps(coco))
    return root


def test_the_command_refuses_bad_data_and_says_what_would_help(command_line: CommandLine, blocks: Path) -> None:
    finished = command_line("finetune", "--data", blocks, *tiny_flags(epochs=1))
    assert finished.code == 2
    assert finished.error.startswith(f"{blocks / 'annotations' / 'train.json'}: image 999 names 'gone.png', which ")
    assert "annotation 100 has the unlisted category_id 77 (and 24 more like it), " in finished.error
    assert finished.error.endswith(SKIP)


def test_the_command_names_what_it_leaves_out_and_ends_with_3(
    command_line: CommandLine, blocks: Path, tmp_path: Path
) -> None:
    finished = command_line(
        "finetune", "--data", blocks, "--skip-bad", *tiny_flags(epochs=1), "--out", tmp_path / "run", "--json"
    )  # fmt: skip
    assert finished.code == 3, finished.stderr
    assert finished.json["left_out"] == 26
    told = [line for line in finished.stderr.splitlines() if line.startswith("left out: ")]
    assert len(told) == 20
    assert "image 999 names 'gone.png'" in told[0]
    assert "train: 26 items in error left out" in finished.stderr
    log = tmp_path / "run" / "log.txt"
    assert finished.stderr.splitlines()[-1] == (
        f"26 items were left out of the data; the first 20 are named above; all are named in {log}"
    )
    assert log.read_text().count("left out: ") == 26
    assert "skip_bad: true" in (tmp_path / "run" / "config.yaml").read_text()

    resumed = command_line("finetune", "--resume", tmp_path / "run")
    assert resumed.code == 3, resumed.stderr
    assert "train: 26 items in error left out" in resumed.stderr


def test_evaluate_and_augment_preview_skip_too(
    command_line: CommandLine, blocks: Path, tiny_run: object, tmp_path: Path
) -> None:
    weights = tiny_run.result.best  # type: ignore[attr-defined]
    asked = ("evaluate", "--weights", weights, "--data", blocks, "--split", "train", "--threads", 1)
    refused = command_line(*asked)
    assert (refused.code, refused.error.endswith(SKIP)) == (2, True)
    finished = command_line(*asked, "--skip-bad", "--json")
    assert (finished.code, finished.json["left_out"], finished.json["images"]) == (3, 26, 4)
    assert finished.stderr.splitlines()[-1] == "26 items were left out of the data; the first 20 are named above"

    sheet = tmp_path / "sheet.png"
    finished = command_line("augment-preview", blocks, "--imgsz", 64, "--skip-bad", "--out", sheet, "--json")
    assert (finished.code, finished.json["left_out"]) == (3, 26)
    assert sheet.is_file()

    sound = command_line("evaluate", "--weights", weights, "--data", blocks, "--threads", 1, "--skip-bad", "--json")
    assert (sound.code, sound.json["left_out"]) == (0, 0), "nothing was left out"


def test_a_run_goes_on_with_the_items_it_began_with(blocks: Path, tmp_path: Path) -> None:
    data, run = tmp_path / "data", tmp_path / "run"
    (data / "annotations").mkdir(parents=True)
    (data / "images").mkdir()
    for file in [*(blocks / "images").iterdir(), *(blocks / "annotations").iterdir()]:
        (data / file.parent.name / file.name).write_bytes(file.read_bytes())
    visionkit.finetune(data, out=run, skip_bad=True, **tiny_settings(epochs=1))
    visionkit.finetune(resume=run, dry_run=True)
    (data / "images" / "gone.png").write_bytes((data / "images" / "train_0.png").read_bytes())
    with pytest.raises(DataError, match=r"--skip-bad leaves other items of .* out than when this run began"):
        visionkit.finetune(resume=run, dry_run=True)
