"""The list of published models against what torchvision says of them."""

import pytest
import torchvision

from visionkit.classes import ClassTable
from visionkit.models.forms import FORM_PARTS
from visionkit.published.models import COCO_CATEGORIES, PUBLISHED_MODELS, VOC_CATEGORIES, is_published

ALL_DIGITS = {
    "fasterrcnn_resnet50_fpn",
    "fasterrcnn_resnet50_fpn_v2",
    "retinanet_resnet50_fpn",
    "maskrcnn_resnet50_fpn",
}
SCORES = {"box_map": "AP", "mask_map": "mask_AP", "miou": "mIoU"}


def weights_in_torchvision(name: str) -> torchvision.models.Weights:
    return torchvision.models.get_model_weights(name).DEFAULT


def test_every_form_is_published_and_no_other() -> None:
    assert list(PUBLISHED_MODELS) == list(FORM_PARTS)


@pytest.mark.parametrize("name", PUBLISHED_MODELS)
def test_an_entry_says_what_torchvision_says(name: str) -> None:
    ours, theirs = PUBLISHED_MODELS[name].file, weights_in_torchvision(name)
    assert ours.url == theirs.url
    # In MiB to three decimals: half of the last is 0.0005 * 1,048,576 = 524.3 bytes.
    assert abs(ours.size - theirs.meta["_file_size"] * 2**20) <= 525
    (metrics,) = theirs.meta["_metrics"].values()
    expected = {SCORES[key]: value / 100 for key, value in metrics.items() if key in SCORES}
    assert ours.scores == pytest.approx(expected, abs=1e-9)
    # Four bytes a parameter, and less than 1 % for names and statistics.
    assert 1 < ours.size / (4 * theirs.meta["num_params"]) < 1.01


@pytest.mark.parametrize("name", PUBLISHED_MODELS)
def test_the_digits_are_a_sha256_that_goes_on_with_those_in_the_name(name: str) -> None:
    file = PUBLISHED_MODELS[name].file
    assert len(file.sha256) == (64 if name in ALL_DIGITS else 8)
    assert int(file.sha256, 16) >= 0
    assert file.sha256 == file.sha256.lower()
    assert file.name.removesuffix(".pth").endswith(file.sha256[:8])


@pytest.mark.parametrize("name", PUBLISHED_MODELS)
def test_categories_are_torchvisions_labels_without_those_that_were_never_learnt(name: str) -> None:
    names = enumerate(weights_in_torchvision(name).meta["categories"])
    if name == "fcn_resnet50":  # here background is a class like the others, under the name it has in this package
        expected = {label: called.strip("_") for label, called in names}
    else:
        expected = {label: called for label, called in names if called not in ("__background__", "N/A")}
    assert PUBLISHED_MODELS[name].categories == expected


def test_coco_has_80_classes_under_ids_up_to_90() -> None:
    assert len(COCO_CATEGORIES) == 80
    assert (min(COCO_CATEGORIES), max(COCO_CATEGORIES)) == (1, 90)
    assert sorted({*range(1, 91)} - {*COCO_CATEGORIES}) == [12, 26, 29, 30, 45, 66, 68, 69, 71, 83]
    assert ClassTable.of_categories(COCO_CATEGORIES.items()).category_ids[-1] == 90
    assert (VOC_CATEGORIES[0], VOC_CATEGORIES[20]) == ("background", "tvmonitor")


@pytest.mark.parametrize("name", PUBLISHED_MODELS)
def test_images_have_about_the_size_that_torchvision_gives_them(name: str) -> None:
    shorter = 520 if name == "fcn_resnet50" else 320 if "_320_" in name else 800
    # The longer side of 4:3, up to the next multiple of 32.
    assert PUBLISHED_MODELS[name].imgsz == -(-shorter * 4 // 3 // 32) * 32


@pytest.mark.parametrize(
    ("weights", "expected"),
    [("coco", True), ("torchvision:nothing", True), ("coco.safetensors", False), ("default", False)],
)
def test_which_names_of_weights_are_published_models(weights: str, expected: bool) -> None:
    assert is_published(weights) is expected
