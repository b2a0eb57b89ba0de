"""`--keep-classes`: one table of old and new classes, what the source sees of the old, a run that keeps both."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import TinyRun, tiny_settings, write_blocks

import visionkit
from visionkit.api import kept_classes
from visionkit.api.kept_classes import KeptClasses, keep_classes, merged_classes
from visionkit.build import LoadedModel, load_model
from visionkit.choices import Choices
from visionkit.classes import ClassTable
from visionkit.config import Config
from visionkit.engine.checkpoint import load_state
from visionkit.engine.events import Event, ImagesDone, Saved
from visionkit.errors import UsageError, VisionkitError
from visionkit.formats.layout import find_layout, read_split
from visionkit.formats.records import AnnotatedImages
from visionkit.predict.tiling import Tiling

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures with red and blue blocks, whose blue ones alone are labelled: `azure block`, with the id 3 that red
    blocks have in the weights of `tiny_run`."""
    root = write_blocks(tmp_path_factory.mktemp("azure") / "data", {"train": 8, "val": 4})
    for split in ("train", "val"):
        file = root / "annotations" / f"{split}.json"
        content = json.loads(file.read_text())
        blue = [{**row, "category_id": 3} for row in content["annotations"] if row["category_id"] == 8]
        categories = [{"id": 3, "name": "azure block"}]
        file.write_text(json.dumps({**content, "annotations": blue, "categories": categories}))
    return root


@pytest.fixture
def source(tiny_run: TinyRun) -> LoadedModel:
    return load_model(tiny_run.result.best)


def config_of(**values: Any) -> Config:
    choices = Choices()
    choices.say({"imgsz": 64, "workers": 0, "keep_classes": True, **values}, "flag")
    return choices.config()


def seen(monkeypatch: pytest.MonkeyPatch, rows: list[tuple[int, int, list[float], float]]) -> list[int]:
    """Let the source say these rows of image id, its category id, box and score; how often it was asked."""
    asked: list[int] = []

    def say(*arguments: Any, **options: Any) -> list[dict[str, Any]]:
        asked.append(1)
        return [dict(zip(("image_id", "category_id", "bbox", "score"), row, strict=True)) for row in rows]

    monkeypatch.setattr(kept_classes, "rows_as_trained", say)
    return asked


def kept(source: LoadedModel, train: AnnotatedImages, said: list[str], **values: Any) -> KeptClasses:
    return keep_classes(config_of(**values), source, train, CPU, said.append, lambda event: None)


# The table ------------------------------------------------------------------------------------------------------------


def test_old_classes_keep_their_order_and_new_ones_follow() -> None:
    merged = merged_classes(ClassTable((10, 11), ("pea", "bean")), ClassTable((4, 2), ("cat", "dog")))
    assert merged.table == ClassTable((4, 2, 10, 11), ("cat", "dog", "pea", "bean"))
    assert merged.old == {4: 4, 2: 2}
    assert merged.moved == {}


def test_ids_of_the_data_win_and_old_ones_get_the_next_free_above_all() -> None:
    merged = merged_classes(ClassTable((2, 9), ("pea", "bean")), ClassTable((9, 2, 5), ("cat", "dog", "owl")))
    # 9 and 2 are the data's; 10 and 11 are the next above 9.
    assert merged.table == ClassTable((10, 11, 5, 2, 9), ("cat", "dog", "owl", "pea", "bean"))
    assert merged.moved == {9: 10, 2: 11}
    assert merged.names() == ("cat", "dog", "owl")


def test_a_class_of_both_is_as_the_data_writes_it() -> None:
    merged = merged_classes(ClassTable((7, 8), ("Dining table", "pea")), ClassTable((1, 8), ("diningtable", "cat")))
    assert merged.table == ClassTable((7, 9, 8), ("Dining table", "cat", "pea"))
    assert merged.old == {8: 9}


def test_weights_that_know_no_other_class_add_none() -> None:
    table = ClassTable((3, 1), ("cat", "dog"))
    merged = merged_classes(table, ClassTable((1,), ("dog",)))
    assert merged.table == ClassTable((1, 3), ("dog", "cat"))
    assert merged.old == {}


# What the source sees -------------------------------------------------------------------------------------------------


