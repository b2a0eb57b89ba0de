"""Fast R-CNN learns from the proposals of a folder, and is judged on those of a file: here what Faster R-CNN found."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import visionkit
from tests.tiny import tiny_settings, write_blocks
from visionkit.api.task_data import given_proposals
from visionkit.engine.checkpoint import load_state, save_state
from visionkit.errors import ConfigError, DataError, UsageError
from visionkit.models import searched_regions


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_blocks(tmp_path_factory.mktemp("proposals") / "blocks", {"train": 8, "val": 4})


@pytest.fixture(scope="module")
def proposals(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each object, somewhat displaced, and three boxes where there may be none."""
    folder = tmp_path_factory.mktemp("found")
    for split in ("train", "val"):
        content = json.loads((data / "annotations" / f"{split}.json").read_text())
        rows = [
            {"image_id": row["image_id"], "bbox": [row["bbox"][0] + 2, row["bbox"][1] - 2, *row["bbox"][2:]]}
            for row in content["annotations"]
        ]
        rows += [{"image_id": i["id"], "bbox": [x, 5, 20, 20]} for i in content["images"] for x in (0, 20, 40)]
        (folder / f"{split}.json").write_text(json.dumps(rows))
    return folder


def test_trains_and_evaluates(data: Path, proposals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = tiny_settings(epochs=2, augment={"mosaic": 0.5, "affine": 0.5, "degrees": 5, "mixup": 0.2})
    result = visionkit.finetune(
        data=data, model="fast-rcnn", out=tmp_path / "run", set=[f"proposals={proposals}"], **settings
    )
    fed, found = proposals / "val.json", tmp_path / "found.json"
    scores = visionkit.evaluate(result.best, data, proposals=fed, workers=0, save_predictions=found)
    assert result.scores["AP"] == scores.AP is not None
    assert visionkit.evaluate(result.best, data, proposals=proposals, workers=0).AP == scores.AP  # of a file each split
    with pytest.raises(DataError, match=r"must have test\.json or test\.npz, it has neither"):
        given_proposals(proposals, "test")
    # Proposals of nothing but one corner: nothing is found there.
    rows = [{"image_id": 5, "bbox": [0, 0, 2, 2]}]
    (tmp_path / "corner.json").write_text(json.dumps(rows))
    poor = visionkit.evaluate(result.best, data, proposals=tmp_path / "corner.json", workers=0)
    assert poor.AR100 is not None
    assert poor.AR100 < 0.1
    # Of a picture that no one searched before, selective search does.
    monkeypatch.setattr(searched_regions, "selective_search", lambda pixels, most: np.float32([[0, 0, 30, 30]]))
    (seen,) = visionkit.load(result.best, device="cpu").detect(data / "images" / "val_0.png", conf=0.0)
    assert len(seen) > 0
    # Compared on the proposals that are named, a run on those that it was trained on.
    for side, given in ((result.best, fed), (result.folder, None)):
        same = visionkit.compare(side, found, data=data, proposals=given)
        assert same.AP.a == same.AP.b == pytest.approx(scores.AP)
    with pytest.raises(UsageError, match=r"model fast-rcnn needs proposals of each image; finetune takes a folder"):
        visionkit.compare(result.best, found, data=data)
    with pytest.raises(UsageError, match=r"--proposals is for models, and both are results files; leave it out"):
        visionkit.compare(found, found, data=data, proposals=fed)


def test_a_run_goes_on_with_its_own_proposals_alone(
    data: Path, proposals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, run = shutil.copytree(proposals, tmp_path / "own"), tmp_path / "run"
    monkeypatch.chdir(tmp_path)
    visionkit.finetune(data=data, model="fast-rcnn", out=run, set=["proposals=own"], **tiny_settings(1, imgsz=32))
    monkeypatch.chdir(data)  # they are found from elsewhere
    for split in ("train", "val"):
        file = own / f"{split}.json"
        before = file.read_text()
        file.write_text(before.replace("[0, 5, 20, 20]", "[0, 5, 20, 21]", 1))
        with pytest.raises(DataError) as error:
            visionkit.finetune(resume=run)
        assert str(error.value) == (
            f"the proposals in {own} are not those this run began with, and it would end elsewhere; "
            "restore them, or start a new run"
        )
        file.write_text(before)
    # A run of a version that kept no hash of them goes on with those that are there.
    state = load_state(run / "state.pt")
    assert state.pop("proposals_sha256")
    save_state(run / "state.pt", state)
    (own / "val.json").write_text(before.replace("[0, 5, 20, 20]", "[0, 5, 20, 21]", 1))
    assert visionkit.finetune(resume=run) is not None


def test_where_proposals_are_missing_or_of_no_use(data: Path, proposals: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(UsageError, match=r"model fast-rcnn needs proposals of each image; finetune takes a folder"):
        visionkit.finetune(data=data, model="fast-rcnn", out=out, **tiny_settings(epochs=1))
    with pytest.raises(UsageError, match=r"model yolo makes what it needs itself and takes no proposals; leave them"):
        visionkit.finetune(data=data, model="yolo", set=[f"proposals={proposals}"], out=out, **tiny_settings(epochs=1))
    with pytest.raises(DataError, match=r"must have train.json or train.npz, it has neither; put one there"):
        visionkit.finetune(
            data=data, model="fast-rcnn", set=[f"proposals={tmp_path}"], out=out, **tiny_settings(epochs=1)
        )
    settings = tiny_settings(epochs=1, augment={"copy_paste": 0.5})
    with pytest.raises(ConfigError, match=r"augment.copy_paste puts objects where model fast-rcnn has no proposals"):
        visionkit.finetune(data=data, model="fast-rcnn", set=[f"proposals={proposals}"], out=out, **settings)
    assert not out.exists()
