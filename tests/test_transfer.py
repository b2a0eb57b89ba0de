"""What a model takes over from a weights file, class by class."""

import json
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from visionkit.build import Detector, build_model, load_model, save_model
from visionkit.classes import ClassTable
from visionkit.config import ModelName, Recipe
from visionkit.errors import CheckpointError
from visionkit.transfer import transfer_weights
from visionkit.types import ClassRows

CLASSES = ClassTable((3, 17), ("car", "cat"))


def table(*names: str) -> ClassTable:
    return ClassTable(tuple(range(1, len(names) + 1)), names)


def trained(recipe: Recipe, classes: ClassTable) -> Detector:
    """A model that differs from a fresh one in every tensor, running statistics included."""
    model = build_model(recipe, classes)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(0.01 * torch.rand(tensor.shape, generator=generator))
    return model.eval()


def write(path: Path, classes: ClassTable = CLASSES, **settings: Any) -> Path:
    recipe = Recipe(imgsz=64, **settings)
    save_model(path, trained(recipe, classes), classes, recipe, {})
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "best.safetensors")


def copied(model: Detector) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


# Rows of classes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "length", "expected"),
    [
        # A predictor with a row a class: of 3 classes, labels 2 and 0.
        (ClassRows(), 3, [2, 0]),
        # Four corners a class: 4 * label + 0..3.
        (ClassRows(each=4), 12, [8, 9, 10, 11, 0, 1, 2, 3]),
        # The logit of background stands behind those of the classes, at 3, and goes along.
        (ClassRows(after=1), 4, [2, 0, 3]),
        # Two anchors with 3 classes each: the second begins at 3.
        (ClassRows(groups=2), 6, [2, 0, 5, 3]),
        # Two cells, each a box of 5 numbers before its classes: a cell has 8 rows, its classes are 5, 6, 7 of them.
        (ClassRows(groups=2, before=5), 16, [0, 1, 2, 3, 4, 7, 5, 8, 9, 10, 11, 12, 15, 13]),
    ],
)
def test_where_the_rows_of_a_class_lie(where: ClassRows, length: int, expected: list[int]) -> None:
    assert where.length(3) == length
    assert where.rows([2, 0], 3) == expected


def test_without_labels_only_the_rows_of_no_class_are_left() -> None:
    assert ClassRows(groups=2, each=2, after=1).rows([], 3) == [6, 13]


@pytest.mark.parametrize("name", get_args(ModelName))
def test_a_model_names_exactly_the_tensors_that_change_with_the_number_of_classes(name: ModelName) -> None:
    few, many = (build_model(Recipe(model=name), table(*names)) for names in ("ab", "abcde"))
    own, other = few.state_dict(), many.state_dict()
    assert set(few.class_rows) == {tensor for tensor in own if own[tensor].shape != other[tensor].shape}
    for tensor, where in few.class_rows.items():
        assert own[tensor].shape[where.dim] == where.length(2)
        assert other[tensor].shape[where.dim] == where.length(5)


# Loading --------------------------------------------------------------------------------------------------------------


def test_the_same_classes_load_everything(file: Path) -> None:
    source = load_model(file)
    # Other ids of the same names are the same classes.
    model = build_model(Recipe(), table("car", "cat"))
    transfer = transfer_weights(model, table("car", "cat"), source)
    expected = source.model.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())
    assert transfer.reinitialised == ()
    assert transfer.lines() == [f"Weights from {file}: {len(expected)} tensors loaded, the classes are the same"]