def test_the_sure_is_learnt_the_suspected_ignored_and_labels_win(
    source: LoadedModel, azure: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = read_split(find_layout(azure), "train")
    labelled = next(image for image in train.images if image.annotations)
    label = labelled.annotations[0].bbox
    free = train.images[1].id  # the picture without an object
    # Its box moved by half its width: the overlap is 0.5 of 1.5, an IoU of a third.
    beside = [label[0] + label[2] / 2, *label[1:]]
    seen(
        monkeypatch,
        [
            (free, 3, [1, 2, 10, 10], 0.5),
            (free, 8, [20, 2, 10, 20], 0.9),
            (free, 3, [40, 2, 8, 8], 0.49),
            (free, 3, [40, 30, 8, 8], 0.25),
            (free, 3, [5, 5, 8, 8], 0.24),
            (labelled.id, 3, list(label), 0.9),
            (labelled.id, 3, beside, 0.9),
        ],
    )
    said: list[str] = []
    found = kept(source, train, said)
    # red block was 3, which is azure's; 9 is the first above 8. blue block keeps 8.
    assert found.classes == ClassTable((9, 8, 3), ("red block", "blue block", "azure block"))
    assert found.category.tolist() == [9, 8, 9, 9, 9]
    assert found.sure.tolist() == [True, True, False, False, True]
    assert found.image.tolist() == [free] * 4 + [labelled.id]
    assert said == [
        f"Classes kept from {source.path}: 2 classes that the data does not have (red block, blue block)",
        "Category id 3 is the data's, so red block has id 9 from now on",
        "The source model sees 3 objects of them in the training images, learnt as labels, and suspects 2 more, "
        "ignored",
    ]
    learnt = found.learnt(train)
    assert learnt.classes == found.classes
    (empty,) = [image for image in learnt.images if image.id == free]
    assert [(a.category_id, a.bbox, a.area, a.iscrowd) for a in empty.annotations] == [
        (9, (1.0, 2.0, 10.0, 10.0), 100.0, False),
        (8, (20.0, 2.0, 10.0, 20.0), 200.0, False),
        (9, (40.0, 2.0, 8.0, 8.0), 64.0, True),
        (9, (40.0, 30.0, 8.0, 8.0), 64.0, True),
    ]
    ids = [a.id for image in learnt.images for a in image.annotations]
    assert len(set(ids)) == len(ids)
    for image, before in zip(learnt.images, train.images, strict=True):
        assert image.annotations[: len(before.annotations)] == before.annotations
    val = read_split(find_layout(azure), "val")
    assert found.judged(val) == replace(val, classes=found.classes)


def test_the_source_itself_is_asked_and_is_as_it_was_before(source: LoadedModel, azure: Path) -> None:
    before = {name: tensor.clone() for name, tensor in source.model.state_dict().items()}
    train = read_split(find_layout(azure), "train")
    events: list[Event] = []
    keep_classes(config_of(), source, train, CPU, lambda line: None, events.append)
    done = [event for event in events if isinstance(event, ImagesDone)]
    assert (done[-1].what, done[-1].done, done[-1].total) == ("looking for old classes", 8, 8)
    assert all(torch.equal(tensor, before[name]) for name, tensor in source.model.state_dict().items())
    assert not source.model.training


def test_a_source_that_learnt_from_tiles_looks_at_them(source: LoadedModel, azure: Path) -> None:
    train = read_split(find_layout(azure), "train")
    recipe = source.recipe.model_copy(update={"tile": 48, "overlap": 0.25})
    looks: list[int] = []
    source.model.register_forward_pre_hook(lambda model, inputs: looks.append(len(inputs[0])))
    keep_classes(config_of(), replace(source, recipe=recipe), train, CPU, lambda line: None, lambda event: None)
    grids = [Tiling(48, 0.25).grid(image.height, image.width) for image in train.images]
    assert sum(looks) == sum(len(grid.views) for grid in grids if grid is not None) > 3 * len(train.images)


def test_nothing_seen_is_a_table_alone(source: LoadedModel, azure: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen(monkeypatch, [])
    train = read_split(find_layout(azure), "train")
    said: list[str] = []
    found = kept(source, train, said)
    assert said[-1] == (
        "So nothing reminds the model of them, and what learns forgets them; hold more still, as --strategy head does, "
        "and see by --guard"
    )
    assert found.learnt(train) == replace(train, classes=found.classes)
    assert KeptClasses.from_state(found.to_state()).learnt(train) == found.learnt(train)


def test_where_the_data_has_every_class_no_one_looks(
    source: LoadedModel, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = seen(monkeypatch, [])
    said: list[str] = []
    found = kept(source, read_split(find_layout(tiny_data), "train"), said)
    assert (len(found.image), asked) == (0, [])
    assert said == [f"Classes kept: {source.path} knows none that the data does not have"]


def test_what_is_kept_survives_a_state(source: LoadedModel, azure: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = read_split(find_layout(azure), "train")
    seen(monkeypatch, [(train.images[1].id, 3, [1.25, 2.5, 10, 10], 0.7)])
    found = kept(source, train, [])
    again = KeptClasses.from_state(found.to_state())
    assert again.classes == found.classes
    assert again.learnt(train) == found.learnt(train)


# A run ----------------------------------------------------------------------------------------------------------------


def run_settings(tiny_run: TinyRun, **others: Any) -> dict[str, Any]:
    settings = tiny_settings(epochs=2, imgsz=32, weights=tiny_run.result.best, set=["train.save_minutes=0"])
    return {**settings, "keep_classes": True, **others}


def test_a_run_learns_the_new_class_beside_the_old_ones_and_carries_their_rows_over(
    tiny_run: TinyRun, azure: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    result = visionkit.finetune(
        azure, freeze="all-but-head", out=tmp_path / "run", say=said.append, **run_settings(tiny_run, lr=1e-9)
    )
    assert result is not None
    loaded, before = load_model(result.last), load_model(tiny_run.result.best)
    assert loaded.classes == ClassTable((9, 8, 3), ("red block", "blue block", "azure block"))
    assert any("class rows  2 of 3 carried over (red block, blue block); 1 fresh" in line for line in said)
    for name in before.model.class_rows:
        old = loaded.model.state_dict()[name][:2]
        assert torch.allclose(old, before.model.state_dict()[name], atol=1e-4), name  # a rate of 1e-9 moves little


@pytest.mark.parametrize("saves", [1, 3])
def test_a_run_goes_on_with_what_the_source_saw_and_without_the_source(
    saves: int, tiny_run: TinyRun, azure: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = read_split(find_layout(azure), "train")
    asked = seen(monkeypatch, [(image.id, 3, [8, 8, 20, 20], 0.3 + 0.1 * i) for i, image in enumerate(train.images)])
    settings = run_settings(tiny_run)
    visionkit.finetune(azure, out=tmp_path / "whole", **settings)
    left = saves

    def listen(event: Event) -> None:
        nonlocal left
        left -= isinstance(event, Saved)
        if isinstance(event, Saved) and not left:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        visionkit.finetune(azure, out=tmp_path / "run", listen=listen, **settings)
    assert len(asked) == 2
    visionkit.finetune(resume=tmp_path / "run")
    assert len(asked) == 2
    for name in ("last.safetensors", "metrics.csv"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    saved = load_state(tmp_path / "run" / "state.pt")["kept_classes"]
    assert len(saved["sure"]) > 4


def test_what_is_seen_changes_what_is_learnt(
    tiny_run: TinyRun, azure: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = read_split(find_layout(azure), "train")
    weights = []
    for name, score in (("nothing", 0.0), ("suspected", 0.3), ("sure", 0.9)):
        seen(monkeypatch, [(image.id, 3, [0, 0, 64, 48], score) for image in train.images])
        result = visionkit.finetune(azure, out=tmp_path / name, **run_settings(tiny_run))
        assert result is not None
        weights.append(result.last.read_bytes())
    assert len(set(weights)) == 3


# What is refused ------------------------------------------------------------------------------------------------------


def refusal(data: Path, **settings: Any) -> str:
    with pytest.raises(VisionkitError) as error:
        visionkit.finetune(data, dry_run=True, keep_classes=True, **settings)
    assert isinstance(error.value, UsageError)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_without_classes_to_keep_it_is_refused(azure: Path) -> None:
    assert refusal(azure, **tiny_settings()) == (
        "--keep-classes keeps the classes of trained weights, these are random; give some by --weights FILE"
    )


def test_models_that_cannot_keep_classes_refuse_it(tiny_run: TinyRun, azure: Path) -> None:
    settings = {**tiny_settings(), "weights": tiny_run.result.best}
    assert refusal(azure, **settings, model="retinanet") == (
        f"--keep-classes keeps the classes of a model in one of the same kind, {tiny_run.result.best} is a yolo and "
        "this is a retinanet; leave out --model"
    )
    assert refusal(azure, **settings, model="classifier") == (
        "--keep-classes is for detectors that learn step by step, model classifier is none; leave it out"
    )
