"""Results to other tools' tables and back: nothing changes on the way but what is said to."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import visionkit
from visionkit.api import result_conversions
from visionkit.classes import ClassTable
from visionkit.errors import DataError, UsageError
from visionkit.formats.object_shapes import encoded
from visionkit.predict.csv_writer import COLUMNS, csv_writer
from visionkit.predict.masks import decoded_mask
from visionkit.result import Result, Task

CLASSES = ClassTable((3, 17), ("car", "cat"))


def result_of(boxes: int, path: str = "a.jpg", masks: bool = False) -> Result:
    """So many detections on 64x48 px, the best first, of numbers with all their digits."""
    random = np.random.default_rng(boxes)
    corners = random.uniform(0, 20, (boxes, 2))
    found = Result(
        path=path,
        width=64,
        height=48,
        classes=CLASSES,
        boxes=np.hstack([corners, corners + random.uniform(1, 20, (boxes, 2))]).astype(np.float32),
        scores=np.sort(random.uniform(0, 1, boxes).astype(np.float32))[::-1],
        labels=random.integers(0, 2, boxes),
    )
    if not masks:
        return found
    planes = random.uniform(size=(boxes, 48, 64)) > 0.5
    return replace(found, masks=tuple(encoded(plane, 0, 0, 64, 48) for plane in planes))


def assert_same(one: Result, other: Result, pixels: float = 0.0) -> None:
    assert (one.path, one.width, one.height, one.task) == (other.path, other.width, other.height, other.task)
    np.testing.assert_allclose(one.boxes, other.boxes, rtol=0, atol=pixels)
    for name in ("boxes", "scores", "labels"):
        assert getattr(one, name).dtype == getattr(other, name).dtype
    assert (one.scores == other.scores).all()
    assert (one.labels == other.labels).all()
    assert one.masks == other.masks
    assert one.classes == other.classes


@dataclass
class StandIn:
    """What is used here of `supervision.Detections`, by its documentation. The package itself brings another OpenCV,
    which cannot be installed beside the headless one."""

    xyxy: NDArray[np.float32]
    mask: NDArray[np.bool_] | None = None
    confidence: NDArray[np.float32] | None = None
    class_id: NDArray[np.int64] | None = None
    tracker_id: NDArray[np.int64] | None = None
    data: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.xyxy)

    def __getitem__(self, index: NDArray[np.int64]) -> "StandIn":
        arrays = (self.xyxy, self.mask, self.confidence, self.class_id, self.tracker_id)
        chosen = [None if values is None else values[index] for values in arrays]
        return StandIn(*chosen, {name: values[index] for name, values in self.data.items()})  # type: ignore[arg-type]


@pytest.fixture(params=["supervision", "stand-in"])
def supervision(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    if request.param == "stand-in":
        module = ModuleType("supervision")
        module.Detections = StandIn  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "supervision", module)
        return module
    return pytest.importorskip("supervision", reason="supervision is not installed")  # type: ignore[no-any-return]


@pytest.fixture
def pandas() -> ModuleType:
    module: ModuleType = pytest.importorskip("pandas", reason="pandas is not installed")
    return module


@pytest.mark.parametrize(
    ("convert", "message"),
    [
        (
            visionkit.to_supervision,
            "supervision.Detections needs the package supervision, which is not installed; install it by: pip install "
            "supervision",
        ),
        (
            visionkit.to_pandas,
            "a pandas DataFrame needs the package pandas, which is not installed; install it by: pip install pandas",
        ),
    ],
)
def test_a_package_that_is_not_there_is_named(
    convert: Callable[[Result], Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> ModuleType:
        raise ImportError(name)

    monkeypatch.setattr(result_conversions, "import_module", absent)
    with pytest.raises(UsageError) as error:
        convert(result_of(1))
    assert str(error.value) == message


# supervision ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("boxes", [0, 1, 7])
def test_to_supervision_and_back(boxes: int, masks: bool, supervision: ModuleType) -> None:
    found = result_of(boxes, masks=masks)
    detections = visionkit.to_supervision(found)
    assert isinstance(detections, supervision.Detections)
    assert len(detections) == boxes
    assert (detections.xyxy == found.boxes).all()
    assert (detections.confidence == found.scores).all()
    assert detections.data["class_name"].tolist() == [CLASSES.names[label] for label in found.labels]
    if masks:
        assert detections.mask.shape == (boxes, 48, 64)
        assert all(
            (plane == decoded_mask(rle)).all() for plane, rle in zip(detections.mask, found.masks or (), strict=True)
        )
    back = visionkit.from_supervision(detections, classes=CLASSES, width=64, height=48, path="a.jpg")
    assert_same(back, found)


def test_detections_that_supervision_chose_and_turned_round(supervision: ModuleType) -> None:
    found = replace(result_of(5), confidences=np.array([0.5, 0.4, 0.3, 0.2, 0.1], np.float32))
    detections = visionkit.to_supervision(found)
    chosen = detections[np.array([4, 0, 2])]
    back = visionkit.from_supervision(chosen, classes=CLASSES, width=64, height=48)
    assert (back.scores == found.scores[[0, 2, 4]]).all(), "the highest first"
    assert (back.boxes == found.boxes[[0, 2, 4]]).all()
    assert back.confidences is not None
    assert back.confidences.tolist() == pytest.approx([0.5, 0.3, 0.1])
    if hasattr(supervision, "LabelAnnotator"):
        labelled = supervision.LabelAnnotator().annotate(np.zeros((48, 64, 3), np.uint8), detections)
        assert labelled.any(), "its annotators take them"


def test_detections_that_no_result_can_hold(supervision: ModuleType) -> None:
    def refused(words: str, **fields: Any) -> None:
        whole: dict[str, Any] = {
            "xyxy": np.array([[1, 2, 3, 4.0]]),
            "confidence": np.array([0.5]),
            "class_id": np.array([1]),
        }
        with pytest.raises(DataError, match=words):
            visionkit.from_supervision(supervision.Detections(**(whole | fields)), classes=CLASSES, width=64, height=48)

    refused(
        "the detections have no confidence, a Result has a score and a class for each; set confidence", confidence=None
    )
    refused("the detections have no class_id, .*; set class_id", class_id=None)
    refused(r"has class_id 2, the table has classes 0 to 1; name the table", class_id=np.array([2]))
    refused(r"has score 1\.5, scores are in \[0, 1\]", confidence=np.array([1.5]))
    refused(r"the masks are of shape \(1, 5, 5\), .* 64x48 px must be \(1, 48, 64\)", mask=np.zeros((1, 5, 5), bool))


# pandas ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("masks", [False, True])
def test_to_pandas_and_back(masks: bool, pandas: ModuleType) -> None:
    results = [result_of(3, "a.jpg", masks), result_of(0, "b.jpg", masks), result_of(4, "c.jpg", masks)]
    table = visionkit.to_pandas(iter(results))
    assert isinstance(table, pandas.DataFrame)
    assert tuple(table.columns) == (*COLUMNS, "mask") if masks else COLUMNS
    assert table["image_id"].tolist() == [1, 1, 1, 3, 3, 3, 3]
    for found, back in zip([results[0], results[2]], visionkit.from_pandas(table, CLASSES), strict=True):
        assert_same(back, found)


def test_the_table_is_that_of_the_csv_file(pandas: ModuleType, tmp_path: Path) -> None:
    results = [result_of(3, "a.jpg"), result_of(40, "b.jpg")]
    with csv_writer(tmp_path) as add:
        for number, found in enumerate(results, 1):
            add(found, number=number, name="n", pixels=np.zeros((48, 64, 3), np.uint8))
    table = pandas.read_csv(tmp_path / "detections.csv")
    for found, back in zip(results, visionkit.from_pandas(table), strict=True):
        assert_same(back, found)
    made = visionkit.to_pandas(results)
    assert list(made.columns) == list(table.columns)
    for name in COLUMNS[6:]:
        if name != "name":
            assert (made[name].astype(np.float32) == table[name].astype(np.float32)).all()


def test_classifications_have_no_corners(pandas: ModuleType) -> None:
    nowhere = np.zeros((0, 4), np.float32)
    found = Result(
        "a.jpg", 64, 48, CLASSES, nowhere, np.array([0.75, 0.25], np.float32), np.array([1, 0]), task="classify"
    )
    table = visionkit.to_pandas(found)
    assert table[["x1", "y1", "x2", "y2"]].isna().all(axis=None)
    (back,) = visionkit.from_pandas(table)
    assert_same(back, found)


def test_nothing_found_is_an_empty_table(pandas: ModuleType) -> None:
    table = visionkit.to_pandas([result_of(0)])
    assert tuple(table.columns) == COLUMNS
    assert len(table) == 0
    assert visionkit.from_pandas(table) == []


def test_calibrated_confidences_come_along(pandas: ModuleType) -> None:
    calibrated = replace(result_of(2), confidences=np.array([0.5, 0.25], np.float32))
    table = visionkit.to_pandas([calibrated, result_of(3)])
    assert table["confidence"].isna().tolist() == [False, False, True, True, True]
    first, second = visionkit.from_pandas(table, CLASSES)
    assert first.confidences is not None
    assert first.confidences.tolist() == [0.5, 0.25]
    assert second.confidences is None


@pytest.mark.parametrize("task", ["detect", "classify"])
def test_classes_named_as_pandas_names_what_is_missing(task: Task, pandas: ModuleType, tmp_path: Path) -> None:
    classes = ClassTable(CLASSES.category_ids, ("None", "NA"))
    boxes = np.array([[1, 2, 3, 4]] * (2 if task == "detect" else 0), np.float32).reshape(-1, 4)
    found = Result("a.jpg", 64, 48, classes, boxes, np.array([0.75, 0.25], np.float32), np.array([1, 0]), task=task)
    with csv_writer(tmp_path) as add:
        add(found, number=1, name="n", pixels=np.zeros((48, 64, 3), np.uint8))
    file = tmp_path / "detections.csv"
    with pytest.raises(DataError, match=r"column name has missing values, .* keep_default_na=False, na_values=''\)"):
        visionkit.from_pandas(pandas.read_csv(file))
    (whole,) = visionkit.from_pandas(pandas.read_csv(file, keep_default_na=False, na_values=""))
    assert_same(whole, found)
    (named,) = visionkit.from_pandas(pandas.read_csv(file), classes)
    assert_same(named, found)


def test_tables_that_no_result_can_be_made_of(pandas: ModuleType) -> None:
    table = visionkit.to_pandas([result_of(2)])

    def refused(words: str, **columns: Any) -> None:
        with pytest.raises(DataError, match=words):
            visionkit.from_pandas(table.assign(**columns), CLASSES)

    with pytest.raises(DataError, match=r"the table has no column score, results need image_id, file_name, .*; add it"):
        visionkit.from_pandas(table.drop(columns="score"))
    refused("column category_id has other values than whole numbers", category_id=[3.5, 3])
    refused("column image_id has other values than whole numbers", image_id=[1, np.nan])
    refused("column score has other values than numbers", score=["high", "low"])
    refused("column x1 has other values than numbers", x1=["left", "right"])
    refused(r"has score 1\.5, scores are in", score=[1.5, 0])
    refused("row of image_id 1 has category_id 4, the class table has 3, 17; name the table", category_id=[3, 4])
    refused("rows of image_id 1 differ in file_name, width or height", width=[64, 65])
    nowhere = {name: [np.nan, 1] for name in ("x1", "y1", "x2", "y2")}
    refused("some rows of image_id 1 have corners and others none", **nowhere)
    refused("a box has a corner that is not a finite number", x1=[np.inf, 1])
    refused("some rows of image_id 1 have a mask and others none", mask=[{"size": [48, 64], "counts": "PPR1"}, None])


# COCO -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    """Three images of 64x48 px with ids 5, 7, 9, classes 3 and 17, no objects."""
    images = [
        {"id": i, "file_name": f"{name}.jpg", "width": 64, "height": 48} for i, name in ((5, "a"), (7, "b"), (9, "c"))
    ]
    categories = [{"id": i, "name": name} for i, name in zip(CLASSES.category_ids, CLASSES.names, strict=True)]
    path = tmp_path / "val.json"
    path.write_text(json.dumps({"images": images, "annotations": [], "categories": categories}))
    return path


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("in_file", [False, True])
def test_to_coco_and_back(in_file: bool, masks: bool, annotations: Path, tmp_path: Path) -> None:
    results = [result_of(3, "a.jpg", masks), replace(result_of(0, "b.jpg")), result_of(40, "c.jpg", masks)]
    rows = visionkit.to_coco(results, image_ids=[5, 7, 9])
    assert [row["image_id"] for row in rows] == [5] * 3 + [9] * 40
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    read = visionkit.from_coco(tmp_path / "rows.json" if in_file else rows, annotations)
    for found, back in zip(results, read, strict=True):
        # Two roundings of numbers below 64, whose last bit is worth 64 / 2**24 = 4e-6.
        assert_same(back, found, pixels=1e-5)


def test_coco_rows_are_those_of_the_format(tmp_path: Path) -> None:
    from visionkit.predict.coco_writer import coco_writer

    results = [result_of(2, "a.jpg"), result_of(0, "b.jpg"), result_of(1, "c.jpg")]
    with coco_writer(tmp_path) as add:
        for number, found in enumerate(results, 1):
            add(found, number=number, name="n", pixels=np.zeros((48, 64, 3), np.uint8))
    assert json.loads((tmp_path / "results.json").read_text()) == visionkit.to_coco(results)


def test_rows_of_other_tools(annotations: Path) -> None:
    square = [[10, 10, 14, 10, 14, 15, 10, 15]]
    plain_rle = {"size": [48, 64], "counts": [0, 2, 48 * 64 - 2]}  # the two uppermost pixels of the first column
    rows: list[dict[str, Any]] = [
        {"image_id": 5, "category_id": 3, "score": 0.25, "segmentation": square},
        {"image_id": 5, "category_id": 17, "score": 1, "segmentation": plain_rle, "bbox": [0, 0, 3, 3]},
    ]
    found = visionkit.from_coco(rows, annotations)[0]
    assert found.scores.tolist() == [1, 0.25]
    assert found.boxes.tolist() == [[0, 0, 3, 3], [10, 10, 14, 15]]
    assert found.masks is not None
    planes: list[NDArray[np.bool_]] = [decoded_mask(mask) for mask in found.masks]
    assert [int(plane.sum()) for plane in planes] == [2, 20]
    assert planes[0][:2, 0].all()


def test_coco_rows_that_no_result_can_hold(annotations: Path) -> None:
    row: dict[str, Any] = {"image_id": 5, "category_id": 3, "score": 0.5, "bbox": [0, 0, 3, 3]}
    square = [[10, 10, 14, 10, 14, 15, 10, 15]]

    def refused(words: str, *rows: dict[str, Any]) -> None:
        with pytest.raises(DataError, match=words):
            visionkit.from_coco(list(rows), annotations)

    refused("image_id 6, image ids must be among those of", row | {"image_id": 6})
    refused("category_id 4, category ids must be among", row | {"category_id": 4})
    refused(r"has score 7\.0, scores are in \[0, 1\]", row | {"score": 7})
    refused(
        "some detections of image 5 of predictions have a segmentation and others none",
        row,
        row | {"segmentation": square},
    )
    content = json.loads(annotations.read_text())
    del content["images"][0]["width"], content["images"][0]["height"]
    annotations.write_text(json.dumps(content))
    refused("image 5 of predictions has no size in the annotations, a Result needs it; add width and height", row)


# ----------------------------------------------------------------------------------------------------------------------


def test_tasks_that_the_other_side_has_no_place_for() -> None:
    nowhere = np.zeros((0, 4), np.float32)
    classified = Result("a.jpg", 8, 8, CLASSES, nowhere, np.ones(1, np.float32), np.array([1]), task="classify")
    with pytest.raises(UsageError) as error:
        visionkit.to_coco([classified])
    assert str(error.value) == (
        "the result of a.jpg is of task classify, a COCO results file holds detect and segment; convert its to_json() "
        "instead"
    )
    with pytest.raises(UsageError, match="2 image_ids are given for 1 results, each needs its own; name as many"):
        visionkit.to_coco([result_of(1)], image_ids=[1, 2])


def test_semantic_maps_are_no_boxes(pandas: ModuleType) -> None:
    semantic = np.zeros((8, 8), np.uint8)
    nowhere = np.zeros((0, 4), np.float32)
    found = Result("", 8, 8, CLASSES, nowhere, np.ones(1, np.float32), np.array([0]), task="segment", semantic=semantic)
    with pytest.raises(
        UsageError, match="the result of an image is of task segment, a table of boxes holds detect and"
    ):
        visionkit.to_pandas(found)
    (row,) = visionkit.to_coco(found)
    assert row["area"] == 64