@pytest.mark.parametrize("name", get_args(ModelName))
def test_rows_of_shared_classes_are_carried_over_and_the_others_start_fresh(name: ModelName, tmp_path: Path) -> None:
    source = load_model(write(tmp_path / "best.safetensors", table("car", "dog", "cat"), model=name))
    classes = table("cat", "zebra", "car", "bean")
    model = build_model(Recipe(model=name), classes)
    fresh = copied(model)
    transfer = transfer_weights(model, classes, source)
    given = source.model.state_dict()
    for tensor, value in model.state_dict().items():
        if tensor in model.class_rows:
            where = model.class_rows[tensor]
            assert where.dim == 0
            carried = where.rows([0, 2], classes=4)
            others = sorted(set(range(len(value))) - set(carried))
            # Of the weights' car, dog, cat the labels are 0, 1, 2.
            assert torch.equal(value[carried], given[tensor][where.rows([2, 0], classes=3)]), tensor
            assert torch.equal(value[others], fresh[tensor][others]), tensor
        else:
            assert torch.equal(value, given[tensor]), tensor
    assert transfer.reinitialised == transfer.class_rows == tuple(model.class_rows)
    assert set(transfer.loaded) == set(given) - set(model.class_rows)


def test_no_class_in_common_loads_all_but_the_class_predictors(file: Path) -> None:
    classes = table("bean", "pea")  # as many, but others
    model = build_model(Recipe(), classes)
    fresh = copied(model)
    transfer = transfer_weights(model, classes, load_model(file))
    assert all(torch.equal(model.state_dict()[name], fresh[name]) for name in model.class_rows)
    assert transfer.lines()[-1] == (
        "  class rows  0 of 2 carried over; 2 fresh, not in the weights (bean, pea); "
        "2 unused, not in the data (car, cat)"
    )


def test_classes_in_another_order_keep_their_rows_and_none_starts_fresh(file: Path) -> None:
    classes = table("cat", "car")
    source = load_model(file)
    model = build_model(Recipe(), classes)
    transfer = transfer_weights(model, classes, source)
    assert transfer.reinitialised == ()
    for name in model.class_rows:
        assert torch.equal(model.state_dict()[name], source.model.state_dict()[name].flip(0))


def test_a_model_with_carried_rows_says_of_the_shared_classes_what_the_source_said(file: Path) -> None:
    source = load_model(file)
    classes = table("pea", "cat")
    model = build_model(Recipe(), classes).eval()
    transfer_weights(model, classes, source)
    images = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        ours, theirs = model(images), source.model(images)
    torch.testing.assert_close(ours.class_logits[..., 1], theirs.class_logits[..., 1])
    assert torch.equal(ours.side_logits, theirs.side_logits)


# The table ------------------------------------------------------------------------------------------------------------


def test_the_table_says_what_was_loaded_what_is_fresh_what_is_unused_and_why(tmp_path: Path) -> None:
    many = [f"thing {i}" for i in range(10)]
    source = load_model(write(tmp_path / "best.safetensors", table("person", "diningtable", *many)))
    classes = table("person", "Dining table", "zebra")
    model = build_model(Recipe(), classes)
    transfer = transfer_weights(model, classes, source)
    parts = {part: sum(n.startswith(f"{part}.") for n in transfer.loaded) for part in ("backbone", "neck", "head")}
    assert transfer.lines() == [
        f"Weights from {source.path}:",
        f"  backbone    {parts['backbone']} tensors loaded",
        f"  neck        {parts['neck']} tensors loaded",
        # Three levels, a weight and a bias each.
        f"  head        {parts['head']} tensors loaded, 6 rebuilt for the classes",
        "  class rows  2 of 3 carried over (person, Dining table); 1 fresh, not in the weights (zebra); "
        "10 unused, not in the data (thing 0, thing 1, thing 2, thing 3, thing 4, thing 5, thing 6, thing 7, 2 more)",
        "              Dining table is diningtable in the weights",
    ]
    said = json.loads(json.dumps(transfer.to_json()))
    assert said["parts"]["neck"] == {"loaded": parts["neck"], "class_rows": 0}
    assert said["parts"]["head"] == {"loaded": parts["head"], "class_rows": 6}
    assert said["classes"] == {
        "carried": [{"name": "person", "from": "person"}, {"name": "Dining table", "from": "diningtable"}],
        "fresh": ["zebra"],
        "unused": many,
    }
    assert (said["weights"], said["sha256"]) == (str(source.path), source.sha256)
    assert len(said["loaded"]) + len(said["class_rows"]) == len(model.state_dict())


