"""The rendered sample: its truth holds to the pixel, it repeats byte by byte, and it never half-exists."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as rle

from visionkit.data import sample, sample_scene
from visionkit.data.sample import CLASSES, render_sample
from visionkit.errors import UsageError
from visionkit.formats.mask_images import read_mask_classes

SMALL = {"train": 40, "val": 6}

# pycocotools 2.0.11 hands NumPy 2 an old-style array.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module", params=["a", "b"])
def rendered(request, tmp_path_factory):
    return render_sample(tmp_path_factory.mktemp("sample") / request.param, variant=request.param, images=SMALL)


@pytest.fixture(scope="module")
def train(rendered):
    return json.loads((rendered / "annotations/train.json").read_text())


def decode(segmentation):
    """The mask, u8 [H, W], as pycocotools reads it; a list of counts is COCO's uncompressed form."""
    if isinstance(segmentation["counts"], list):
        segmentation = rle.frPyObjects(segmentation, *segmentation["size"])
    return rle.decode(segmentation)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_box_is_tight_on_the_visible_mask_and_area_counts_it(train):
    for annotation in train["annotations"]:
        mask = decode(annotation["segmentation"])
        rows, columns = np.nonzero(mask)
        x, y, w, h = annotation["bbox"]
        assert (x, y, x + w, y + h) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert annotation["area"] == mask.sum() >= sample_scene.MIN_PIXELS


def test_visible_masks_do_not_overlap_and_semantic_masks_are_their_union(rendered, train):
    label = {category["id"]: k for k, category in enumerate(train["categories"])}
    background = len(label)
    for image in train["images"]:
        expected = np.full((image["height"], image["width"]), background, np.uint8)
        claimed = np.zeros_like(expected)
        for annotation in train["annotations"]:
            if annotation["image_id"] == image["id"]:
                mask = decode(annotation["segmentation"]) == 1
                claimed += mask
                expected[mask] = label[annotation["category_id"]]
        path = (rendered / "masks/train" / image["file_name"]).with_suffix(".png")
        np.testing.assert_array_equal(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), expected)
        assert claimed.max(initial=0) <= 1


def test_classes_json_names_each_mask_index_and_the_background_last(rendered, train):
    classes = read_mask_classes(rendered / "classes.json")
    assert classes.table.names == (*(c["name"] for c in train["categories"]), "background")
    assert classes.ignored == 255
    assert classes.colours is None


def test_image_files_have_the_size_that_is_written_and_not_all_are_square(rendered, train):
    for image in train["images"]:
        assert cv2.imread(str(rendered / "images" / image["file_name"])).shape == (image["height"], image["width"], 3)
    assert {max(i["width"], i["height"]) for i in train["images"]} == {256}
    assert any(i["width"] < i["height"] for i in train["images"])
    assert any(i["width"] > i["height"] for i in train["images"])


def test_ids_have_gaps_and_the_two_sets_share_no_class(train):
    for classes in CLASSES.values():
        ids = [c.category_id for c in classes]
        assert ids == sorted(ids)
        assert min(ids) > 1
        assert max(ids) - min(ids) + 1 > len(ids)
    a, b = ({(c.category_id, c.name, c.shape) for c in CLASSES[v]} for v in ("a", "b"))
    assert all({row[k] for row in a}.isdisjoint({row[k] for row in b}) for k in range(3))
    assert {a["category_id"] for a in train["annotations"]} == {c["id"] for c in train["categories"]}


def test_there_are_crowds_and_images_without_objects(train):
    crowds = [a for a in train["annotations"] if a["iscrowd"]]
    assert crowds
    assert all(isinstance(a["segmentation"]["counts"], list) for a in crowds)
    assert {i["id"] for i in train["images"]} > {a["image_id"] for a in train["annotations"]}


def test_annotation_and_image_ids_are_unique(rendered):
    splits = [json.loads((rendered / f"annotations/{split}.json").read_text()) for split in SMALL]
    image_ids = [image["id"] for split in splits for image in split["images"]]
    assert len(set(image_ids)) == len(image_ids) == 46  # 40 + 6
    for split in splits:
        assert [a["id"] for a in split["annotations"]] == list(range(1, len(split["annotations"]) + 1))


def test_uncompressed_rle_counts_down_the_columns_and_starts_with_background():
    mask = np.array([[0, 1, 1], [1, 1, 0]], bool)
    # columns: 0 1 | 1 1 | 1 0  ->  one 0, four 1, one 0
    assert sample._uncompressed_rle(mask) == {"size": [2, 3], "counts": [1, 4, 1]}
    # columns: 1 0 | 0 0 | 0 1  ->  no 0, one 1, four 0, one 1
    assert sample._uncompressed_rle(np.array([[1, 0, 0], [0, 0, 1]], bool))["counts"] == [0, 1, 4, 1]


