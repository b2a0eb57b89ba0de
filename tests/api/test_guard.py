"""`--guard`: AP of each old class before and after a run, told, written, and the same however the run was stopped."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import TinyRun, learnt_in_tiles, tiny_settings

import visionkit
from visionkit.api.guard import Forgetting, class_aps
from visionkit.build import load_model
from visionkit.choices import Choices
from visionkit.engine.events import Event, ImagesDone, Saved
from visionkit.errors import DataError, UsageError, VisionkitError
from visionkit.formats.layout import find_layout, read_split

GUARD = "annotations/val.json"


def settings(tiny_run: TinyRun, **others: Any) -> dict[str, Any]:
    return {**tiny_settings(epochs=1), "weights": tiny_run.result.best, **others}


def refusal(kind: type[VisionkitError], *arguments: Any, **options: Any) -> str:
    with pytest.raises(kind) as error:
        visionkit.finetune(*arguments, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


# The table ------------------------------------------------------------------------------------------------------------


def test_the_table_has_a_row_a_class_and_their_mean() -> None:
    found = Forgetting("old.json", 1, {"cat": (0.5, 0.25), "zebra": (None, None), "ox": (0.25, None)})
    # (0.5 + 0.25) / 2 before; ox is not known any more and counts 0: 0.25 / 2 after.
    assert found.mean == (0.375, 0.125)
    assert found.lines() == [
        "Old classes on old.json, 1 image: AP before, after",
        "  cat    0.5000  0.2500  -0.2500",
        "  zebra     n/a     n/a",
        "  ox     0.2500     n/a",
        "  mean   0.3750  0.1250  -0.2500",
    ]
    assert found.to_json()["classes"]["ox"] == {"before": 0.25, "after": None}
    assert Forgetting("old.json", 1, {"cat": (None, None)}).mean == (None, None)


# A run ----------------------------------------------------------------------------------------------------------------


def test_before_and_after_are_what_evaluate_says(
    tiny_run: TinyRun, tiny_data: Path, other_data: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    result = visionkit.finetune(
        other_data,
        keep_classes=True,
        guard=tiny_data / GUARD,
        out=tmp_path / "run",
        say=said.append,
        **settings(tiny_run),
    )
    assert result is not None
    assert result.forgotten is not None
    before = visionkit.evaluate(tiny_run.result.best, tiny_data, device="cpu", threads=1).per_class  # type: ignore[union-attr]
    after = visionkit.evaluate(result.best, tiny_data, device="cpu", threads=1).per_class  # type: ignore[union-attr]
    assert result.forgotten.classes == {name: (before[name].AP, after[name].AP) for name in before}
    assert result.forgotten.images == 4
    lines = result.forgotten.lines()
    assert said[-len(lines) :] == lines
    assert lines[-1] in (tmp_path / "run" / "log.txt").read_text()
    content = json.loads((tmp_path / "run" / "guard.json").read_text())
    assert content == result.forgotten.to_json() == result.to_json()["forgotten"]
    assert content["data"] == str(tiny_data / GUARD)
    assert content["classes"]["red block"]["before"] == before["red block"].AP


def test_weights_that_learnt_from_tiles_are_judged_in_them(tiny_run: TinyRun, tiny_data: Path, tmp_path: Path) -> None:
    tiled = learnt_in_tiles(tiny_run.result.best, tmp_path / "tiled.safetensors")
    truth, done = read_split(find_layout(tiny_data), "val"), list[Event]()
    config = Choices().config()
    found = class_aps(load_model(tiled), truth, config, torch.device("cpu"), done.append)
    in_tiles, whole = (
        visionkit.evaluate(tiled, tiny_data, tile=tile, device="cpu", threads=1).per_class  # type: ignore[union-attr]
        for tile in (None, 0)
    )
    assert found == {name: scores.AP for name, scores in in_tiles.items()}
    assert found != {name: scores.AP for name, scores in whole.items()}
    assert done[-1] == ImagesDone("judging old classes", 4, 4)


def test_without_keeping_them_old_classes_are_gone_and_the_table_says_so(
    tiny_run: TinyRun, tiny_data: Path, other_data: Path, tmp_path: Path
) -> None:
    # A dataset is guarded by its val split.
    result = visionkit.finetune(other_data, guard=tiny_data, out=tmp_path / "run", **settings(tiny_run))
    assert result is not None
    assert result.forgotten is not None
    assert {after for _, after in result.forgotten.classes.values()} == {None}
    assert result.forgotten.mean[1] == 0.0


def test_images_may_lie_beside_the_file_or_in_images(
    tiny_run: TinyRun, tiny_data: Path, other_data: Path, tmp_path: Path
) -> None:
    flat = tmp_path / "flat"
    shutil.copytree(tiny_data / "images", flat)
    shutil.copy(tiny_data / GUARD, flat / "old.json")
    said: list[str] = []
    visionkit.finetune(other_data, guard=flat / "old.json", dry_run=True, say=said.append, **settings(tiny_run))
    alone = tmp_path / "old.json"
    shutil.copy(tiny_data / GUARD, alone)
    assert refusal(DataError, other_data, guard=alone, dry_run=True, **settings(tiny_run)) == (
        f"--guard {alone} names image 'val_0.png', which is in none of {tmp_path}, {tmp_path / 'images'}, "
        f"{tmp_path.parent / 'images'}; put the images there"
    )


@pytest.mark.parametrize("saves", [1, 2])
def test_a_run_that_goes_on_has_the_same_table(
    saves: int, tiny_run: TinyRun, tiny_data: Path, other_data: Path, tmp_path: Path
) -> None:
    left, run = saves, tmp_path / "run"
    options = settings(tiny_run, guard=tiny_data / GUARD, keep_classes=True)
    weights = tmp_path / "weights.safetensors"
    shutil.copy(tiny_run.result.best, weights)

    def listen(event: Event) -> None:
        nonlocal left
        left -= isinstance(event, Saved)
        if isinstance(event, Saved) and not left:
            raise KeyboardInterrupt

    whole = visionkit.finetune(other_data, out=tmp_path / "whole", **options)
    with pytest.raises(KeyboardInterrupt):
        visionkit.finetune(other_data, out=run, listen=listen, **{**options, "weights": weights})
    weights.unlink()
    result = visionkit.finetune(resume=run)
    assert whole is not None
    assert result is not None
    assert result.forgotten == whole.forgotten
    assert (run / "guard.json").read_bytes() == (tmp_path / "whole" / "guard.json").read_bytes()


# What is refused ------------------------------------------------------------------------------------------------------


def test_changed_annotations_are_refused(tiny_run: TinyRun, tiny_data: Path, other_data: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    shutil.copytree(tiny_data, old)
    run = tmp_path / "run"
    visionkit.finetune(other_data, guard=old / GUARD, out=run, **settings(tiny_run))
    content = json.loads((old / GUARD).read_text())
    content["annotations"][0]["bbox"][0] += 1
    (old / GUARD).write_text(json.dumps(content))
    assert refusal(DataError, resume=run) == (
        f"the annotations of --guard {old / GUARD} are not those this run began with, and its table would compare two "
        "things; restore them"
    )


def test_weights_that_know_no_class_of_it_are_refused(tiny_run: TinyRun, tiny_data: Path, other_data: Path) -> None:
    message = refusal(UsageError, tiny_data, guard=other_data, dry_run=True, **settings(tiny_run))
    assert message == (
        f"--guard {other_data} has no class that {tiny_run.result.best} knows (red block, blue block); name data that "
        "the weights were trained for"
    )
    random = refusal(UsageError, tiny_data, guard=tiny_data, dry_run=True, **tiny_settings())
    assert random == (
        "--guard judges what a detector forgets, and these weights are of none; give a detector's by --weights FILE, "
        "or leave --guard out"
    )