# What does not fit ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [CLASSES, table("bean", "pea", "lentil")])
def test_another_backbone_is_refused_in_one_line_and_changes_nothing(file: Path, classes: ClassTable) -> None:
    model = build_model(Recipe(backbone="resnet18"), classes)
    before = copied(model)
    with pytest.raises(CheckpointError) as error:
        transfer_weights(model, classes, load_model(file))
    message = str(error.value)
    assert message.startswith(f"{file} does not fit this model: ")
    assert "tensors missing, unknown or of another shape, such as backbone.conv1.weight" in message
    assert message.endswith("use the model and backbone it was trained with, yolo/csp-light")
    assert "\n" not in message
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"norm": "group"}, "norm=own, not norm=group"),
        ({"activation": "prelu"}, "activation=own, not activation=prelu"),
        (
            {"norm": "group", "activation": "maxout"},
            "norm=own and activation=own, not norm=group and activation=maxout",
        ),
    ],
)
@pytest.mark.parametrize("kind", ["yolo", "classifier"])
def test_other_parts_of_the_same_backbone_are_named(kind: Any, asked: dict[str, Any], words: str, file: Path) -> None:
    recipe = Recipe(model=kind, **asked)
    with pytest.raises(CheckpointError) as error:
        transfer_weights(build_model(recipe, CLASSES), CLASSES, load_model(file), recipe)
    of = "" if kind == "yolo" else "'s backbone"
    assert str(error.value).startswith(f"{file} does not fit this model{of}: ")
    assert str(error.value).endswith(
        f"; it was trained with {words}: leave {' and '.join(asked)} out, or give --weights scratch"
    )


def test_a_tensor_that_the_model_does_not_have_is_a_mismatch_too(file: Path) -> None:
    source = load_model(file)
    source.model.head.extra = torch.nn.Conv2d(1, 1, 1)
    with pytest.raises(CheckpointError, match=r"2 tensors missing, unknown .* such as head\.extra\.weight"):
        transfer_weights(build_model(Recipe(), CLASSES), CLASSES, source)


def test_a_class_predictor_of_another_width_is_no_matter_of_classes(file: Path) -> None:
    source = load_model(file)
    source.model.head.class_predictors[0] = torch.nn.Conv2d(32, 2, 1)  # the model's have 64 channels
    with pytest.raises(CheckpointError, match=r"1 tensor missing, .* such as head\.class_predictors\.0\.weight"):
        transfer_weights(build_model(Recipe(), CLASSES), CLASSES, source)


# A model that extends another -----------------------------------------------------------------------------------------


def test_yolo_with_masks_takes_over_all_of_a_yolo_and_starts_its_masks_fresh(tmp_path: Path) -> None:
    source = load_model(write(tmp_path / "best.safetensors", table("car", "cat")))
    model = build_model(Recipe(model="yolo-masks"), table("cat", "zebra"))
    before = copied(model)
    transfer = transfer_weights(model, table("cat", "zebra"), source)
    given, after = source.model.state_dict(), model.state_dict()
    masks = tuple(name for name in after if name.startswith("mask."))
    assert transfer.fresh == masks
    assert transfer.reinitialised == (*masks, *model.class_rows)
    assert transfer.other_kind == ""
    for name, tensor in after.items():
        if name in masks:
            assert torch.equal(tensor, before[name])
        elif name not in model.class_rows:
            assert torch.equal(tensor, given[name])
    assert f"  mask        {len(masks)} tensors fresh, the weights have none" in transfer.lines()
    assert transfer.to_json()["fresh"] == list(masks)
    # The other way round they are models of different kinds.
    path = write(tmp_path / "masks.safetensors", table("car", "cat"), model="yolo-masks")
    assert transfer_weights(build_model(Recipe(), table("cat")), table("cat"), load_model(path)).other_kind


def test_with_the_same_classes_what_starts_fresh_is_said_too(tmp_path: Path) -> None:
    source = load_model(write(tmp_path / "best.safetensors", table("car")))
    transfer = transfer_weights(build_model(Recipe(model="yolo-masks"), table("car")), table("car"), source)
    assert any(line.strip().startswith("mask ") for line in transfer.lines())
