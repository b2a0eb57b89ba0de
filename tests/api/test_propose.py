"""Proposals of a dataset as files: what is written, how good it is said to be, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import CommandLine

import visionkit
from tests.tiny import tiny_settings
from visionkit.errors import DataError, UsageError
from visionkit.formats.layout import find_layout, read_split
from visionkit.formats.proposals import read_proposals
from visionkit.imaging.reader import read_image
from visionkit.proposals.selective_search import selective_search


@pytest.fixture(scope="module", autouse=True)
def _library() -> None:
    pytest.importorskip("skimage", reason="scikit-image is not installed: pip install 'visionkit[rcnn]'")


def test_files_hold_what_selective_search_finds_best_first(tiny_data: Path, tmp_path: Path) -> None:
    done = visionkit.propose(tiny_data, tmp_path / "found", most=50)
    assert sorted(path.name for path in (tmp_path / "found").iterdir()) == ["test.npz", "train.npz", "val.npz"]
    images = read_split(find_layout(tiny_data), "val")
    boxes = read_proposals(done.splits["val"].file, images)
    for record in images.images:
        assert record.path is not None
        corners = selective_search(read_image(record.path), most=50)
        found = boxes[record.id]
        assert np.array_equal(np.concatenate((found[:, :2], found[:, :2] + found[:, 2:]), axis=1), corners)
    val = done.splits["val"]
    assert (val.images, val.proposals) == (4, sum(map(len, boxes.values())))


def test_blocks_on_noise_are_found_and_that_is_said(tiny_data: Path, tmp_path: Path) -> None:
    train = visionkit.propose(tiny_data, tmp_path, splits=["train"]).splits["train"]
    assert train.recall50 == 1
    assert train.recall70 is not None
    assert train.mean_best_overlap is not None
    assert train.recall70 > 0.9
    assert 0.8 < train.mean_best_overlap <= 1
    assert train.seconds > 0


def test_fast_rcnn_learns_from_them(tiny_data: Path, tmp_path: Path) -> None:
    visionkit.propose(tiny_data, tmp_path / "found", most=30, splits=["train", "val"])
    result = visionkit.finetune(
        tiny_data,
        model="fast-rcnn",
        out=tmp_path / "run",
        set=[f"proposals={tmp_path / 'found'}"],
        **tiny_settings(epochs=1),
    )
    assert result is not None
    assert result.scores["AP"] is not None


def test_from_the_command_line(tiny_data: Path, command_line: CommandLine, tmp_path: Path) -> None:
    found = tmp_path / "found"
    done = command_line("propose", tiny_data, found, "--split", "val", "--format=json", "--most=40", "--mode=single")
    assert done.code == 0, done.stderr
    assert done.stdout.startswith("val: ")
    assert "of the objects 1.0000 found at IoU 0.5" in done.stdout
    rows = json.loads((found / "val.json").read_text())
    assert set(rows[0]) == {"image_id", "bbox"}
    assert len(rows) <= 4 * 40
    again = command_line("propose", tiny_data, found, "--split", "val")
    assert again.code == 2
    assert again.error == f"{found / 'val.json'} exists and nothing is overwritten; give another folder"
    as_json = command_line("propose", tiny_data, tmp_path / "other", "--split", "val", "--json").json
    assert (as_json["mode"], as_json["left_out"], list(as_json["splits"])) == ("fast", 0, ["val"])
    assert as_json["splits"]["val"]["recall50"] == 1


def test_what_is_refused(tiny_data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown mode 'slow'; choose single, fast, quality"):
        visionkit.propose(tiny_data, tmp_path / "a", mode="slow")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"most must be at least 1 proposal an image, got 0; use 2000"):
        visionkit.propose(tiny_data, tmp_path / "a", most=0)
    with pytest.raises(UsageError, match=r"unknown format 'csv' of proposals; choose npz or json"):
        visionkit.propose(tiny_data, tmp_path / "a", format="csv")  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"has no split 'dev'; it has train, val, test"):
        visionkit.propose(tiny_data, tmp_path / "a", splits=["dev"])
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"file cannot be made a folder \(File exists\); give another"):
        visionkit.propose(tiny_data, tmp_path / "file", splits=["val"])
    assert not (tmp_path / "a").exists()