def test_an_object_may_be_covered_to_the_limit_and_not_beyond():
    things = [sample_scene.Thing(label=0, full_area=400)]
    scene = sample_scene.Scene(np.zeros((40, 40, 3), np.float32), np.full((40, 40), -1, np.int16), things)
    scene.owner[10:30, 10:30] = 0  # 20 x 20 = 400 pixels
    cover = np.ones((20, 12), bool)  # 20 x 12 = 240 covered, 160 left: 160 / 400 = 0.40
    assert sample_scene._truth_survives(scene, cover, 10, 10, is_object=True)
    assert not sample_scene._truth_survives(scene, np.ones((20, 13), bool), 10, 10, is_object=True)  # 140 / 400 = 0.35


def test_an_object_may_leave_the_image_to_the_limit_and_not_beyond():
    scene = sample_scene.Scene(np.zeros((40, 40, 3), np.float32), np.full((40, 40), -1, np.int16))
    solid = np.ones((20, 20), bool)
    assert sample_scene._truth_survives(scene, solid, -12, 5, is_object=True)  # 8 of 20 columns inside: 0.40
    assert not sample_scene._truth_survives(scene, solid, -13, 5, is_object=True)  # 7 of 20: 0.35
    assert sample_scene._truth_survives(scene, solid, -50, 5, is_object=False)  # a distractor need not be seen


def test_same_arguments_same_bytes_and_another_seed_other_pictures(tmp_path):
    one, two, other = (
        bytes_of(render_sample(tmp_path / name, images={"train": 3}, seed=seed, size=96))
        for name, seed in (("one", 5), ("two", 5), ("other", 6))
    )
    assert one == two
    assert one["images/train_00000.jpg"] != other["images/train_00000.jpg"]


def test_an_image_depends_on_neither_the_number_of_images_nor_the_splits_and_splits_differ(tmp_path):
    few = bytes_of(render_sample(tmp_path / "few", images={"val": 2}, size=96))
    many = bytes_of(render_sample(tmp_path / "many", images={"train": 3, "val": 4}, size=96))
    assert all(few[name] == many[name] for name in few if name.startswith(("images/", "masks/")))
    few_truth, many_truth = (json.loads(files["annotations/val.json"])["annotations"] for files in (few, many))
    assert few_truth == many_truth[: len(few_truth)]
    assert many["images/train_00000.jpg"] != many["images/val_00000.jpg"]


def test_a_finished_set_is_reused_and_an_empty_folder_filled(tmp_path):
    out = tmp_path / "sample"
    out.mkdir()
    image = render_sample(out, images={"test": 1}, size=96) / "images/test_00000.jpg"
    written = image.stat().st_mtime_ns
    assert render_sample(out, images={"test": 1}, size=96) == out
    assert image.stat().st_mtime_ns == written


def test_another_set_or_other_files_in_the_folder_are_refused_by_name(tmp_path):
    out = render_sample(tmp_path / "sample", images={"test": 1}, size=96)
    with pytest.raises(UsageError, match=r'sample already holds a sample made with other values.*"seed": 0'):
        render_sample(out, images={"test": 1}, size=96, seed=1)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep me")
    with pytest.raises(UsageError, match=r"mine already exists and is no sample dataset; name a new folder"):
        render_sample(tmp_path / "mine")
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep me"


def test_an_interrupted_render_leaves_nothing(tmp_path, monkeypatch):
    calls = []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return drawn(*arguments)

    drawn = sample.draw_scene
    monkeypatch.setattr(sample, "draw_scene", interrupted)
    with pytest.raises(KeyboardInterrupt):
        render_sample(tmp_path / "sample", images={"train": 5}, size=96)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"variant": "c"}, r"sample variant must be one of a, b, got 'c'"),
        ({"seed": -1}, r"sample seed must be 0 or more, got -1"),
        ({"size": 32}, r"sample size must be at least 64 pixels, got 32; use 256"),
        ({"images": {"training": 5}}, r"sample splits must be some of train, val, test, got training"),
        ({"images": {}}, r"sample splits must be some of train, val, test, got none"),
        ({"images": {"val": 0}}, r"each sample split needs at least 1 image, got val 0; leave the split out"),
    ],
)
def test_arguments_out_of_range_are_refused(tmp_path, arguments, message):
    with pytest.raises(UsageError, match=message):
        render_sample(tmp_path / "sample", **arguments)
    assert not (tmp_path / "sample").exists()
